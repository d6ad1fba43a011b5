//! `pooka-broker [-- COMMAND …]`: a private RabbitMQ for as long as COMMAND runs, or until Ctrl-C.
//!
//! COMMAND finds the broker's URL in `AMQP_URL`, and the one for TLS in `AMQPS_URL`; its exit status is ours. Without COMMAND the URL is printed.
#![forbid(unsafe_code)]

use pooka_testkit::{Lifeline, RabbitNode};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
    thread,
};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first != "--") {
        eprintln!("usage: pooka-broker [-- COMMAND ARGS…]");
        return ExitCode::from(2);
    }
    match run(arguments.collect()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("pooka-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Vec<OsString>) -> io::Result<u8> {
    // Until the signals are caught they end us, and the node with us.
    let node = RabbitNode::start()?;
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (pid, folder) = (node.pid().unwrap_or_default(), node.folder().display());
    eprintln!("pooka-broker: {} (pid {pid}, {folder})", node.url());
    eprintln!("pooka-broker: {}", node.tls_url());
    match command.split_first() {
        Some((program, arguments)) => run_command(Command::new(program).args(arguments), &node, signals),
        None => wait_for_signal(&node, signals),
    }
}

fn run_command(command: &mut Command, node: &RabbitNode, mut signals: Signals) -> io::Result<u8> {
    Lifeline::hold()?.give_to(command);
    // What `cargo run` says of this package makes build scripts below it run again.
    for variable in env::vars_os().map(|(name, _)| name) {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    let mut child = command.env("AMQP_URL", node.url()).env("AMQPS_URL", node.tls_url()).spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    thread::spawn(move || {
        for signal in &mut signals {
            // Ctrl-C has reached the command too, and the node must be there while it says goodbye.
            let passed_on = match signal {
                SIGTERM => Signal::TERM,
                SIGHUP => Signal::HUP,
                _ => continue,
            };
            if let Some(pid) = pid {
                // It fails when the command has just ended, which is what was wanted.
                let _ = kill_process(pid, passed_on);
            }
        }
    });
    let status = child.wait()?;
    Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).map_or(1, octet))
}

fn wait_for_signal(node: &RabbitNode, mut signals: Signals) -> io::Result<u8> {
    println!("{}", node.url());
    Ok(signals.forever().next().map_or(0, |signal| octet(128 + signal)))
}

fn octet(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(1)
}
