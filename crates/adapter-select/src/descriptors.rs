//! select(2) and poll(2): sets of descriptors, and a pipe to be woken by.

use crate::poller::{Readiness, whole_millis};
use amqp_core::hub::Interest;
use rustix::{
    event::{FdSetElement, FdSetIter, PollFd, PollFlags, Timespec, fd_set_insert, fd_set_num_elements, poll, select},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

/// Sockets by key. Each is held by a descriptor of our own, so that none is ever closed while it is in a set.
#[derive(Debug)]
pub(crate) struct Descriptors {
    by_select: bool,
    watched: BTreeMap<usize, (OwnedFd, Interest)>,
    woken: OwnedFd,
    waker: Arc<PipeWaker>,
}

impl Descriptors {
    pub(crate) fn new(by_select: bool) -> io::Result<Self> {
        let (woken, waker) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { by_select, watched: BTreeMap::new(), woken, waker: Arc::new(PipeWaker(waker)) })
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::from(self.waker.clone())
    }

    pub(crate) fn add(&mut self, source: BorrowedFd<'_>, key: usize, interest: Interest) -> io::Result<()> {
        self.watched.insert(key, (source.try_clone_to_owned()?, interest));
        Ok(())
    }

    pub(crate) fn modify(&mut self, key: usize, interest: Interest) -> io::Result<()> {
        self.watched.get_mut(&key).ok_or(io::ErrorKind::NotFound)?.1 = interest;
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: usize) -> io::Result<()> {
        self.watched.remove(&key).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        // A time that no clock will see is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(whole_millis(timeout)).ok());
        let rung = if self.by_select { self.select(timeout, ready) } else { self.poll(timeout, ready) }?;
        if rung {
            let mut octets = [0; 64];
            while rustix::io::read(&self.woken, &mut octets).is_ok_and(|n| n == octets.len()) {}
        }
        Ok(())
    }

    fn poll(&self, timeout: Option<Timespec>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let wanted = |interest: &Interest| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, interest.readable);
            flags.set(PollFlags::OUT, interest.writable);
            flags
        };
        // poll(2) tells of a hang-up even if nothing was asked for.
        let asked = || self.watched.iter().filter(|(_, (_, interest))| interest.readable || interest.writable);
        let sockets = asked().map(|(_, (socket, interest))| PollFd::new(socket, wanted(interest)));
        let mut fds: Vec<_> = std::iter::once(PollFd::new(&self.woken, PollFlags::IN)).chain(sockets).collect();
        poll(&mut fds, timeout.as_ref())?;
        let mut told = fds.iter().map(PollFd::revents);
        let rung = told.next().is_some_and(|flags| !flags.is_empty());
        for ((key, _), flags) in asked().zip(told).filter(|(_, flags)| !flags.is_empty()) {
            let writable = flags.contains(PollFlags::OUT);
            ready.push(Readiness { key: *key, readable: flags.intersects(!PollFlags::OUT), writable });
        }
        Ok(rung)
    }

    fn select(&self, timeout: Option<Timespec>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let woken = self.woken.as_raw_fd();
        let highest = self.watched.values().map(|(socket, _)| socket.as_raw_fd()).fold(woken, i32::max);
        let elements = fd_set_num_elements(self.watched.len() + 1, highest + 1);
        let (mut read, mut write) = (vec![FdSetElement::default(); elements], vec![FdSetElement::default(); elements]);
        fd_set_insert(&mut read, woken);
        for (socket, interest) in self.watched.values() {
            if interest.readable {
                fd_set_insert(&mut read, socket.as_raw_fd());
            }
            if interest.writable {
                fd_set_insert(&mut write, socket.as_raw_fd());
            }
        }
        wait_in_select(highest + 1, &mut read, &mut write, timeout.as_ref())?;
        let readable: Vec<_> = FdSetIter::new(&read).collect();
        let writable: Vec<_> = FdSetIter::new(&write).collect();
        for (key, (socket, _)) in &self.watched {
            let is_in = |set: &[i32]| set.binary_search(&socket.as_raw_fd()).is_ok();
            let event = Readiness { key: *key, readable: is_in(&readable), writable: is_in(&writable) };
            if event.readable || event.writable {
                ready.push(event);
            }
        }
        Ok(readable.binary_search(&woken).is_ok())
    }
}

/// `rustix` calls this unsafe because every descriptor in the sets has to be open: they are all [`Descriptors`]' own.
#[allow(unsafe_code)]
fn wait_in_select(
    nfds: i32,
    read: &mut [FdSetElement],
    write: &mut [FdSetElement],
    timeout: Option<&Timespec>,
) -> Result<i32, Errno> {
    // SAFETY: as above.
    unsafe { select(nfds, Some(read), Some(write), None, timeout) }
}

/// The end of the pipe that wakes the thread that waits at the other.
#[derive(Debug)]
struct PipeWaker(OwnedFd);

impl Wake for PipeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A full pipe wakes already.
        let _ = rustix::io::write(&self.0, &[1]);
    }
}
