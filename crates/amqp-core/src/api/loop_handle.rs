//! A handle to a loop: timers, posts and further connections, from any thread.

use crate::{
    api::{awaited::Awaited, connection::ConnectionHandle},
    config::parameters::ConnectionParameters,
    error::{Error, Result},
    session::{
        Shared,
        bell::Bell,
        op::OnOpen,
        reply::{Continuation, Outcome},
        timer::TimeoutId,
    },
};
use std::{fmt, future::IntoFuture, mem, sync::Arc, time::Duration};

/// A handle to a loop: it can be cloned, sent to other threads, and kept by callbacks.
pub struct LoopHandle<S: 'static = ()>(pub(crate) Arc<Bell<S>>);

impl<S: 'static> LoopHandle<S> {
    /// Opens a connection on this loop: with a callback ([`then`](Connect::then)), or by `.await`.
    pub fn connect(&self, parameters: ConnectionParameters) -> Connect<S> {
        Connect { ioloop: self.clone(), parameters }
    }

    /// Opens a connection whose user hears of every end by calls that fail: none comes out of the loop.
    #[doc(hidden)]
    pub fn connect_for_calls(
        &self,
        parameters: ConnectionParameters,
        on_open: impl FnOnce(Result<()>) + Send + 'static,
    ) -> ConnectionHandle<S> {
        self.begin(
            parameters,
            false,
            Box::new(move |_, _, opened| {
                on_open(opened);
                Ok(())
            }),
        )
    }

    fn begin(&self, parameters: ConnectionParameters, raises: bool, on_open: OnOpen<S>) -> ConnectionHandle<S> {
        let shared = Shared::new(self.0.clone(), parameters, raises);
        let connection = ConnectionHandle::new(shared.clone());
        self.0.connect(shared, on_open);
        connection
    }

    /// Runs `callback` on the loop, in its next turn: pika's `add_callback_threadsafe`. A loop that sleeps is woken.
    #[doc(alias = "add_callback_threadsafe")]
    pub fn post<R: Outcome>(&self, callback: impl FnOnce(&mut S) -> R + Send + 'static) {
        self.0.post(Box::new(move |state| callback(state).outcome()));
    }

    /// Calls `callback` once, `delay` after the turn in which the loop hears of it. Until then the loop does not end by
    /// itself.
    #[doc(alias = "call_later")]
    pub fn add_timeout<R: Outcome>(
        &self,
        delay: Duration,
        callback: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> TimeoutId {
        self.0.add_timeout(delay, Box::new(move |state| callback(state).outcome()))
    }

    /// Takes a timer back; false if it has run or been removed already.
    pub fn remove_timeout(&self, id: TimeoutId) -> bool {
        self.0.remove_timeout(id)
    }

    /// Makes the thread that drives the loop look at everything once more before it sleeps.
    #[doc(hidden)]
    pub fn look_again(&self) {
        self.0.post(Box::new(|_| Ok(())));
    }

    /// Says that the thread that drives the loop is awake: what is asked of the loop next needs no wake-up.
    #[doc(hidden)]
    pub fn attended(&self) {
        self.0.awake();
    }

    /// Ends `start` after the turn that is going on.
    pub fn stop(&self) {
        self.0.ring(|news| news.stop = true);
    }
}

/// A connection to be opened: nothing begins before [`then`](Self::then) or `.await`.
#[must_use = "nothing begins before then() or .await"]
#[derive(Debug)]
pub struct Connect<S: 'static = ()> {
    ioloop: LoopHandle<S>,
    parameters: ConnectionParameters,
}

impl<S: 'static> Connect<S> {
    /// Begins to connect and returns the connection; `on_open` is called when it is open, or with the reason why it could
    /// not be opened.
    pub fn then<R: Outcome>(
        self,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> ConnectionHandle<S> {
        let on_open = Box::new(move |state: &mut S, connection: &ConnectionHandle<S>, opened| {
            on_open(state, connection, opened).outcome()
        });
        self.ioloop.begin(self.parameters, true, on_open)
    }
}

impl<S: 'static> IntoFuture for Connect<S> {
    type Output = Result<ConnectionHandle<S>>;
    type IntoFuture = Awaited<ConnectionHandle<S>>;

    /// Begins to connect. If the connection is not taken, it is closed again.
    fn into_future(self) -> Awaited<ConnectionHandle<S>> {
        let Self { ioloop: LoopHandle(bell), parameters } = self;
        let shared = Shared::new(bell.clone(), parameters, false);
        let (connection, unclaimed) = (ConnectionHandle::new(shared.clone()), ConnectionHandle::new(shared.clone()));
        let (awaited, to) = Awaited::new(move |()| Ok(connection), move |_| drop(unclaimed.close().send()));
        let opening: Opening<S> = Opening(to);
        bell.connect(
            shared,
            Box::new(move |_, _, opened| {
                opening.end(opened);
                Ok(())
            }),
        );
        awaited
    }
}

impl<S: 'static> Clone for LoopHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: 'static> fmt::Debug for LoopHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoopHandle")
    }
}

/// The answer to one who awaits an open connection, also from a loop that is dropped.
struct Opening<S: 'static>(Continuation<S, ()>);

impl<S: 'static> Opening<S> {
    fn end(mut self, opened: Result<()>) {
        drop(mem::replace(&mut self.0, Continuation::Nobody).resolve(opened));
    }
}

impl<S: 'static> Drop for Opening<S> {
    fn drop(&mut self) {
        drop(mem::replace(&mut self.0, Continuation::Nobody).resolve(Err(Error::LoopGone)));
    }
}
