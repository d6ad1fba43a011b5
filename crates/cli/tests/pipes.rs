//! The command in a pipeline, whose other programs come and go.
#![allow(clippy::unwrap_used)]

mod broker;
mod support;

use broker::{ADAPTERS, Queue, broker, broker_with, running};
use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};
use support::Ended;

/// Trial T35: the reader is gone, and no message comes that would show it.
#[test]
fn a_consumer_ends_with_its_reader_though_nothing_more_comes() {
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker(&["publish", "-r", queue.name(), "-b", "first"]).is(0, "confirmed");
        let mut consume = running(&["--adapter", adapter, "consume", "-q", queue.name(), "--lines"]);
        assert_eq!(read(&mut consume, 6), "first\n", "{adapter}");
        drop(consume.stdout.take());
        ended(consume).is(0, "cannot write to stdout");
        // What was read is settled, and what comes afterwards is not taken.
        broker(&["publish", "-r", queue.name(), "-b", "second"]).is(0, "confirmed");
        assert_eq!(broker(&["get", "-q", queue.name()]).stdout, b"second", "{adapter}");
    }
}

/// Trial T35: the pipe had room for messages that nothing read.
#[test]
fn what_the_reader_left_in_the_pipe_goes_back_to_the_queue() {
    let lines: String = (0..50).map(|n| format!("line {n:02}\n")).collect();
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker_with(&["publish", "-r", queue.name(), "--lines"], lines.as_bytes()).is(0, "published 50");
        let mut consume = running(&["--adapter", adapter, "consume", "-q", queue.name(), "--lines"]);
        assert_eq!(read(&mut consume, 24), "line 00\nline 01\nline 02\n", "{adapter}");
        drop(consume.stdout.take());
        ended(consume).is(0, "what was not read stays in queue");
        broker(&["purge", "-q", queue.name()]).is(0, "dropped 47 messages");
    }
}

/// With a reader that takes its time, more messages come than may be unacknowledged.
#[test]
fn a_slow_reader_gets_everything() {
    let lines: String = (0..50).map(|n| format!("line {n:02}\n")).collect();
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker_with(&["publish", "-r", queue.name(), "--lines"], lines.as_bytes()).is(0, "published 50");
        let mut consume =
            running(&["--adapter", adapter, "consume", "-q", queue.name(), "--lines", "--prefetch", "3", "-c", "50"]);
        let read: String = (0..50).map(|_| read(&mut consume, 8)).collect();
        assert_eq!(read, lines, "{adapter}");
        ended(consume).is(0, "consumed 50 messages");
        broker(&["purge", "-q", queue.name()]).is(0, "dropped 0 messages");
    }
}

/// With the count reached, nothing waits for the reader.
#[test]
fn what_a_live_reader_has_not_read_at_the_end_is_its_own() {
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker(&["publish", "-r", queue.name(), "-b", "x", "--count", "20"]).is(0, "confirmed");
        let mut consume = running(&["--adapter", adapter, "consume", "-q", queue.name(), "-c", "20"]);
        let stdout = consume.stdout.take();
        ended(consume).is(0, "consumed 20 messages");
        broker(&["purge", "-q", queue.name()]).is(0, "dropped 0 messages");
        let mut read = vec![];
        stdout.unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"xxxxxxxxxxxxxxxxxxxx", "{adapter}");
    }
}

#[test]
fn a_closed_stdout_ends_a_consumer_and_its_messages_stay() {
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker(&["publish", "-r", queue.name(), "-b", &"x".repeat(100), "--count", "5000"]).is(0, "confirmed");
        let mut consume = running(&["--adapter", adapter, "consume", "-q", queue.name(), "--lines"]);
        drop(consume.stdout.take());
        ended(consume).is(0, "cannot write to stdout");
        broker(&["purge", "-q", queue.name()]).is(0, "dropped 5000 messages");
    }
}

/// Trial T35: the same for one message.
#[test]
fn a_message_that_cannot_be_written_is_not_got() {
    for adapter in ADAPTERS {
        let queue = Queue::new();
        broker(&["publish", "-r", queue.name(), "-b", "only"]).is(0, "confirmed");
        let mut get = running(&["--adapter", adapter, "get", "-q", queue.name()]);
        drop(get.stdout.take());
        ended(get).is(3, "cannot write to stdout").is(3, "the message stays in queue");
        assert_eq!(broker(&["--adapter", adapter, "get", "-q", queue.name()]).stdout, b"only", "{adapter}");
    }
}

/// Trial T35: a line that cannot be written is no panic.
#[test]
fn a_command_survives_the_readers_of_its_lines() {
    for adapter in ADAPTERS {
        let workload = ["bench", "--workload", "publish-confirm-1", "--messages", "1"];
        let mut bench = running(&[&["--adapter", adapter], &workload[..]].concat());
        drop(bench.stdout.take());
        ended(bench).is(3, "cannot write to stdout");
        let mut ping = running(&["--adapter", adapter, "ping"]);
        drop(ping.stderr.take());
        assert_eq!(ping.wait().unwrap().code(), Some(0), "{adapter}");
    }
}

/// Trial T35: that no queue gets a message is an error, however it is published.
#[test]
fn a_message_for_no_queue_is_refused_unless_that_is_allowed() {
    let missing = ["publish", "-r", "pooka.no.such.queue"];
    for adapter in ADAPTERS {
        let publish =
            |more: &[&str]| broker_with(&[&["--adapter", adapter], &missing[..], more].concat(), b"one\ntwo\n");
        for more in [&["-b", "x"][..], &["-b", "x", "--mandatory"], &["--lines"], &["--no-confirm"]] {
            publish(more).is(4, "312 NO_ROUTE").is(4, "declare the queue");
        }
        publish(&["--lines", "--no-mandatory"]).is(0, "published 2 messages");
        publish(&["--no-confirm", "--no-mandatory"]).is(0, "published 1 message");
    }
}

/// Trial T35: a refusal is told while stdin is still open.
#[test]
fn a_publisher_that_is_refused_does_not_wait_for_stdin() {
    for adapter in ADAPTERS {
        for how in [&["--lines"][..], &["--lines", "--no-confirm"]] {
            let publish = ["--adapter", adapter, "publish", "-r", "pooka.no.such.queue"];
            let mut publish = running(&[&publish[..], how].concat());
            let mut stdin = publish.stdin.take().unwrap();
            stdin.write_all(b"one\n").unwrap();
            ended(publish).is(4, "312 NO_ROUTE");
        }
    }
}

#[test]
fn stdin_that_ends_or_cannot_be_read_is_told_apart() {
    let queue = Queue::new();
    for adapter in ADAPTERS {
        let publish = ["--adapter", adapter, "publish", "-r", queue.name(), "--lines"];
        broker(&publish).is(0, "published 0 messages");
        let folder = std::fs::File::open(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut unreadable = Command::new(env!("CARGO_BIN_EXE_pooka"));
        unreadable.args(["--url", &pooka_testkit::broker_url().unwrap()]).args(publish).stdin(folder);
        ended(unreadable.stderr(Stdio::piped()).spawn().unwrap()).is(2, "cannot read stdin");
    }
}

/// So many octets of stdout, and none more.
fn read(child: &mut Child, octets: usize) -> String {
    let mut read = vec![0; octets];
    child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    String::from_utf8(read).unwrap()
}

/// How it ended by itself; a command that does not is killed, and has no exit code.
fn ended(mut child: Child) -> Ended {
    // Its end, too, would be an end.
    let _stdin = child.stdin.take();
    let pid = child.id().to_string();
    let (done, watched) = channel::<()>();
    let watchdog = thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(20)) == Err(RecvTimeoutError::Timeout) {
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    Ended { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: output.stderr }
}
