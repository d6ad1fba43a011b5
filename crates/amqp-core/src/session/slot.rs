//! Where an answer waits for the one who asked: a future, or a thread.

use crate::{
    error::Result,
    sync::{Mutex, MutexGuard},
};
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Room for one answer, shared between the one who asked and the request's
/// [`Continuation`](crate::session::reply::Continuation).
///
/// `A` is what the loop answers with, and `R` makes of it what was asked for. If nobody takes the answer, `U` gives back what
/// it brings. Wakers are called, and whatever is not needed any more is dropped, without the lock.
pub(crate) struct Slot<A, R, U>(Mutex<State<A, R, U>>);

enum State<A, R, U> {
    Waiting(Option<Waker>, R, U),
    Answered(Result<A>, R, U),
    Abandoned(U),
    Over,
}

/// The loop's side of a slot.
pub(crate) trait Fill<A>: Send + Sync {
    /// The answer has come. The first one stands.
    fn resolve(&self, answer: Result<A>);
}

/// The side of the one who asked.
pub(crate) trait Wait<T>: Send + Sync {
    /// The answer, once; until then the task is woken when it comes.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T>>;

    /// Whether the answer is there.
    fn is_answered(&self) -> bool;

    /// Nobody waits any more: what the answer brings is given back, now or when it comes, unless it was taken.
    fn abandon(&self);
}

impl<A, R, U> Slot<A, R, U> {
    /// `undo` gets an answer that is not taken.
    pub(crate) fn new<T>(read: R, undo: U) -> Arc<Self>
    where
        R: FnOnce(A) -> Result<T>,
        U: FnOnce(Result<A>),
    {
        Arc::new(Self(Mutex::new(State::Waiting(None, read, undo))))
    }

    fn lock(&self) -> MutexGuard<'_, State<A, R, U>> {
        self.0.lock()
    }
}

impl<A: Send, R: Send, U: FnOnce(Result<A>) + Send> Fill<A> for Slot<A, R, U> {
    fn resolve(&self, answer: Result<A>) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(waker, read, undo) => {
                *state = State::Answered(answer, read, undo);
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
            State::Abandoned(undo) => {
                drop(state);
                undo(answer);
            }
            first => {
                *state = first;
                drop(state);
            }
        }
    }
}

impl<A: Send, T, R: FnOnce(A) -> Result<T> + Send, U: FnOnce(Result<A>) + Send> Wait<T> for Slot<A, R, U> {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T>> {
        let waker = context.waker().clone();
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Answered(answer, read, undo) => {
                drop(state);
                drop(undo);
                Poll::Ready(answer.and_then(read))
            }
            State::Waiting(before, read, undo) => {
                *state = State::Waiting(Some(waker), read, undo);
                drop(state);
                drop(before);
                Poll::Pending
            }
            other => {
                *state = other;
                drop(state);
                Poll::Pending
            }
        }
    }

    fn is_answered(&self) -> bool {
        matches!(*self.lock(), State::Answered(..))
    }

    fn abandon(&self) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(waker, read, undo) => {
                *state = State::Abandoned(undo);
                drop(state);
                drop((waker, read));
            }
            State::Answered(answer, read, undo) => {
                drop(state);
                drop(read);
                undo(answer);
            }
            before => {
                *state = before;
                drop(state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn poll(slot: &dyn Wait<()>) -> Poll<Result<()>> {
        slot.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_first_answer_stands() {
        let slot = Slot::new(Ok::<(), Error>, drop);
        assert!(poll(&*slot).is_pending());
        slot.resolve(Err(Error::NotOpen));
        slot.resolve(Err(Error::LoopGone));
        assert!(matches!(poll(&*slot), Poll::Ready(Err(Error::NotOpen))));
        slot.resolve(Err(Error::LoopGone));
        assert!(poll(&*slot).is_pending(), "an answer is taken once");
    }
}
