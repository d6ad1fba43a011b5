//! Each poller waits in its own system call and in none of the others'.
//!
//! The kernel itself is asked, in /proc, what the loop's thread is waiting in: no tracer is needed for that, and no right.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use pooka::{
    Channel, Connection, ConnectionHandle, ConnectionParameters, Delivery, IoLoop, PollerKind, Result,
    SelectConnection, spec::queue,
};
use pooka_testkit::{Watchdog, broker_url};
use std::{
    fs,
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

const MESSAGES: u32 = 5000;
const DEADLINE: Duration = Duration::from_secs(60);

/// Which poller a system call belongs to; `None` for the calls that are no poller's.
fn poller_of(syscall: i64) -> Option<PollerKind> {
    let [select, poll, epoll]: [&[i64]; 3] = if cfg!(target_arch = "x86_64") {
        [&[23, 270], &[7, 271], &[232, 281, 441]]
    } else if cfg!(any(target_arch = "aarch64", target_arch = "riscv64")) {
        [&[72], &[73], &[22, 441]]
    } else {
        panic!("add this architecture's numbers of select, poll and epoll_wait here")
    };
    [(select, PollerKind::Select), (poll, PollerKind::Poll), (epoll, PollerKind::Epoll)]
        .into_iter()
        .find_map(|(calls, kind)| calls.contains(&syscall).then_some(kind))
}

/// The poller that a thread waits in at this moment.
fn waits_in(task: &str) -> Option<PollerKind> {
    let path = format!("/proc/{task}/syscall");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; /proc has to be mounted"));
    // "running", or the number of the call and its arguments.
    text.split_whitespace().next().and_then(|number| poller_of(number.parse().ok()?))
}

fn epoll_descriptors() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.as_os_str() == "anon_inode:[eventpoll]").count()
}

struct Consumer {
    consumed: u32,
    idle: Sender<Idle>,
    done: Sender<()>,
}

/// A consumer that waits for its first message.
struct Idle {
    /// The loop's thread, in /proc.
    task: String,
    channel: Channel<Consumer>,
    queue: String,
}

impl Consumer {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        connection.channel().send()?.queue_declare("").then(Self::on_declared);
        Ok(())
    }

    fn on_declared(&mut self, channel: &Channel<Self>, declared: Result<queue::DeclareOk>) -> Result<()> {
        let queue = declared?.queue.to_string();
        channel.basic_consume(&queue).on_message(Self::on_message).then(|consumer: &mut Self, channel, consumed| {
            let task = fs::read_link("/proc/thread-self").unwrap().to_str().unwrap().into();
            consumer.idle.send(Idle { task, channel: channel.clone(), queue }).unwrap();
            consumed.map(drop)
        });
        Ok(())
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        self.consumed += 1;
        channel.basic_ack(delivery.delivery_tag)?;
        if self.consumed == MESSAGES {
            self.done.send(()).unwrap();
        }
        Ok(())
    }
}

fn consume(kind: PollerKind, mut consumer: Consumer) {
    let parameters: ConnectionParameters = broker_url().unwrap().parse().unwrap();
    let mut connection = SelectConnection::open_with(kind, parameters, Consumer::on_open).unwrap();
    let hangs = |consumer: &mut Consumer| format!("hangs after {} messages", consumer.consumed);
    let _watchdog = Watchdog::new(connection.ioloop().handle(), DEADLINE, hangs);
    connection.ioloop().start(&mut consumer).unwrap();
}

/// D1
#[test]
fn each_poller_waits_in_its_own_call_and_in_no_other() {
    for &kind in PollerKind::available() {
        let begun = Instant::now();
        let ((idle, is_idle), (done, is_done)) = (mpsc::channel(), mpsc::channel());
        let ioloop = thread::spawn(move || consume(kind, Consumer { consumed: 0, idle, done }));
        let Idle { task, channel, queue } = is_idle.recv_timeout(DEADLINE).unwrap();
        let posts = channel.connection().ioloop();

        // Nothing is to be done: it sleeps, and only the kernel knows where.
        let sleeps_in = loop {
            if let Some(sleeps_in) = waits_in(&task) {
                break sleeps_in;
            }
            assert!(begun.elapsed() < DEADLINE, "{kind} does not sleep in a poller");
        };
        assert_eq!(sleeps_in, kind);
        assert_eq!(epoll_descriptors(), usize::from(kind == PollerKind::Epoll), "{kind}");

        // Messages, and wakes from another thread.
        let mut seen = 0;
        for n in 0..MESSAGES {
            let (channel, queue) = (channel.clone(), queue.clone());
            posts.post(move |_: &mut Consumer| channel.basic_publish("", &queue, &n.to_be_bytes()).send());
            let now = waits_in(&task);
            assert!(now.is_none_or(|now| now == kind), "{kind} waits in {now:?}");
            seen += u32::from(now.is_some());
        }
        while is_done.try_recv().is_err() {
            let now = waits_in(&task);
            assert!(now.is_none_or(|now| now == kind), "{kind} waits in {now:?}");
            assert!(begun.elapsed() < DEADLINE, "{kind} has not consumed all messages");
            seen += u32::from(now.is_some());
        }
        assert!(seen > 0, "{kind} was never seen waiting");
        channel.connection().close().send().unwrap();
        ioloop.join().unwrap();
    }
}
