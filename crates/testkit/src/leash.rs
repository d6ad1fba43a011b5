//! A process that cannot outlive the one that started it.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A background process that is killed when this is dropped, and when the process that owns this dies.
///
/// Between us and it stands a shell that reads a pipe of which only we hold the other end: whatever ends us, closes it.
/// Both are in a process group of their own, out of the reach of the terminal's Ctrl-C.
#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
    pid: Pid,
}

impl Leash {
    /// Starts `command`, which says its words to the file `log`.
    ///
    /// That the program does not exist is found in the log, not here; it [has ended](Self::has_ended) then.
    pub(crate) fn start(command: &Command, log: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut shell = shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().parse().ok().and_then(Pid::from_raw) {
            Some(pid) => Ok(Self { shell, pid }),
            None => {
                drop(shell.stdin.take());
                shell.wait()?;
                Err(io::Error::other("the shell did not start its command"))
            }
        }
    }

    /// The process itself, not the shell.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends `signal`; does nothing when the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if !self.has_ended()? {
            kill_process(self.pid, signal)?;
        }
        Ok(())
    }

    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.shell.try_wait()?.is_some())
    }
}

impl Drop for Leash {
    /// Returns when the process is gone.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It can only fail when somebody else has waited for our child; then it is gone too.
        let _ = self.shell.wait();
    }
}

/// Starts the command given as arguments, kills it when the pipe closes, tells its pid, and ends when it has ended. The one who
/// kills is there before a word is said: who says something to an owner that is gone does not live on.
const SHELL: &str = r#"
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
{ read -r _ <&3; kill -KILL "$server"; } >&2 &
watcher=$!
echo "$server"
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread};
    use tempfile::tempdir;

    #[test]
    fn a_dropped_leash_kills_its_process() {
        let leash = Leash::start(Command::new("sleep").arg("1000"), Path::new("/dev/null")).unwrap();
        let pid = leash.pid;
        assert!(kill_process(pid, Signal::CONT).is_ok());
        drop(leash);
        assert!(kill_process(pid, Signal::CONT).is_err());
    }

    #[test]
    fn a_stopped_process_is_killed_too() {
        let mut leash = Leash::start(Command::new("sleep").arg("1000"), Path::new("/dev/null")).unwrap();
        let pid = leash.pid;
        leash.signal(Signal::STOP).unwrap();
        drop(leash);
        assert!(kill_process(pid, Signal::CONT).is_err());
    }

    /// The first word of the shell to somebody who is gone ends it.
    #[test]
    fn an_owner_that_dies_before_it_is_told_the_pid_leaves_nothing() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("pid");
        let (nobody, stdout) = io::pipe().unwrap();
        drop(nobody);
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "sh", "sh", "-c", r#"echo $$ >"$1"; exec sleep 1000"#, "sh"]).arg(&file);
        let mut shell = shell.stdin(Stdio::piped()).stdout(stdout).spawn().unwrap();
        let pid = loop {
            let pid = fs::read_to_string(&file).ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
            match pid {
                Some(pid) => break pid,
                None => thread::yield_now(),
            }
        };
        drop(shell.stdin.take());
        shell.wait().unwrap();
        while kill_process(pid, Signal::CONT).is_ok() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_missing_program_ends_and_is_named_in_the_log() {
        let folder = tempdir().unwrap();
        let log = folder.path().join("log");
        let mut leash = Leash::start(&Command::new("no-such-program-anywhere"), &log).unwrap();
        while !leash.has_ended().unwrap() {
            thread::yield_now();
        }
        leash.signal(Signal::TERM).unwrap();
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.contains("no-such-program-anywhere"), "{said}");
    }
}
