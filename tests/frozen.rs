//! A program that is stopped for a while (by Ctrl-Z, a debugger, a container that is frozen), on every adapter.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/forms.rs"]
mod forms;
#[path = "support/peer.rs"]
mod peer;
#[allow(dead_code, reason = "there is no broker here, and no task beside the body")]
#[path = "support/rows.rs"]
mod rows;

use peer::Peer;
use pooka::{ConnectionParameters, MioConnection, SelectConnection, spec::queue};
use rows::{Row, soon};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env, fs,
    net::TcpListener,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

macro_rules! rows {
    ($($module:ident: $Row:ty;)*) => { $(
        mod $module {
            #[allow(unused_imports, reason = "some adapters have forms of ours")]
            use super::*;

            #[test]
            fn what_waited_in_the_socket_is_read_before_it_is_called_late() {
                let name = concat!(stringify!($module), "::what_waited_in_the_socket_is_read_before_it_is_called_late");
                match env::var(PORT) {
                    Ok(port) => program::<$Row>(port.parse().unwrap()),
                    Err(_) => stopped(name),
                }
            }
        }
    )* };
}

rows! {
    by_select: rows::OnItsThread<forms::BySelect<()>>;
    by_poll: rows::OnItsThread<forms::ByPoll<()>>;
    by_epoll_or_kqueue: rows::OnItsThread<SelectConnection>;
    mio: rows::OnItsThread<MioConnection>;
    tokio_current_thread: rows::OnTokio<0>;
    tokio_multi_thread: rows::OnTokio<2>;
    on_smol: rows::OnSmol;
    blocking: rows::OnBlocking<0>;
}

/// Where the peer of a test that runs itself as the program is.
const PORT: &str = "POOKA_FROZEN_PORT";
/// Of heartbeats, and the time that a reply has.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longer than any silence or reply may take.
const STOPPED: Duration = Duration::from_millis(3500);

/// What is stopped.
fn program<R: Row>(port: u16) {
    let parameters = ConnectionParameters::builder().host("127.0.0.1").port(port);
    let parameters = parameters.heartbeat(Some(1)).rpc_timeout(Some(INTERVAL)).build().unwrap();
    R::run(parameters, |link| async {
        let connection = link.open().await;
        let channel = soon("channel.open", connection.channel()).await.unwrap();
        // Its answer comes while the program is stopped.
        soon("queue.declare", channel.queue_declare("frozen")).await.unwrap();
        soon("queue.purge", channel.queue_purge("frozen")).await.unwrap();
        soon("connection.close", connection.close()).await.unwrap();
    });
}

/// Trial T8: the peer has sent heartbeats and a reply in time, which are in the socket when the program goes on.
fn stopped(name: &str) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let program = Command::new(env::current_exe().unwrap()).args([name, "--exact"]).env(PORT, port).spawn().unwrap();
    let mut program = Program(program);
    let mut peer = Peer::accept(&listener, 1);
    let (channel, declare) = peer.serve().unwrap();
    assert_eq!(declare.name(), "queue.declare");
    program.stop();
    let begun = Instant::now();
    peer.say(channel, queue::DeclareOk { queue: "frozen".into(), message_count: 0, consumer_count: 0 });
    while begun.elapsed() < STOPPED {
        peer.beat();
        thread::sleep(INTERVAL / 4);
    }
    program.go_on();
    let (channel, purge) = peer.serve().expect("the connection lives");
    assert_eq!(purge.name(), "queue.purge");
    peer.say(channel, queue::PurgeOk::default());
    assert_eq!(peer.serve(), None);
    assert!(program.0.wait().unwrap().success());
}

struct Program(Child);

impl Program {
    fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.0.id());
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            thread::yield_now();
        }
    }

    fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
