//! Where replies go, and how the program's code is called.

use crate::{
    error::{Error, Result},
    session::slot::Fill,
    wire::{
        message::Message,
        spec::{Method, MethodId},
    },
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What a callback may return: nothing, or a `Result` whose error stops the loop and comes out of its `start`.
pub trait Outcome {
    /// The same as a result of ours.
    fn outcome(self) -> Result<()>;
}

impl Outcome for () {
    #[inline]
    fn outcome(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> Outcome for Result<(), E> {
    #[inline]
    fn outcome(self) -> Result<()> {
        self.map_err(|error| Error::from_callback(error.into()))
    }
}

/// Work for the loop, which lends it the program's state.
pub(crate) type Job<S> = Box<dyn FnOnce(&mut S) -> Result<()> + Send>;

/// A request's callback, which has its handle inside.
pub(crate) type Callback<S, A> = Box<dyn FnOnce(&mut S, Result<A>) -> Result<()> + Send>;

/// The reply to a request of a channel or a connection. Replies of all types are expected in one queue, so this is where
/// their types are taken off; the request puts its own on again.
#[derive(Debug)]
pub enum Answer {
    /// A method.
    Method(Method),
    /// basic.get found one.
    Message(Box<Message>),
}

/// The methods that may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect(pub(crate) MethodId, pub(crate) Option<MethodId>);

impl Expect {
    pub(crate) fn accepts(self, id: MethodId) -> bool {
        self.0 == id || self.1 == Some(id)
    }
}

/// Where an answer goes. Resolved by value: it cannot happen twice.
pub(crate) enum Continuation<S, A = Answer> {
    Callback(Callback<S, A>),
    Slot(Arc<dyn Fill<A>>),
    Nobody,
}

impl<S: 'static, A: Send + 'static> Continuation<S, A> {
    pub(crate) fn is_somebody(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// What the loop has to run: a callback needs the program's state, a slot is filled here and now.
    pub(crate) fn resolve(self, answer: Result<A>) -> Option<Job<S>> {
        match self {
            Self::Callback(callback) => Some(Box::new(move |state| callback(state, answer))),
            Self::Slot(slot) => {
                slot.resolve(answer);
                None
            }
            Self::Nobody => None,
        }
    }
}

/// What the program's code did instead of returning.
pub(crate) enum Raised {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// The one place that calls the program.
#[inline]
pub(crate) fn lend(callback: impl FnOnce() -> Result<()>) -> Result<(), Raised> {
    #[cfg(debug_assertions)]
    crate::sync::assert_unlocked();
    match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Raised::Error(error)),
        Err(payload) => Err(Raised::Panic(payload)),
    }
}
