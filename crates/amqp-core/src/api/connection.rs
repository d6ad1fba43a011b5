//! What a program holds of a connection.

use crate::{
    api::{
        close_connection::CloseConnection,
        event::{Event, EventCallback, Source},
        loop_handle::LoopHandle,
        open_channel::OpenChannel,
        requests::connection_requests,
    },
    config::parameters::ConnectionParameters,
    error::{Error, Result},
    session::{
        Phase, Shared,
        callbacks::{CallbackId, CallbackManager, Key, Terms},
        reply::Outcome,
    },
    wire::{strings::ShortString, table::Table},
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

/// A connection. Cloned, it is the same connection.
///
/// One that was opened by `.await` closes itself when its last handle and those of its channels are dropped, as soon as the
/// last reply and the last confirm have come. A consumer with a callback keeps it, and so does a handle in a callback. One that
/// was opened with a callback is kept by its loop.
pub struct ConnectionHandle<S: 'static = ()>(pub(crate) Arc<Shared<S>>, Counted);

/// Says that a handle was counted: there is no other way to make one than [`ConnectionHandle::new`].
struct Counted;

impl<S: 'static> ConnectionHandle<S> {
    connection_requests!();

    /// Opens a channel [§1.5.2.1]; it can be used at once, because channel.open is sent before what is called on it.
    #[doc(alias = "create_channel")]
    #[doc(alias = "open_channel")]
    pub fn channel(&self) -> OpenChannel<S> {
        OpenChannel::new(self.clone())
    }

    /// Closes the connection [§1.4.2.10]: everything that was called before goes out first, channels end with it.
    ///
    /// What the broker has against a publish that was called just before is not heard any more: a confirm tells, or the reply
    /// to a request after it.
    ///
    /// Answered within `close_timeout`. A connection that this program has closed already is closed again without an error; one that has
    /// ended otherwise is answered with the reason.
    pub fn close(&self) -> CloseConnection<S> {
        CloseConnection::new(self.clone())
    }

    /// Returns whether channels can be opened.
    pub fn is_open(&self) -> bool {
        *self.0.lock().phase() == Phase::Open
    }

    /// Returns whether this program has asked for the end and waits for the answer.
    pub fn is_closing(&self) -> bool {
        matches!(self.0.lock().phase(), Phase::Closing { .. })
    }

    /// Returns whether it is over, or was never opened.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.lock().phase(), Phase::Closed(_))
    }

    /// Returns why it is closed; `None` before.
    pub fn close_reason(&self) -> Option<Error> {
        match self.0.lock().phase() {
            Phase::Closed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Returns what it was opened with; negotiation changes none of it.
    #[doc(alias = "params")]
    pub fn parameters(&self) -> &ConnectionParameters {
        &self.0.parameters
    }

    /// `host:port` of the broker: of several endpoints the one that is connected to, or that is tried.
    pub fn endpoint(&self) -> Arc<str> {
        self.0.lock().endpoint().clone()
    }

    /// Returns the broker's server properties; `None` before the connection is open.
    pub fn server_properties(&self) -> Option<&Table> {
        self.0.server_properties.get()
    }

    /// Returns whether the broker says that it can do this, `basic.nack` for example.
    #[doc(alias = "server_capabilities")]
    pub fn has_capability(&self, name: &str) -> bool {
        self.0.has_capability(name)
    }

    /// Channels that may be open at once, as negotiated.
    pub fn channel_max(&self) -> u16 {
        self.0.lock().limits().channel_max
    }

    /// Octets in a frame, as negotiated.
    pub fn frame_max(&self) -> usize {
        self.0.lock().limits().frame_max
    }

    /// Seconds between heartbeats, as negotiated; 0 is off.
    pub fn heartbeat(&self) -> u16 {
        self.0.lock().limits().heartbeat
    }

    /// Octets that wait to be written.
    pub fn outbound_len(&self) -> usize {
        self.0.lock().held()
    }

    /// Returns the loop that serves this connection.
    pub fn ioloop(&self) -> LoopHandle<S> {
        LoopHandle(self.0.bell.clone())
    }

    /// Called when the connection is open, beside the callback that it was opened with.
    pub fn add_on_open_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Open, move |state, connection, _| callback(state, connection).outcome())
    }

    /// Called when the connection cannot be opened.
    pub fn add_on_open_error_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Error) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::OpenError, move |state, connection, event| match event {
            Event::OpenError(error) => callback(state, connection, error).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the connection is closed, by whomever, after its channels' callbacks.
    pub fn add_on_close_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Error) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Close, move |state, connection, event| match event {
            Event::Close(error) => callback(state, connection, error).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the broker stops accepting publishes, with its words.
    pub fn add_on_connection_blocked_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &ShortString) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Blocked, move |state, connection, event| match event {
            Event::Blocked(reason) => callback(state, connection, reason).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the broker accepts publishes again.
    pub fn add_on_connection_unblocked_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Unblocked, move |state, connection, _| callback(state, connection).outcome())
    }

    /// Called when more octets wait to be written than `outbound_high_water`, with their number, and with 0 when they
    /// are written again.
    pub fn add_backpressure_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, usize) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let callback: Arc<EventCallback<S>> = Arc::new(move |state, source, event| match (source, event) {
            (Source::Connection(connection), Event::Backpressure(octets)) => {
                callback(state, connection, *octets).outcome()
            }
            (Source::Connection(connection), Event::Drained) => callback(state, connection, 0).outcome(),
            _ => Ok(()),
        });
        self.0.callbacks.add(0, Key::Backpressure, callback, Terms::persistent())
    }

    /// With [`backpressure_detection`](ConnectionParameters::backpressure_detection) the callbacks are called too when more
    /// octets wait to be written than so many average frames have: 10, if nothing else is said.
    pub fn set_backpressure_multiplier(&self, value: u32) {
        self.0.backpressure_multiplier.store(value, Ordering::Relaxed);
    }

    /// Returns the callbacks of this connection and its channels, pika's `connection.callbacks`: what the `add_…` methods
    /// have registered, by prefix (0 is the connection, otherwise the channel's number) and key.
    ///
    /// The loop asks for them with the event as the facts, and without a caller: a callback with
    /// [`only_caller`](Terms::only_caller) is for programs that [process](CallbackManager::process) keys of their own.
    ///
    /// ```no_run
    /// # use amqp_core::{ConnectionHandle, Event, EventCallback, callback::{Key, Terms}};
    /// # use std::sync::Arc;
    /// # fn example(connection: &ConnectionHandle) {
    /// let once: Arc<EventCallback<()>> = Arc::new(|(), _, event| {
    ///     println!("channel 1: {event:?}");
    ///     Ok(())
    /// });
    /// connection.callbacks().add(1, Key::Close, once, Terms::one_shot());
    /// assert_eq!(connection.callbacks().pending(1, Key::Close), Some(1));
    /// # }
    /// ```
    pub fn callbacks(&self) -> &CallbackManager<EventCallback<S>> {
        &self.0.callbacks
    }

    /// Takes back what an `add_…` method has registered; false if it is not there any more.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.0.callbacks.remove(id)
    }

    fn on(
        &self,
        key: Key,
        callback: impl Fn(&mut S, &Self, &Event) -> Result<()> + Send + Sync + 'static,
    ) -> CallbackId {
        let callback = Arc::new(move |state: &mut S, source: &Source<S>, event: &Event| match source {
            Source::Connection(connection) => callback(state, connection, event),
            Source::Channel(_) => Ok(()),
        });
        self.0.callbacks.add(0, key, callback, Terms::persistent())
    }
}

impl<S: 'static> ConnectionHandle<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>) -> Self {
        shared.keep();
        Self(shared, Counted)
    }
}

impl<S: 'static> Clone for ConnectionHandle<S> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<S: 'static> Drop for ConnectionHandle<S> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<S: 'static> fmt::Debug for ConnectionHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionHandle({})", self.endpoint())
    }
}
