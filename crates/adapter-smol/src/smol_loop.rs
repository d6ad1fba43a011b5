//! The loop as a future.

use crate::sockets::Sockets;
use amqp_core::{
    Connection, ConnectionHandle, ConnectionParameters, IoLoop, LoopHandle, Outcome, Result,
    task::{Clock, Served},
};
use async_io::Timer;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

/// A loop that any executor serves, for any number of connections; its sockets and its timer are async-io's.
#[derive(Debug)]
pub struct SmolLoop<S: 'static = ()> {
    served: Served<S, Sockets, DeadlineTimer>,
}

/// A connection with a [`SmolLoop`] of its own.
///
/// A program that awaits needs nothing else than a handle: [`pair`](Self::pair).
#[derive(Debug)]
pub struct SmolConnection<S: 'static = ()> {
    ioloop: SmolLoop<S>,
    handle: ConnectionHandle<S>,
}

impl<S: 'static> SmolLoop<S> {
    /// Returns a loop without connections, which [`LoopHandle::connect`] makes.
    pub fn new() -> Self {
        Self { served: Served::new(|task| Sockets { task }, DeadlineTimer::default()) }
    }

    /// Serves until [`stop`](IoLoop::stop), until the last connection is over and no timer or post is pending, or until a
    /// callback fails; it can be called again and continues where it was. It is `Send` if the state is, and dropping it loses nothing.
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered.
    ///
    /// # Panics
    /// Resumes a panic of a callback.
    pub async fn run(&mut self, state: &mut S) -> Result<()> {
        self.served.run(state).await
    }
}

impl<S: 'static> Default for SmolLoop<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: 'static> IoLoop<S> for SmolLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.served.handle()
    }

    fn start(&mut self, state: &mut S) -> Result<()> {
        async_io::block_on(self.run(state))
    }
}

impl<S: 'static> SmolConnection<S> {
    /// Serves the connection; see [`SmolLoop::run`].
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered.
    ///
    /// # Panics
    /// As [`SmolLoop::run`].
    pub async fn run(&mut self, state: &mut S) -> Result<()> {
        self.ioloop.run(state).await
    }
}

impl SmolConnection {
    /// Returns a connection, and the future that serves it: spawn the second, then await the first.
    ///
    /// The second ends with the connection: [`close`](ConnectionHandle::close) it, or drop the handles of it and of its
    /// channels, whereupon it closes itself. Dropped earlier the second ends the connection at once, and answers all pending requests. A panic of a callback
    /// closes the callback's channel, and the connection stays open.
    pub fn pair(
        parameters: ConnectionParameters,
    ) -> (
        impl Future<Output = Result<ConnectionHandle>> + Send + 'static,
        impl Future<Output = Result<()>> + Send + 'static,
    ) {
        SmolLoop::new().served.pair(parameters)
    }
}

impl<S: 'static> Connection<S> for SmolConnection<S> {
    type Loop = SmolLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let ioloop = SmolLoop::new();
        let handle = ioloop.handle().connect(parameters).then(on_open);
        Ok(Self { ioloop, handle })
    }

    fn ioloop(&mut self) -> &mut SmolLoop<S> {
        &mut self.ioloop
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.handle
    }
}

/// One timer that is set again and again.
#[derive(Debug, Default)]
struct DeadlineTimer(Option<(Instant, Timer)>);

impl Clock for DeadlineTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll_until(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let (set, timer) = self.0.get_or_insert_with(|| (until, Timer::at(until)));
        if *set != until {
            timer.set_at(until);
            *set = until;
        }
        let rung = Pin::new(timer).poll(context).map(drop);
        if rung.is_ready() {
            self.0 = None;
        }
        rung
    }
}
