//! Waiting until the outbound buffer is short enough: back-pressure for those who await.

use crate::{
    api::connection::ConnectionHandle,
    config::parameters::ConnectionParameters,
    error::Result,
    session::{Phase, state::Place},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The future of [`ConnectionHandle::writable`].
#[must_use = "room is waited for by .await"]
pub struct Writable<S: 'static = ()> {
    connection: ConnectionHandle<S>,
    /// Its place among those who wait.
    place: Option<Place>,
}

impl ConnectionParameters {
    /// Octets that may wait when those who waited go on.
    #[doc(hidden)]
    pub fn low_water(&self) -> usize {
        self.outbound_low_water().unwrap_or(self.outbound_high_water() / 2)
    }
}

impl<S: 'static> ConnectionHandle<S> {
    /// Ready while no more than `outbound_high_water` octets wait to be written, and otherwise when they have sunk to
    /// `outbound_low_water`: what a publisher that does not wait for
    /// confirms awaits now and then, so that memory stays bounded.
    pub fn writable(&self) -> Writable<S> {
        Writable { connection: self.clone(), place: None }
    }
}

impl<S: 'static> Writable<S> {
    fn leave(&mut self) {
        let Some(place) = self.place.take() else { return };
        let waker = self.connection.0.lock().room().leave(place);
        drop(waker);
    }
}

impl<S: 'static> Future for Writable<S> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.leave();
        let mut waker = None;
        loop {
            let shared = self.connection.0.clone();
            let mut state = shared.lock();
            let over = match state.phase() {
                Phase::Closed(error) => Some(Err(error.clone())),
                _ if state.held() <= shared.parameters.outbound_high_water() => Some(Ok(())),
                _ => None,
            };
            if let Some(result) = over {
                drop(state);
                return Poll::Ready(result);
            }
            // Cloned where no lock is held, and only if there is something to wait for.
            if let Some(waker) = waker.take() {
                self.place = Some(state.room().enter(waker));
                return Poll::Pending;
            }
            drop(state);
            waker = Some(context.waker().clone());
        }
    }
}

impl<S: 'static> Unpin for Writable<S> {}

impl<S: 'static> Drop for Writable<S> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<S: 'static> fmt::Debug for Writable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("connection", &self.connection).finish_non_exhaustive()
    }
}
