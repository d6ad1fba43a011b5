//! A folder below the temporary one, which goes away with its owner.

use std::{
    env,
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A fresh folder that only this user may enter.
///
/// A shell that reads our pipe removes it when this is dropped or this process dies, unless `POOKA_KEEP` is set.
#[derive(Debug)]
pub(crate) struct Folder {
    // Dropped when the remover is done with it.
    folder: TempDir,
    remover: Option<Child>,
}

impl Folder {
    pub(crate) fn create() -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("pooka-").rand_bytes(16).permissions(Permissions::from_mode(0o700));
        let folder = builder.disable_cleanup(is_kept()).tempdir()?;
        let remover = if is_kept() { None } else { Some(remover(folder.path())?) };
        Ok(Self { folder, remover })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The last part of the path, unique among all folders of this kind.
    pub(crate) fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.path().join(file), text)
    }
}

impl Drop for Folder {
    /// Returns when the folder is gone.
    fn drop(&mut self) {
        match &mut self.remover {
            Some(remover) => {
                drop(remover.stdin.take());
                // It can only fail when somebody else has waited for our child.
                let _ = remover.wait();
            }
            None => eprintln!("kept: {}", self.path().display()),
        }
    }
}

fn is_kept() -> bool {
    env::var_os("POOKA_KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0")
}

fn remover(path: &Path) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", REMOVER, "sh"])
        .arg(path)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Removes again and again, because whoever writes there may be dying at this moment.
const REMOVER: &str = r#"
read -r _
for _ in 1 2 3 4; do
    rm -rf "$1" && break
    sleep 1
done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_owners_alone_and_gone_when_it_is_dropped() {
        let folder = Folder::create().unwrap();
        folder.write("file", "text").unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(path.join("file").exists());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn two_folders_have_two_names() {
        assert_ne!(Folder::create().unwrap().name(), Folder::create().unwrap().name());
    }
}
