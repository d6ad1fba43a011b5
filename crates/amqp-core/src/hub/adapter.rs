//! The loop's face, and what an adapter provides.

use crate::{
    api::{
        awaited::Awaited, close_connection::CloseConnection, connection::ConnectionHandle, open_channel::OpenChannel,
    },
    config::parameters::ConnectionParameters,
    error::{Error, Result},
    session::{
        Shared,
        bell::Bell,
        reply::{Answer, Outcome},
        slot::Slot,
        timer::TimeoutId,
    },
    wire::spec::connection,
};
use std::{fmt, sync::Arc, time::Duration};

/// What is told whether a connection could be opened.
pub(crate) type OnOpen<S> = Box<dyn FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> Result<()> + Send>;

/// A loop: it serves connections, runs timers and lends the program's state to callbacks.
///
/// While a callback runs nothing else does: one that takes longer than two intervals of the heartbeat lets the broker
/// think that the program is dead. Work like that belongs to another thread, which [`post`](LoopHandle::post)s its result.
pub trait IoLoop<S: 'static> {
    /// What everybody may have of it.
    fn handle(&self) -> LoopHandle<S>;

    /// Serves until [`stop`](Self::stop), until the last connection is over, or until a callback fails. It can be called
    /// again and goes on where it was.
    ///
    /// # Errors
    /// What a callback returned; why a connection or a channel ended, if no callback was told; what the operating system
    /// says about waiting.
    ///
    /// # Panics
    /// Goes on with a callback's panic.
    fn start(&mut self, state: &mut S) -> Result<()>;

    /// Ends [`start`](Self::start) after the turn that is going on; before it, `start` returns at once.
    fn stop(&self) {
        self.handle().stop();
    }
}

/// A connection with a loop of its own: what an adapter provides. Write programs for any `C: Connection<App>`.
///
/// Further connections on the same loop are made by [`LoopHandle::connect`].
pub trait Connection<S: 'static = ()>: Sized {
    /// The adapter's loop.
    type Loop: IoLoop<S>;

    /// Begins to connect; `on_open` is called by the loop, once, with the open connection or with the reason why there
    /// is none.
    ///
    /// # Errors
    /// The adapter's loop could not be made.
    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self>;

    /// Its loop.
    fn ioloop(&mut self) -> &mut Self::Loop;

    /// What everybody may have of it.
    fn handle(&self) -> &ConnectionHandle<S>;

    /// Opens a channel.
    fn channel(&self) -> OpenChannel<S> {
        self.handle().channel()
    }

    /// Closes the connection, its channels with it.
    fn close(&self) -> CloseConnection<S> {
        self.handle().close()
    }
}

/// A loop, for everybody: cloned, sent to other threads, kept by callbacks.
pub struct LoopHandle<S: 'static = ()>(pub(crate) Arc<Bell<S>>);

impl<S: 'static> LoopHandle<S> {
    /// Opens a connection on this loop; `on_open` as in [`Connection::open`].
    pub fn connect<R: Outcome>(
        &self,
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> ConnectionHandle<S> {
        self.begin(
            parameters,
            true,
            Box::new(move |state, connection, opened| on_open(state, connection, opened).outcome()),
        )
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
        let connection = ConnectionHandle(shared.clone());
        self.0.connect(shared, on_open);
        connection
    }

    /// Opens a connection on this loop, to be awaited. If nobody takes it, it is closed again.
    pub fn connection(&self, parameters: ConnectionParameters) -> Awaited<ConnectionHandle<S>> {
        let slot = Slot::new();
        let opening = Opening(slot.clone());
        let connection = self.connect_for_calls(parameters, move |opened| opening.end(opened));
        let unclaimed = connection.clone();
        Awaited::new(slot, move |_| Ok(connection)).or_else(move |_| drop(unclaimed.close().send()))
    }

    /// Runs `callback` on the loop, in its next turn: pika's `add_callback_threadsafe`. A loop that sleeps is woken.
    #[doc(alias = "add_callback_threadsafe")]
    pub fn post<R: Outcome>(&self, callback: impl FnOnce(&mut S) -> R + Send + 'static) {
        self.0.post(Box::new(move |state| callback(state).outcome()));
    }

    /// Calls `callback` once, `delay` after the turn in which the loop hears of it.
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

    /// Whoever drives the loop looks at everything again, and does not sleep before.
    #[doc(hidden)]
    pub fn nudge(&self) {
        self.0.post(Box::new(|_| Ok(())));
    }

    /// Nobody needs to be woken for what is asked of the loop next: its driver is on the way.
    #[doc(hidden)]
    pub fn attended(&self) {
        self.0.awake();
    }

    /// Ends `start` after the turn that is going on.
    pub fn stop(&self) {
        self.0.ring(|news| news.stop = true);
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

/// Who awaits an open connection is told, also by a loop that is dropped.
struct Opening(Arc<Slot>);

impl Opening {
    fn end(self, opened: Result<()>) {
        self.0.resolve(opened.map(|()| Answer::Method(connection::OpenOk::default().into())));
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.resolve(Err(Error::LoopGone));
    }
}
