//! Where the RabbitMQ server is.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// A RabbitMQ with its Erlang: the system's, or a tree of unpacked packages.
#[derive(Debug)]
pub(crate) struct Installation {
    root: PathBuf,
    major: u32,
}

impl Installation {
    /// The tree in the folder `POOKA_RABBITMQ_ROOT`, or the system when that is empty or unset.
    pub(crate) fn find() -> io::Result<Self> {
        let root = env::var_os("POOKA_RABBITMQ_ROOT").filter(|root| !root.is_empty());
        Self::at(Path::new(root.as_deref().unwrap_or(OsStr::new("/"))))
    }

    fn at(root: &Path) -> io::Result<Self> {
        let found = Self { root: root.to_owned(), major: major(root).unwrap_or_default() };
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

    /// The first number of RabbitMQ's version; 0 where its folders do not tell it.
    pub(crate) fn major(&self) -> u32 {
        self.major
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

/// Packages have one folder `rabbitmq_server-VERSION`.
fn major(root: &Path) -> Option<u32> {
    fs::read_dir(root.join("usr/lib/rabbitmq/lib")).ok()?.find_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("rabbitmq_server-")?.split('.').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn a_missing_server_is_an_error_that_says_what_to_do() {
        let error = Installation::at(Path::new("/no/such/folder")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such/folder/usr/lib/rabbitmq"), "{error}");
        assert!(error.to_string().contains("POOKA_RABBITMQ_ROOT"), "{error}");
    }

    #[test]
    fn the_version_is_that_of_the_server_in_the_folder() {
        let root = Folder::create().unwrap();
        let rabbitmq = root.path().join("usr/lib/rabbitmq");
        assert!(Installation::at(root.path()).is_err());
        fs::create_dir_all(rabbitmq.join("lib/rabbitmq_server-4.0.5")).unwrap();
        fs::create_dir_all(rabbitmq.join("bin")).unwrap();
        fs::write(rabbitmq.join("bin/rabbitmq-server"), "").unwrap();
        assert_eq!(Installation::at(root.path()).unwrap().major(), 4);
        fs::remove_dir(rabbitmq.join("lib/rabbitmq_server-4.0.5")).unwrap();
        assert_eq!(Installation::at(root.path()).unwrap().major(), 0);
    }
}
