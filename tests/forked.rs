//! A process that forks, and whose child has a connection of its own: pre-forking servers, Python's way to use many cores.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use pooka::{BlockingConnection, ConnectionParameters, Result};
use pooka_testkit::broker_url;
use std::{
    process, thread,
    time::{Duration, Instant},
};

/// Seconds.
const HEARTBEAT: u16 = 1;
/// A broker is silent about a client's silence for two intervals and a bit.
const COMPUTING: Duration = Duration::from_secs(4);

fn open() -> Result<BlockingConnection> {
    let parameters: ConnectionParameters = broker_url().unwrap().parse()?;
    BlockingConnection::open(parameters.into_builder().heartbeat(Some(HEARTBEAT)).build()?)
}

/// Computes; time itself is what this is about.
fn compute() {
    let begun = Instant::now();
    while begun.elapsed() < COMPUTING {
        thread::park_timeout(COMPUTING);
    }
}

/// A connection that is left alone, and used again.
fn lives(connection: &BlockingConnection) -> Result<()> {
    compute();
    connection.channel().call()?.queue_declare("").call()?;
    Ok(())
}

/// Runs this in a child process, whose exit code it is.
#[allow(unsafe_code, reason = "the system call that the test is about")]
fn forked(child: impl FnOnce() -> i32) -> nix::unistd::Pid {
    // SAFETY: this test's thread is the only one that can hold a lock of std's or of the allocator's that the child needs:
    // the harness waits for it, and the keeper sleeps between heartbeats.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => process::exit(child()),
        ForkResult::Parent { child } => child,
    }
}

/// Trial T30: the keeper's thread stays with the parent, so the child needs one of its own, and so does the child's child.
#[test]
fn a_forked_child_keeps_a_connection_of_its_own() {
    let connection = open().unwrap();
    let report = |result: Result<()>| match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", process::id());
            1
        }
    };
    let child = forked(|| {
        report(open().and_then(|connection| {
            let grandchild = forked(|| report(open().and_then(|connection| lives(&connection))));
            lives(&connection)?;
            assert_eq!(waitpid(grandchild, None).unwrap(), WaitStatus::Exited(grandchild, 0));
            Ok(())
        }))
    });
    lives(&connection).unwrap();
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    connection.close().call().unwrap();
}
