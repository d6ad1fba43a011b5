//! Examples as programs: what they print, and how they end.

use pooka_testkit::broker_url;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// Where the examples are. Without `--test` cargo has built them already, with it none or old ones.
static EXAMPLES: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap().replace("debug", "dev");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "--workspace", "--all-features", "--examples", "--profile", &profile, "--target-dir"]);
    assert!(cargo.arg(folder.parent().unwrap()).status().unwrap().success());
    folder.join("examples")
});

/// An example, to be run with a broker.
fn command(example: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(EXAMPLES.join(example));
    command.args(arguments).env("AMQP_URL", broker_url().unwrap());
    command
}

/// What an example prints.
pub(crate) fn output(example: &str, arguments: &[&str]) -> String {
    let output = command(example, arguments).output().unwrap();
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An example that runs until it is told to end.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Self {
        let mut child = command(example, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, heard) = mpsc::channel();
        thread::spawn(move || lines.try_for_each(|line| said.send(line.unwrap())));
        Self { child, lines: heard }
    }

    /// The next line that it prints, which is not long in coming; `None` if it has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        }
    }

    pub(crate) fn lines(&self, number: usize) -> Vec<String> {
        (0..number).map(|_| self.line().unwrap()).collect()
    }

    /// What it still says before it ends well.
    pub(crate) fn end(mut self) -> Vec<String> {
        let lines = std::iter::from_fn(|| self.line()).collect();
        assert!(self.child.wait().unwrap().success());
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
