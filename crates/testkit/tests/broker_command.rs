//! What `pooka-broker` promises to those who run it: the broker, the command's status, and nothing left behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of it is test")]

mod processes;

use pooka_testkit::answers;
use processes::{assert_nothing_left_of, mentioning};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

#[test]
fn the_command_finds_the_broker_and_its_status_is_passed_on() {
    let place = Place::new("status");
    let output = place.broker(&["--", "sh", "-c", "echo \"$AMQP_URL\"; exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("amqp://guest:guest@127.0.0.1:"), "{said}");
    place.assert_clean();
}

#[test]
fn a_command_that_is_killed_gives_the_status_a_shell_would_give() {
    let place = Place::new("killed");
    let status = place.broker(&["--", "sh", "-c", "kill -KILL $$"]).status().unwrap();
    assert_eq!(status.code(), Some(137));
    place.assert_clean();
}

#[test]
fn ctrl_c_ends_a_broker_without_a_command() {
    let place = Place::new("ctrl-c");
    let (mut broker, port) = place.started(&[]);
    answers(port, "").unwrap();
    kill_process_group(pid(&broker), Signal::INT).unwrap();
    assert_eq!(broker.wait().unwrap().code(), Some(130));
    assert!(answers(port, "").is_err());
    place.assert_clean();
}

#[test]
fn ctrl_c_is_left_to_the_command_and_the_broker_is_there_until_it_ends() {
    let place = Place::new("goodbye");
    let polite = "trap 'echo bye; read -r _; exit 3' INT; echo \"$AMQP_URL\"; while :; do sleep 0.1; done";
    let mut broker = place.broker(&["--", "sh", "-c", polite]);
    let mut broker = broker.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut said = BufReader::new(broker.stdout.take().unwrap()).lines();
    let port = port_of(&said.next().unwrap().unwrap());
    kill_process_group(pid(&broker), Signal::INT).unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "bye");
    answers(port, "").unwrap();
    drop(broker.stdin.take());
    assert_eq!(broker.wait().unwrap().code(), Some(3));
    place.assert_clean();
}

#[test]
fn a_request_to_end_reaches_the_command() {
    let place = Place::new("term");
    let (mut broker, _) = place.started(&["--", "sh", "-c", "echo \"$AMQP_URL\"; exec sleep 1000"]);
    kill_process(pid(&broker), Signal::TERM).unwrap();
    assert_eq!(broker.wait().unwrap().code(), Some(143));
    place.assert_clean();
}

#[test]
fn the_node_dies_with_its_killed_owner() {
    let place = Place::new("sigkill");
    let (mut broker, port) = place.started(&[]);
    kill_process(pid(&broker), Signal::KILL).unwrap();
    broker.wait().unwrap();
    place.assert_clean();
    assert!(answers(port, "").is_err());
}

#[test]
fn a_node_started_below_dies_with_the_killed_ancestor() {
    let place = Place::new("nested");
    let (mut outer, port) = place.started(&["--", "sh", "-c", concat!(env!("CARGO_BIN_EXE_pooka-broker"), "; :")]);
    answers(port, "").unwrap();
    kill_process(pid(&outer), Signal::KILL).unwrap();
    outer.wait().unwrap();
    place.assert_clean();
}

#[test]
fn the_node_dies_with_the_killed_run_script() {
    let place = Place::new("run");
    let mut run = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../run"));
    run.arg("broker").env("POOKA_BROKER_BIN", env!("CARGO_BIN_EXE_pooka-broker"));
    for variable in ["AMQP_URL", "POOKA_BROKER", "POOKA_KEEP"] {
        run.env_remove(variable);
    }
    let (mut run, port) = first_port(run.env("TMPDIR", place.path()));
    answers(port, "").unwrap();
    kill_process(pid(&run), Signal::KILL).unwrap();
    run.wait().unwrap();
    place.assert_clean();
}

#[test]
fn a_signal_during_the_start_leaves_nothing() {
    let place = Place::new("early");
    let mut broker = place.broker(&[]).stdout(Stdio::null()).spawn().unwrap();
    while !mentioning(place.path()).iter().any(|process| process.name == "epmd") {
        assert!(broker.try_wait().unwrap().is_none(), "it ended too early");
    }
    kill_process(pid(&broker), Signal::INT).unwrap();
    assert_eq!(broker.wait().unwrap().code(), None);
    place.assert_clean();
}

#[test]
fn a_server_that_does_not_start_is_quoted_and_leaves_nothing() {
    let place = Place::new("broken");
    let server = place.path().join("root/usr/lib/rabbitmq/bin/rabbitmq-server");
    fs::create_dir_all(server.parent().unwrap()).unwrap();
    fs::write(&server, "#!/bin/sh\necho 'out of carrots'\nexit 1\n").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.broker(&[]).env("POOKA_RABBITMQ_ROOT", place.path().join("root")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("out of carrots"), "{said}");
    place.assert_clean();
}

#[test]
fn a_missing_command_is_an_error_that_names_it() {
    let place = Place::new("missing");
    let output = place.broker(&["--", "no-such-command-anywhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no-such-command-anywhere"));
    place.assert_clean();
}

/// The temporary folder of one test: everything that starts there has it in its environment.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(test: &str) -> Self {
        Self { folder: TempDir::with_prefix_in(format!("broker-{test}-"), env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn broker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pooka-broker"));
        command.args(arguments).env("TMPDIR", self.path()).env_remove("POOKA_KEEP").stdin(Stdio::null());
        command
    }

    fn started(&self, arguments: &[&str]) -> (Child, u16) {
        first_port(&mut self.broker(arguments))
    }

    fn assert_clean(&self) {
        assert_nothing_left_of(self.path());
        let left: Vec<_> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "root"), "{left:?}");
    }
}

impl Drop for Place {
    /// After a failure there may be processes left, which would keep the pipes open that the test runner reads.
    fn drop(&mut self) {
        for process in mentioning(self.path()) {
            let _ = kill_process(process.pid, Signal::KILL);
        }
    }
}

/// Starts a command in a process group of its own, as a shell does, and reads the URL that it prints.
fn first_port(command: &mut Command) -> (Child, u16) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, port_of(&line))
}

fn port_of(url: &str) -> u16 {
    let port = url.trim().strip_prefix("amqp://guest:guest@127.0.0.1:").and_then(|rest| rest.strip_suffix("/%2F"));
    port.unwrap_or_else(|| panic!("no URL: {url:?}")).parse().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap()).unwrap()
}
