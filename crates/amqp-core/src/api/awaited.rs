//! The future of everything that is answered.

use crate::{
    error::Result,
    session::{
        reply::Continuation,
        slot::{Fill, Slot, Wait},
    },
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Something that has been sent, and whose answer is awaited: wire order is the order in which `.await` began.
///
/// Cancel-safe: dropped early, everything stays in step, the answer is discarded when it comes, and what it would have
/// brought (a channel, a consumer, a message of basic.get, a connection) is closed, cancelled or requeued.
#[must_use = "the answer is waited for by .await"]
pub struct Awaited<T>(Arc<dyn Wait<T>>);

impl<T: 'static> Awaited<T> {
    /// The future, and what the loop resolves. `read` makes of the loop's answer what is awaited; `undo` gets an answer that
    /// is not taken.
    pub(crate) fn new<S: 'static, A: Send + 'static>(
        read: impl FnOnce(A) -> Result<T> + Send + 'static,
        undo: impl FnOnce(Result<A>) + Send + 'static,
    ) -> (Self, Continuation<S, A>) {
        let slot = Slot::new(read, undo);
        (Self(slot.clone()), Continuation::Slot(slot))
    }

    /// One whose answer is known.
    pub(crate) fn ready(answer: Result<T>) -> Self
    where
        T: Send,
    {
        let slot = Slot::new(Ok, drop);
        slot.resolve(answer);
        Self(slot)
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.0.is_answered()
    }

    /// The answer, if it is there.
    pub(crate) fn take(&self) -> Option<Result<T>> {
        match self.0.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
}

impl<T> Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.0.poll(context)
    }
}

impl<T> Unpin for Awaited<T> {}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<T> fmt::Debug for Awaited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited").field("is_answered", &self.0.is_answered()).finish_non_exhaustive()
    }
}
