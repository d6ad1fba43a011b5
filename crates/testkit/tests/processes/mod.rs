//! Which processes belong to a folder: those that name it in their arguments or environment, as everything below a node does.

use rustix::process::Pid;
use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// A process of `/proc`.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) name: String,
}

/// The processes that name `folder`; dead ones that nobody has waited for do not count.
pub(crate) fn mentioning(folder: &Path) -> Vec<Process> {
    let path = folder.as_os_str().as_bytes();
    let mentions = |file: &Path| fs::read(file).is_ok_and(|octets| octets.windows(path.len()).any(|part| part == path));
    let is_ours = |process: &Path| mentions(&process.join("cmdline")) || mentions(&process.join("environ"));
    fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|process| is_ours(process))
        .filter_map(|process| {
            let pid = process.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            Some(Process { pid, name: name.trim().to_owned() })
        })
        .collect()
}

/// Fails when something of `folder` still runs five seconds from now.
pub(crate) fn assert_nothing_left_of(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !mentioning(folder).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", mentioning(folder));
        thread::sleep(Duration::from_millis(20));
    }
}
