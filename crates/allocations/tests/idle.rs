//! Connections that wait: a thousand on one loop of select's adapter by epoll, by poll, and on one runtime of tokio's.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use amqp_core::{ConnectionHandle, ConnectionParameters, IoLoop, LoopHandle, Result};
use pooka_select::{PollerKind, SelectLoop};
use pooka_testkit::RabbitNode;
use pooka_tokio::TokioConnection;
use std::{
    fs,
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};
use tokio::{runtime::Builder, time::sleep};

const CONNECTIONS: usize = 1000;
/// Connections of one loop that are being opened at a time.
const AT_ONCE: usize = 20;
/// More than the second of quiet after which large buffers are given back.
const QUIET: Duration = Duration::from_secs(3);
const HOLD: Duration = Duration::from_secs(60);
/// Seconds; no connection lives through the minute without them.
const HEARTBEAT: u16 = 5;
const LIMIT: usize = 16 * 1024;

/// Where a row waits for the others: before anything is open, when everything is open and quiet, and after the minute.
/// One that fails ends the others.
struct Meeting {
    here: Sender<()>,
    go: Receiver<()>,
}

impl Meeting {
    fn wait(&self) {
        self.here.send(()).unwrap();
        self.go.recv().unwrap();
    }
}

/// The other side of the meeting.
struct Running<'scope> {
    name: &'static str,
    here: Receiver<()>,
    go: Sender<()>,
    row: ScopedJoinHandle<'scope, usize>,
}

/// What a row holds on its heap for each connection, in octets.
type Row = fn(&ConnectionParameters, &Meeting) -> usize;

#[derive(Default)]
struct App {
    open: Vec<ConnectionHandle<Self>>,
    lost: Vec<String>,
}

fn connect(ioloop: &LoopHandle<App>, parameters: &ConnectionParameters) {
    let next = parameters.clone();
    let on_open = move |app: &mut App, connection: &ConnectionHandle<App>, opened: Result<()>| -> Result<()> {
        opened?;
        assert_eq!(connection.heartbeat(), HEARTBEAT);
        app.open.push(connection.clone());
        let ioloop = connection.ioloop();
        if app.open.len() <= CONNECTIONS - AT_ONCE {
            connect(&ioloop, &next);
        } else if app.open.len() == CONNECTIONS {
            pause(&ioloop, QUIET);
        }
        Ok(())
    };
    let connection = ioloop.connect(parameters.clone()).then(on_open);
    connection.add_on_close_callback(|app: &mut App, _, error| app.lost.push(error.to_string()));
}

fn pause(ioloop: &LoopHandle<App>, after: Duration) {
    let stopped = ioloop.clone();
    ioloop.add_timeout(after, move |_: &mut App| stopped.stop());
}

fn on_one_loop(poller: PollerKind, parameters: &ConnectionParameters, meeting: &Meeting) -> usize {
    let mut app = App::default();
    let mut ioloop = SelectLoop::new(poller).unwrap();
    meeting.wait();
    let counted = allocation_counter::measure(|| {
        (0..AT_ONCE).for_each(|_| connect(&ioloop.handle(), parameters));
        ioloop.start(&mut app).unwrap();
    });
    assert_eq!((app.open.len(), &app.lost[..]), (CONNECTIONS, &[][..]));
    meeting.wait();
    pause(&ioloop.handle(), HOLD);
    ioloop.start(&mut app).unwrap();
    meeting.wait();
    assert_eq!(app.lost, [] as [&str; 0]);
    assert!(app.open.iter().all(ConnectionHandle::is_open));
    app.open.iter().for_each(|connection| connection.close().send().unwrap());
    ioloop.start(&mut app).unwrap();
    assert_eq!(app.lost.len(), CONNECTIONS, "closed by ourselves");
    usize::try_from(counted.bytes_current).unwrap() / CONNECTIONS
}

fn on_one_runtime(parameters: &ConnectionParameters, meeting: &Meeting) -> usize {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut open = vec![];
    meeting.wait();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            while open.len() < CONNECTIONS {
                let connecting: Vec<_> =
                    (0..AT_ONCE).map(|_| tokio::spawn(TokioConnection::connect(parameters.clone()))).collect();
                for connection in connecting {
                    open.push(connection.await.unwrap().unwrap());
                }
            }
            sleep(QUIET).await;
        });
    });
    assert!(open.iter().all(|connection| connection.heartbeat() == HEARTBEAT));
    meeting.wait();
    runtime.block_on(async { sleep(HOLD).await });
    meeting.wait();
    assert!(open.iter().all(ConnectionHandle::is_open));
    runtime.block_on(async {
        for connection in &open {
            connection.close().await.unwrap();
        }
    });
    usize::try_from(counted.bytes_current).unwrap() / CONNECTIONS
}

/// A line of /proc/self/status.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_connections_on_a_loop_stay_for_a_minute_and_weigh_no_more_than_16_kib_each() {
    let rows: [(&str, Row); 3] = [
        ("epoll", |parameters, meeting| on_one_loop(PollerKind::Epoll, parameters, meeting)),
        ("poll", |parameters, meeting| on_one_loop(PollerKind::Poll, parameters, meeting)),
        ("tokio", on_one_runtime),
    ];
    // poll watches a second descriptor of each socket.
    let node = RabbitNode::start_for((CONNECTIONS * (rows.len() + 1)) as u64).unwrap();
    let parameters: ConnectionParameters = node.url().parse().unwrap();
    let parameters = &parameters.into_builder().heartbeat(Some(HEARTBEAT)).build().unwrap();
    thread::scope(|scope| {
        let running = rows.map(|(name, row)| {
            let ((tell, here), (go, wait)) = (mpsc::channel(), mpsc::channel());
            let row = scope.spawn(move || row(parameters, &Meeting { here: tell, go: wait }));
            Running { name, here, go, row }
        });
        let all_here = || running.iter().for_each(|row| row.here.recv().expect("a row has failed"));
        let go_on = || running.iter().for_each(|row| row.go.send(()).expect("a row has failed"));
        all_here();
        let (threads, before) = (status("Threads:"), status("VmRSS:"));
        go_on();
        all_here();
        let resident = (status("VmRSS:") - before) * 1024 / (CONNECTIONS * running.len());
        assert_eq!(status("Threads:"), threads, "a connection has no thread");
        let begun = Instant::now();
        go_on();
        all_here();
        assert!(begun.elapsed() >= HOLD);
        assert_eq!(status("Threads:"), threads);
        go_on();
        for Running { name, row, .. } in running {
            let heap = row.join().unwrap();
            println!("{name}: {heap} octets of heap for a connection");
            assert!(heap <= LIMIT, "{name}: {heap} octets for a connection");
        }
        println!("together: {resident} octets of resident memory for a connection");
        assert!(resident <= LIMIT, "{resident} octets of resident memory for a connection");
    });
}
