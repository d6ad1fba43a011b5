//! Messages on their way through stdout: which of them its reader has read, and whether the reader is gone.

use crate::{
    message::{self, Shown},
    options::Format,
};
use pooka::DeliveryTag;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionread, retry_on_intr},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufWriter, Stdout, Write},
    os::fd::AsFd,
    thread,
};

/// Stdout, and the messages that were written to it and wait to be acknowledged.
///
/// What lies in a pipe is lost with its reader, so there a message counts when the reader has taken it out of the pipe. A file
/// or a terminal has read what was written.
pub(crate) struct Output {
    out: BufWriter<Stdout>,
    is_pipe: bool,
    /// Octets, all of them.
    written: u64,
    /// Where a message ends, and its tag; the oldest comes first.
    unread: VecDeque<(u64, DeliveryTag)>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout()), is_pipe: is_pipe(), written: 0, unread: VecDeque::new() }
    }

    /// Writes a message, all of it when this returns. With a tag it waits to be acknowledged.
    pub(crate) fn show(&mut self, format: Format, shown: &Shown<'_>, tag: Option<DeliveryTag>) -> io::Result<()> {
        let before = self.written;
        let written = message::write(self, format, shown);
        match &written {
            Ok(()) => self.unread.extend(tag.map(|tag| (self.written, tag))),
            // What did not get into the pipe has not been read either.
            Err(_) => self.written = before,
        }
        written
    }

    /// Takes the messages that have been read: the tag of the last one stands for all of them.
    pub(crate) fn take_read(&mut self) -> Option<DeliveryTag> {
        if self.unread.is_empty() {
            return None;
        }
        // It may have octets of others in it; then a message counts a little later.
        let in_pipe = if self.is_pipe { ioctl_fionread(io::stdout()).unwrap_or(0) } else { 0 };
        let read = self.written.saturating_sub(in_pipe);
        let count = self.unread.partition_point(|(end, _)| *end <= read);
        self.unread.drain(..count).next_back().map(|(_, tag)| tag)
    }

    /// The same when no more will be written: a reader that is there will read the rest, too.
    pub(crate) fn take_last(&mut self) -> Option<DeliveryTag> {
        if is_closed(Some(&Timespec::default())) {
            return self.take_read();
        }
        self.unread.drain(..).next_back().map(|(_, tag)| tag)
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The error of a write that would come too late: the reader is gone, and has not read everything.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        if self.has_unread() && is_closed(Some(&Timespec::default())) { Err(reader_is_gone()) } else { Ok(()) }
    }
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(octets)?;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Calls `then` on a thread of its own when the reader of stdout is gone. Nothing but a write would show that, and there may be
/// nothing to write.
pub(crate) fn when_closed(then: impl FnOnce() + Send + 'static) {
    thread::spawn(|| {
        if is_closed(None) {
            then();
        }
    });
}

/// What a write says when the reader is gone.
pub(crate) fn reader_is_gone() -> io::Error {
    Errno::PIPE.into()
}

/// Waits until the reader is gone, or for so long.
fn is_closed(timeout: Option<&Timespec>) -> bool {
    let stdout = io::stdout();
    // The end is always reported; room for a write is not asked about.
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = retry_on_intr(|| poll(&mut fds, timeout));
    polled.is_ok_and(|ready| ready > 0)
}

fn is_pipe() -> bool {
    use std::os::unix::fs::FileTypeExt;
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stdout.and_then(|stdout| stdout.metadata());
    metadata.is_ok_and(|metadata| metadata.file_type().is_fifo())
}
