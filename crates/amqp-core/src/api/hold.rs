//! Pausing the reading: a connection that is on hold is read only while a reply or an outcome is waited for.

use crate::{
    api::connection::ConnectionHandle,
    error::Error,
    session::{Op, Phase, Shared},
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

/// While it lives, its connection is read only as long as a reply or an outcome is waited for. Given back where no lock is held.
pub struct Hold<S: 'static = ()>(Arc<Shared<S>>);

impl<S: 'static> Hold<S> {
    pub(crate) fn new(shared: &Arc<Shared<S>>) -> Self {
        shared.holds.fetch_add(1, Ordering::AcqRel);
        Self(shared.clone())
    }
}

impl<S: 'static> ConnectionHandle<S> {
    /// Holds the connection, because what arrives has nowhere to go: for adapters that keep messages for their program.
    #[doc(hidden)]
    pub fn hold(&self) -> Hold<S> {
        Hold::new(&self.0)
    }

    /// Gives this error to all pending requests and publishes: so much has arrived before it that has nowhere to go.
    /// Afterwards a [`hold`](Self::hold) holds again. Called where no lock is held.
    #[doc(hidden)]
    pub fn overwhelmed(&self, error: Error) {
        let mut state = self.0.lock();
        if *state.phase() == Phase::Open && state.is_awaited() {
            state.queue(Op::Overwhelmed(error));
        }
    }

    /// Ends the connection for this reason: more still arrives that has nowhere to go. Called where no lock is held.
    #[doc(hidden)]
    pub fn drowned(&self, error: Error) {
        let mut state = self.0.lock();
        if *state.phase() == Phase::Open {
            state.queue(Op::Drowned(error));
        }
    }
}

impl<S: 'static> Drop for Hold<S> {
    fn drop(&mut self) {
        if self.0.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.bell.ready(self.0.number);
        }
    }
}

impl<S: 'static> fmt::Debug for Hold<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}
