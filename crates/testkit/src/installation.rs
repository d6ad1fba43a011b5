//! Where the RabbitMQ server is.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// A RabbitMQ with its Erlang: the system's, or a tree of unpacked packages.
#[derive(Debug)]
pub(crate) struct Installation {
    root: PathBuf,
}

impl Installation {
    /// The tree in the folder `POOKA_RABBITMQ_ROOT`, or the system when that is empty or unset.
    pub(crate) fn find() -> io::Result<Self> {
        let root = env::var_os("POOKA_RABBITMQ_ROOT").filter(|root| !root.is_empty());
        Self::at(Path::new(root.as_deref().unwrap_or(OsStr::new("/"))))
    }

    fn at(root: &Path) -> io::Result<Self> {
        let found = Self { root: root.to_owned() };
        if found.server().exists() {
            return Ok(found);
        }
        let server = found.server();
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "no RabbitMQ at {}: install rabbitmq-server, name a folder with its unpacked packages in \
                 POOKA_RABBITMQ_ROOT, or let ./run find one",
                server.display()
            ),
        ))
    }

    /// The script behind `/usr/sbin/rabbitmq-server`, which insists on being root.
    pub(crate) fn server(&self) -> PathBuf {
        self.root.join("usr/lib/rabbitmq/bin/rabbitmq-server")
    }

    pub(crate) fn rabbitmqctl(&self) -> PathBuf {
        self.root.join("usr/lib/rabbitmq/bin/rabbitmqctl")
    }

    /// A command that finds the Erlang of this installation first.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut path = self.root.join("usr/lib/erlang/bin").into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")));
        let mut command = Command::new(program);
        command.env("PATH", path);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_an_error_that_says_what_to_do() {
        let error = Installation::at(Path::new("/no/such/folder")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such/folder/usr/lib/rabbitmq"), "{error}");
        assert!(error.to_string().contains("POOKA_RABBITMQ_ROOT"), "{error}");
    }
}
