//! The loop as a future.

use crate::sockets::Sockets;
use amqp_core::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, LoopHandle, Outcome, Result,
    error::Misuse,
    task::{Clock, Served},
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::{Sleep, sleep_until},
};

/// A loop that a tokio runtime serves, for any number of connections.
///
/// [`run`](Self::run) is its future; [`start`](IoLoop::start) is for programs without a runtime. One loop is used in one
/// of the two ways only.
#[derive(Debug)]
pub struct TokioLoop<S: 'static = ()> {
    served: Served<S, Sockets, Timer>,
    used: Used,
}

/// How a loop is used: its sockets belong to the runtime that they were made in.
#[derive(Debug)]
enum Used {
    NotYet,
    Running,
    Started(Runtime),
}

/// A connection with a [`TokioLoop`] of its own.
///
/// A program that awaits needs nothing else than a handle: [`connect`](Self::connect).
#[derive(Debug)]
pub struct TokioConnection<S: 'static = ()> {
    ioloop: TokioLoop<S>,
    handle: ConnectionHandle<S>,
}

impl<S: 'static> TokioLoop<S> {
    /// Returns a loop without connections, which [`LoopHandle::connect`] makes. It needs no runtime yet.
    pub fn new() -> Self {
        Self { served: Served::new(|task| Sockets { task }, Timer::default()), used: Used::NotYet }
    }

    /// Serves until [`stop`](IoLoop::stop), until the last connection is over and no timer or post is pending, or until a
    /// callback fails; it can be called again and continues where it was. It is `Send` if the state is, and dropping it loses nothing.
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered.
    ///
    /// # Panics
    /// Resumes a panic of a callback. Without a runtime whose I/O and time are enabled, tokio panics.
    pub async fn run(&mut self, state: &mut S) -> Result<()> {
        if let Used::Started(_) = self.used {
            return Err(Misuse::RunAfterStart.into());
        }
        self.used = Used::Running;
        self.served.run(state).await
    }
}

impl<S: 'static> Default for TokioLoop<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: 'static> IoLoop<S> for TokioLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.served.handle()
    }

    /// Serves on a current-thread runtime that the loop makes for itself and keeps.
    fn start(&mut self, state: &mut S) -> Result<()> {
        if Handle::try_current().is_ok() {
            return Err(Misuse::StartInsideRuntime.into());
        }
        let runtime = match std::mem::replace(&mut self.used, Used::NotYet) {
            Used::Started(runtime) => runtime,
            Used::NotYet => Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
                .map_err(|error| Error::Io { what: "making a tokio runtime".into(), cause: error.into() })?,
            Used::Running => {
                self.used = Used::Running;
                return Err(Misuse::StartAfterRun.into());
            }
        };
        // Put back also when a callback panics, because the sockets belong to it.
        let mut started = Started { ioloop: self, runtime: Some(runtime) };
        started.serve(state)
    }
}

struct Started<'a, S: 'static> {
    ioloop: &'a mut TokioLoop<S>,
    runtime: Option<Runtime>,
}

impl<S: 'static> Started<'_, S> {
    fn serve(&mut self, state: &mut S) -> Result<()> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(self.ioloop.served.run(state)),
            None => Err(Error::LoopGone),
        }
    }
}

impl<S: 'static> Drop for Started<'_, S> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.ioloop.used = Used::Started(runtime);
        }
    }
}

impl<S: 'static> TokioConnection<S> {
    /// Serves the connection; see [`TokioLoop::run`].
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered.
    ///
    /// # Panics
    /// As [`TokioLoop::run`].
    pub async fn run(&mut self, state: &mut S) -> Result<()> {
        self.ioloop.run(state).await
    }
}

impl TokioConnection {
    /// Opens a connection and spawns the task that serves it, on the runtime that this is called in.
    ///
    /// The task ends with the connection: [`close`](ConnectionHandle::close) it, or drop the handles of it and of its channels,
    /// whereupon it closes itself. A panic of a callback closes the
    /// callback's channel, and the task continues.
    ///
    /// It is a task among the runtime's others: one that blocks its thread (work for `spawn_blocking`) can keep this one
    /// from running, and heartbeats from being sent.
    ///
    /// # Errors
    /// Why there is no connection.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(parameters: ConnectionParameters) -> Result<ConnectionHandle> {
        let (connecting, driver) = Self::pair(parameters);
        tokio::spawn(driver);
        connecting.await
    }

    /// Returns the connection and the task that serves it, for the caller to spawn: the first future gives the connection while the second is polled.
    /// Dropping or aborting the second ends the connection at once, and answers all pending requests.
    pub fn pair(
        parameters: ConnectionParameters,
    ) -> (
        impl Future<Output = Result<ConnectionHandle>> + Send + 'static,
        impl Future<Output = Result<()>> + Send + 'static,
    ) {
        TokioLoop::new().served.pair(parameters)
    }
}

impl<S: 'static> Connection<S> for TokioConnection<S> {
    type Loop = TokioLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let ioloop = TokioLoop::new();
        let handle = ioloop.handle().connect(parameters).then(on_open);
        Ok(Self { ioloop, handle })
    }

    fn ioloop(&mut self) -> &mut TokioLoop<S> {
        &mut self.ioloop
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.handle
    }
}

/// tokio's clock, and one timer that is set again and again.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Clock for Timer {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn poll_until(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let until = until.into();
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }
}
