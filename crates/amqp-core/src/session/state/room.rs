//! Tasks that wait until there is less to write.

use slab::Slab;
use std::{mem, task::Waker};

/// The wakers of tasks that wait for room.
#[derive(Default)]
pub(crate) struct Room(Slab<Waker>);

impl Room {
    /// A task waits; its place is returned.
    pub(crate) fn enter(&mut self, waker: Waker) -> usize {
        self.0.insert(waker)
    }

    /// The task at this place waits no more; its waker is to be dropped where no lock is held.
    pub(crate) fn leave(&mut self, place: usize) -> Option<Waker> {
        self.0.try_remove(place)
    }

    /// There is room, or there will be none: the tasks are returned, to be woken where no lock is held.
    pub(super) fn leave_all(&mut self) -> Self {
        Self(mem::take(&mut self.0))
    }

    /// Wakes all; no lock may be held.
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(|(_, waker)| waker.wake());
    }
}
