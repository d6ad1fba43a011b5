//! The loop's face, and what an adapter provides.

use crate::{
    api::{
        close_connection::CloseConnection, connection::ConnectionHandle, loop_handle::LoopHandle,
        open_channel::OpenChannel,
    },
    config::parameters::ConnectionParameters,
    error::Result,
    session::reply::Outcome,
};

/// A loop: it serves connections, runs timers and lends the program's state to callbacks.
///
/// While a callback runs nothing else does: one that takes longer than two intervals of the heartbeat lets the broker
/// think that the program is dead. Work like that belongs to another thread, which [`post`](LoopHandle::post)s its result.
pub trait IoLoop<S: 'static> {
    /// Returns a handle to the loop. It is `Clone + Send + Sync`.
    fn handle(&self) -> LoopHandle<S>;

    /// Serves until [`stop`](Self::stop), until the last connection is over and no timer or post is pending, or until a
    /// callback fails. It can be called again and continues where it was.
    ///
    /// A timer keeps the loop until it has run or is [removed](LoopHandle::remove_timeout), so that the callback of a
    /// connection's end can have a new connection made after a pause. A loop that has never had a connection waits for one,
    /// or for `stop`.
    ///
    /// # Errors
    /// The error of a callback; why a connection, a channel or a consumer ended, if no callback is registered for it; what the operating system
    /// says about waiting.
    ///
    /// # Panics
    /// Resumes a panic of a callback.
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

    /// Returns a handle to the loop. It is `Clone + Send + Sync`.
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
