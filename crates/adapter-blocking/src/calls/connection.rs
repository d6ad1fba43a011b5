//! A connection whose calls wait.

use super::channel::BlockingChannel;
use crate::drive::{engine::Engine, weight};
use amqp_core::{
    CallbackId, CloseConnection, ConnectionHandle, ConnectionParameters, Error, OpenChannel, Outcome, Result, Secret,
    ShortString, Table, TimeoutId,
};
use std::{
    fmt,
    future::{Future, IntoFuture},
    sync::Arc,
    time::{Duration, Instant},
};

/// A connection for threads that wait: pika's `BlockingConnection`. It can be shared by any number of threads.
///
/// Dropped, it says goodbye without waiting for an answer, and its channels cannot be used any more; what was published
/// without a confirm may then be lost. [`close`](Self::close) it to be sure. What [`BlockingChannel::connection`] gives can
/// be dropped at any time.
///
/// A process that forks leaves its connections to the parent: the child opens its own.
pub struct BlockingConnection {
    engine: Arc<Engine>,
    /// Whether it has opened the connection, which then ends with it.
    opened: bool,
}

impl BlockingConnection {
    /// Opens a connection and waits for it, `stack_timeout` at most for each attempt.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn open(parameters: ConnectionParameters) -> Result<Self> {
        Ok(Self { engine: Engine::open(parameters, true)?, opened: true })
    }

    /// Returns a connection without a keeper while no thread waits: what tests compare with.
    #[doc(hidden)]
    pub fn open_without_keeper(parameters: ConnectionParameters) -> Result<Self> {
        Ok(Self { engine: Engine::open(parameters, false)?, opened: true })
    }

    /// The connection of a channel, which stays open when this one is dropped.
    pub(crate) fn of(engine: &Arc<Engine>) -> Self {
        Self { engine: engine.clone(), opened: false }
    }

    /// Opens a channel [§1.5.2.1].
    pub fn channel(&self) -> OpenBlockingChannel<'_> {
        OpenBlockingChannel { engine: &self.engine, open: self.engine.connection.channel() }
    }

    /// Closes the connection [§1.4.2.10]: everything that was called before goes out first, channels end with it.
    pub fn close(&self) -> CloseBlockingConnection<'_> {
        CloseBlockingConnection { engine: &self.engine, close: self.engine.connection.close() }
    }

    /// Replaces the secret of the credentials before it expires (RabbitMQ; OAuth 2 for example), and waits for the answer.
    ///
    /// # Errors
    /// The broker did not answer: the reason.
    pub fn update_secret(&self, new_secret: impl Into<Secret>, reason: impl Into<ShortString>) -> Result<()> {
        self.block_on(self.engine.connection.update_secret(new_secret, reason).into_future())?.map(drop)
    }

    /// Returns whether it can be used.
    pub fn is_open(&self) -> bool {
        self.engine.connection.is_open()
    }

    /// Returns whether it is over.
    pub fn is_closed(&self) -> bool {
        self.engine.connection.is_closed()
    }

    /// Returns why it is closed; `None` before.
    pub fn close_reason(&self) -> Option<Error> {
        self.engine.connection.close_reason()
    }

    /// Returns the broker's server properties.
    pub fn server_properties(&self) -> Option<&Table> {
        self.engine.connection.server_properties()
    }

    /// Returns whether the broker says that it can do this, `basic.nack` for example.
    #[doc(alias = "server_capabilities")]
    pub fn has_capability(&self, name: &str) -> bool {
        self.engine.connection.has_capability(name)
    }

    /// Waits until there is something for callbacks, for `time_limit` at most (`None` is for ever, zero is not at all), and
    /// calls them: consumers, timers, [`add_callback_threadsafe`](Self::add_callback_threadsafe). Within a callback it reads
    /// and writes, and calls nothing.
    ///
    /// # Errors
    /// The error of a callback; those after it are called next time; why the connection is closed.
    pub fn process_data_events(&self, time_limit: impl Into<Option<Duration>>) -> Result<()> {
        let deadline = time_limit.into().and_then(|limit| Instant::now().checked_add(limit));
        self.engine.process(deadline, &mut || false)?;
        match self.close_reason() {
            Some(reason) if self.engine.inbox.is_empty() => Err(reason),
            _ => Ok(()),
        }
    }

    /// Processes events for so long: pika's `sleep`.
    ///
    /// # Errors
    /// As [`process_data_events`](Self::process_data_events).
    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now().checked_add(duration);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            self.process_data_events(left)?;
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(());
            }
        }
    }

    /// Calls `callback` once, `delay` from now, when events are processed.
    ///
    /// # Errors
    /// The operating system's, about waiting.
    pub fn call_later<R: Outcome>(
        &self,
        delay: Duration,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<TimeoutId> {
        self.engine.call_later(delay, Box::new(move || callback().outcome()))
    }

    /// Returns the same, by pika's older name.
    ///
    /// # Errors
    /// As [`call_later`](Self::call_later).
    pub fn add_timeout<R: Outcome>(
        &self,
        delay: Duration,
        callback: impl FnOnce() -> R + Send + 'static,
    ) -> Result<TimeoutId> {
        self.call_later(delay, callback)
    }

    /// Takes a timer back; false if it has been called or removed already.
    pub fn remove_timeout(&self, id: TimeoutId) -> bool {
        self.engine.remove_timeout(id)
    }

    /// Has `callback` called by the thread that processes events. A thread that waits in
    /// [`process_data_events`](Self::process_data_events) does so at once.
    pub fn add_callback_threadsafe<R: Outcome>(&self, callback: impl FnOnce() -> R + Send + 'static) {
        self.engine.inbox.call(None, Box::new(move || callback().outcome()));
        self.engine.look_again();
    }

    /// Called when the broker stops accepting publishes, with its words.
    pub fn add_on_connection_blocked_callback<R: Outcome>(
        &self,
        callback: impl Fn(&ShortString) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let (inbox, callback) = (self.engine.inbox.clone(), Arc::new(callback));
        self.engine.connection.add_on_connection_blocked_callback(move |(), connection, reason| {
            let (callback, reason) = (callback.clone(), reason.clone());
            inbox.event(connection, weight::name(&reason), Box::new(move || callback(&reason).outcome()));
        })
    }

    /// Called when the broker accepts publishes again.
    pub fn add_on_connection_unblocked_callback<R: Outcome>(
        &self,
        callback: impl Fn() -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let (inbox, callback) = (self.engine.inbox.clone(), Arc::new(callback));
        self.engine.connection.add_on_connection_unblocked_callback(move |(), connection| {
            let callback = callback.clone();
            inbox.event(connection, 0, Box::new(move || callback().outcome()));
        })
    }

    /// Takes back what an `add_…` method has registered; false if it is not there any more.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.engine.connection.remove_callback(id)
    }

    /// Drives the connection until the future is ready: for what is written with `.await`, on [`handle`](Self::handle).
    ///
    /// # Errors
    /// The operating system's, about waiting.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        self.engine.block_on(future)
    }

    /// What dropping it does.
    #[doc(hidden)]
    pub fn abandon(&self) {
        if self.is_open() {
            let _ = self.engine.connection.close().send();
            let _ = self.engine.tend(false);
        }
        self.engine.close();
    }

    /// Returns the connection as other adapters have it, whose requests can be awaited. Callbacks that are given to it run on
    /// whichever thread drives, perhaps the keeper: give them to [`BlockingChannel`] instead.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.engine.connection
    }
}

impl Drop for BlockingConnection {
    fn drop(&mut self) {
        if self.opened {
            self.abandon();
        }
    }
}

impl fmt::Debug for BlockingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocking{:?}", self.engine.connection)
    }
}

/// channel.open, to be sent.
#[must_use = "nothing is sent before call()"]
#[derive(Debug)]
pub struct OpenBlockingChannel<'a> {
    engine: &'a Arc<Engine>,
    open: OpenChannel,
}

impl OpenBlockingChannel<'_> {
    /// Sets the channel's number, instead of the lowest that is free.
    pub fn channel_number(mut self, number: u16) -> Self {
        self.open = self.open.channel_number(number);
        self
    }

    /// Opens the channel and waits for the broker's answer.
    ///
    /// # Errors
    /// Why there is no channel.
    pub fn call(self) -> Result<BlockingChannel> {
        let channel = self.engine.block_on(self.open.into_future())??;
        Ok(BlockingChannel::new(self.engine, channel))
    }
}

/// connection.close, to be sent.
#[must_use = "nothing is sent before call()"]
#[derive(Debug)]
pub struct CloseBlockingConnection<'a> {
    engine: &'a Arc<Engine>,
    close: CloseConnection,
}

impl CloseBlockingConnection<'_> {
    /// Sets the reply code, 200 otherwise.
    pub fn reply_code(mut self, code: u16) -> Self {
        self.close = self.close.reply_code(code);
        self
    }

    /// Sets the reply text, `Normal shutdown` otherwise.
    pub fn reply_text(mut self, text: impl Into<ShortString>) -> Self {
        self.close = self.close.reply_text(text);
        self
    }

    /// Closes the connection and waits for the broker's answer, `close_timeout` at most.
    ///
    /// # Errors
    /// It has ended otherwise already, or the broker did not answer: the reason. A second close is none.
    pub fn call(self) -> Result<()> {
        self.engine.block_on(self.close.into_future())?
    }
}
