//! Where an answer waits for whoever asked: a future, or a thread.

use crate::{
    error::Result,
    session::reply::Answer,
    sync::{Mutex, MutexGuard},
};
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Room for one answer. It is shared between who asked and the request's [`Continuation`](crate::session::reply::Continuation).
///
/// Wakers are called, and whatever is not needed any more is dropped, without the lock.
pub(crate) struct Slot(Mutex<State>);

enum State {
    Waiting(Option<Waker>),
    Answered(Result<Answer>),
    /// Nobody waits any more; what the answer brings is given back by this.
    Abandoned(Undo),
    Over,
}

/// Gives back what nobody claimed.
pub(crate) type Undo = Box<dyn FnOnce(Result<Answer>) + Send>;

impl Slot {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(None))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// The answer has come. The first one stands.
    pub(crate) fn resolve(&self, answer: Result<Answer>) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(waker) => {
                *state = State::Answered(answer);
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

    /// The answer, once; until then the task is woken when it comes.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Answer>> {
        let waker = context.waker().clone();
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Answered(answer) => {
                drop(state);
                Poll::Ready(answer)
            }
            State::Waiting(before) => {
                *state = State::Waiting(Some(waker));
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

    /// Whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(*self.lock(), State::Answered(_))
    }

    /// The answer, if it is there.
    pub(crate) fn take(&self) -> Option<Result<Answer>> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Answered(answer) => Some(answer),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Nobody waits any more: `undo` gets the answer, now or when it comes, unless it was taken.
    pub(crate) fn abandon(&self, undo: Undo) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(waker) => {
                *state = State::Abandoned(undo);
                drop(state);
                drop(waker);
            }
            State::Answered(answer) => {
                drop(state);
                undo(answer);
            }
            State::Abandoned(_) | State::Over => drop(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn poll(slot: &Slot) -> Poll<Result<Answer>> {
        slot.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_first_answer_stands() {
        let slot = Slot::new();
        assert!(poll(&slot).is_pending());
        slot.resolve(Err(Error::NotOpen));
        slot.resolve(Err(Error::LoopGone));
        assert!(matches!(poll(&slot), Poll::Ready(Err(Error::NotOpen))));
        slot.resolve(Err(Error::LoopGone));
        assert!(poll(&slot).is_pending(), "an answer is taken once");
    }
}
