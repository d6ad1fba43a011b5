//! How every request ends, once: in a callback, in a future, or without an answer.

use crate::{
    api::awaited::Awaited,
    error::Result,
    session::reply::{Continuation, Outcome},
};

/// Where the answer of a request goes.
pub(super) type To<Q> = Continuation<<Q as Start>::State, <Q as Start>::Answer>;

/// A request that has not been sent yet. Starting it is all that differs between requests.
pub(super) trait Start: Sized {
    /// The state that its loop lends to callbacks.
    type State: 'static;
    /// The handle that its callback is lent.
    type Lent: Clone + Send + 'static;
    /// What the loop answers with.
    type Answer: Send + 'static;
    /// What its callback is given.
    type Told;
    /// What is known before there is an answer.
    type Sent;

    /// Sends it. If it cannot be sent, the error is also the answer, which the loop gives later as it gives all others.
    /// Without `waits` no reply is asked for, where AMQP can do without.
    ///
    /// `to` makes where the answer goes, and something that is returned as it is.
    fn start<W>(self, waits: bool, to: impl FnOnce(&Self::Lent) -> (To<Self>, W)) -> (Self::Sent, W, Result<()>);

    /// What the answer is to a callback.
    fn read(answer: Self::Answer) -> Result<Self::Told>;
}

/// Sends; the loop calls `callback` with the answer, or with the reason why there is none, exactly once and not from here.
pub(super) fn then<Q: Start, R: Outcome>(
    request: Q,
    callback: impl FnOnce(&mut Q::State, &Q::Lent, Result<Q::Told>) -> R + Send + 'static,
) -> Q::Sent {
    let called = |lent: &Q::Lent| {
        let lent = lent.clone();
        let called = move |state: &mut Q::State, answer: Result<Q::Answer>| {
            callback(state, &lent, answer.and_then(Q::read)).outcome()
        };
        (Continuation::Callback(Box::new(called)), ())
    };
    request.start(true, called).0
}

/// Sends without waiting.
pub(super) fn send<Q: Start>(request: Q) -> Result<Q::Sent> {
    let (sent, (), result) = request.start(false, |_| (Continuation::Nobody, ()));
    result.map(|()| sent)
}

/// Sends; the future gives what `read` makes of the answer. `undo` gets an answer that is not taken.
pub(super) fn wait<Q: Start, T, R, U>(request: Q, ending: impl FnOnce(&Q::Lent) -> (R, U)) -> Awaited<T>
where
    T: 'static,
    R: FnOnce(Q::Answer) -> Result<T> + Send + 'static,
    U: FnOnce(Result<Q::Answer>) + Send + 'static,
{
    let (_, awaited, _) = request.start(true, |lent| {
        let (read, undo) = ending(lent);
        let (awaited, to) = Awaited::new(read, undo);
        (to, awaited)
    });
    awaited
}
