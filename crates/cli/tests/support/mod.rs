//! Runs the command.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// With this exit code, and with these words in its one line.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, words: &str) -> &Self {
        let told = String::from_utf8_lossy(&self.stderr);
        assert_eq!(self.code, code, "{told}");
        assert!(told.contains(words), "{told:?} does not say {words:?}");
        if code != 2 {
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        self
    }
}

pub(crate) fn pooka(arguments: &[&str]) -> Ended {
    pooka_with(arguments, b"")
}

pub(crate) fn pooka_with(arguments: &[&str], stdin: &[u8]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pooka"))
        .args(arguments)
        .env_remove("AMQP_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // A command that does not read all of it closes the pipe.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ended { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: output.stderr }
}
