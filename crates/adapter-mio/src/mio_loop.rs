//! A loop with a `mio::Poll` of its own.

use crate::embedded::{Embedded, Next};
use amqp_core::{Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, LoopHandle, Outcome, Result};
use mio::{Events, Poll, Token};
use std::io;

/// A loop on the thread that calls [`start`](IoLoop::start), for any number of connections.
#[derive(Debug)]
pub struct MioLoop<S: 'static = ()> {
    poll: Poll,
    events: Events,
    embedded: Embedded<S>,
}

/// A connection with a [`MioLoop`] of its own.
#[derive(Debug)]
pub struct MioConnection<S: 'static = ()> {
    ioloop: MioLoop<S>,
    handle: ConnectionHandle<S>,
}

/// Events that one wait gives at most; the others come with the next.
const EVENTS: usize = 256;

impl<S: 'static> MioLoop<S> {
    /// Returns a loop without connections, which [`LoopHandle::connect`] makes.
    ///
    /// # Errors
    /// The operating system refuses to make a poll.
    pub fn new() -> Result<Self> {
        let poll = Poll::new().map_err(|error| failed("making a mio poll", error))?;
        let embedded = Embedded::new(poll.registry(), Token(0))?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS), embedded })
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    Error::Io { what: what.into(), cause: error.into() }
}

impl<S: 'static> IoLoop<S> for MioLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.embedded.handle()
    }

    fn start(&mut self, state: &mut S) -> Result<()> {
        while let Next::Wait(timeout) = self.embedded.turn(state)? {
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(failed("waiting for sockets", error));
                }
                _ => {}
            }
            for event in &self.events {
                self.embedded.ready(event);
            }
        }
        Ok(())
    }
}

impl<S: 'static> Connection<S> for MioConnection<S> {
    type Loop = MioLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let ioloop = MioLoop::new()?;
        let handle = ioloop.handle().connect(parameters).then(on_open);
        Ok(Self { ioloop, handle })
    }

    fn ioloop(&mut self) -> &mut MioLoop<S> {
        &mut self.ioloop
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.handle
    }
}
