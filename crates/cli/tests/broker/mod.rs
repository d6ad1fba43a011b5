//! The command against a real RabbitMQ.

use crate::support::{Ended, pooka, pooka_with};
use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Every way to serve a connection, where a test is about that.
pub(crate) const ADAPTERS: [&str; 6] = ["select", "mio", "tokio", "tokio-mt", "smol", "blocking"];

/// A queue that this test alone uses, until it is dropped.
pub(crate) struct Queue(String);

impl Queue {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pooka.cli.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let queue = Self(name);
        broker(&["declare", "-q", &queue.0]).is(0, "declared queue");
        queue
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        broker(&["delete", "-q", &self.0]);
    }
}

pub(crate) fn broker(arguments: &[&str]) -> Ended {
    pooka(&[&["--url", &pooka_testkit::broker_url().unwrap()], arguments].concat())
}

pub(crate) fn broker_with(arguments: &[&str], stdin: &[u8]) -> Ended {
    pooka_with(&[&["--url", &pooka_testkit::broker_url().unwrap()], arguments].concat(), stdin)
}

/// The command while it runs, with a pipe at each end.
pub(crate) fn running(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pooka"))
        .args(["--url", &pooka_testkit::broker_url().unwrap()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
