//! Futures of what is not a plain request.

use crate::{
    error::Result,
    session::{
        reply::Answer,
        slot::{Slot, Undo},
    },
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Something that has been sent, and whose answer is awaited.
///
/// Dropped before its end it leaves everything in step, and what its answer would have brought is given back.
#[must_use = "the answer is waited for by .await"]
pub struct Awaited<T> {
    slot: Arc<Slot>,
    read: Option<Read<T>>,
    undo: Option<Undo>,
}

type Read<T> = Box<dyn FnOnce(Answer) -> Result<T> + Send>;

impl<T> Awaited<T> {
    pub(crate) fn new(slot: Arc<Slot>, read: impl FnOnce(Answer) -> Result<T> + Send + 'static) -> Self {
        Self { slot, read: Some(Box::new(read)), undo: None }
    }

    /// What gives the answer back if nobody takes it.
    pub(crate) fn or_else(mut self, undo: impl FnOnce(Result<Answer>) + Send + 'static) -> Self {
        self.undo = Some(Box::new(undo));
        self
    }
}

impl<T> Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match self.slot.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(answer) => {
                self.undo = None;
                match (answer, self.read.take()) {
                    (Ok(answer), Some(read)) => Poll::Ready(read(answer)),
                    (Ok(_), None) => Poll::Pending,
                    (Err(error), _) => Poll::Ready(Err(error)),
                }
            }
        }
    }
}

impl<T> Unpin for Awaited<T> {}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.slot.abandon(undo);
        }
    }
}

impl<T> fmt::Debug for Awaited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited").field("is_answered", &self.slot.is_answered()).finish_non_exhaustive()
    }
}
