//! The loop: it waits for sockets, the clock and other threads, and knows nothing else.

use crate::poller::{Event, Poller, PollerKind};
use amqp_core::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, LoopHandle, Outcome, Result,
    hub::{Hub, Interest, Network, Token, Turn},
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    task::Waker,
    time::{Duration, Instant},
};

/// A loop on the thread that calls [`start`](IoLoop::start), for any number of connections.
#[derive(Debug)]
pub struct SelectLoop<S: 'static = ()> {
    hub: Hub<S, Sockets>,
    waker: Waker,
    events: Vec<Event>,
}

/// A connection with a [`SelectLoop`] of its own: pika's `SelectConnection`.
#[derive(Debug)]
pub struct SelectConnection<S: 'static = ()> {
    ioloop: SelectLoop<S>,
    handle: ConnectionHandle<S>,
}

impl<S: 'static> SelectLoop<S> {
    /// A loop without connections, which [`LoopHandle::connect`] makes.
    ///
    /// # Errors
    /// There is no such poller here, or the operating system refuses to make one.
    pub fn new(poller: PollerKind) -> Result<Self> {
        let poller = Poller::new(poller)?;
        let waker = poller.waker();
        Ok(Self { hub: Hub::new(Sockets { poller }), waker, events: vec![] })
    }

    /// Which readiness call it sleeps in.
    pub fn poller(&mut self) -> PollerKind {
        self.hub.network().poller.kind()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let waited = self.hub.network().poller.wait(timeout, &mut self.events);
        waited.map_err(|error| Error::Io { what: "waiting for sockets".into(), cause: error.into() })?;
        for event in self.events.drain(..) {
            self.hub.ready(Token(event.key), event.readable);
        }
        Ok(())
    }
}

impl<S: 'static> IoLoop<S> for SelectLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.hub.handle()
    }

    fn start(&mut self, state: &mut S) -> Result<()> {
        loop {
            match self.hub.turn(Instant::now(), state)? {
                Turn::Over => return Ok(()),
                Turn::Again => self.wait(Some(Duration::ZERO))?,
                Turn::Sleep(until) => {
                    if self.hub.may_sleep(self.waker.clone()) {
                        let waited = self.wait(until.map(|at| at.saturating_duration_since(Instant::now())));
                        self.hub.awake();
                        waited?;
                    }
                }
            }
        }
    }
}

impl<S: 'static> SelectConnection<S> {
    /// As [`open`](Connection::open), with this poller instead of the one that `POOKA_POLLER` names or the best there is.
    ///
    /// # Errors
    /// There is no such poller here, or the operating system refuses to make one.
    pub fn open_with<R: Outcome>(
        poller: PollerKind,
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let ioloop = SelectLoop::new(poller)?;
        let handle = ioloop.handle().connect(parameters, on_open);
        Ok(Self { ioloop, handle })
    }
}

impl<S: 'static> Connection<S> for SelectConnection<S> {
    type Loop = SelectLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        Self::open_with(PollerKind::Auto, parameters, on_open)
    }

    fn ioloop(&mut self) -> &mut SelectLoop<S> {
        &mut self.ioloop
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.handle
    }
}

/// Sockets of the standard library's, watched by a poller.
#[derive(Debug)]
struct Sockets {
    poller: Poller,
}

impl Network for Sockets {
    type Socket = TcpStream;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        pooka_sockets::resolve(host, port, then);
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let socket = pooka_sockets::connect(address)?;
        self.poller.add(&socket, token.0, Interest::CONNECT)?;
        Ok(socket)
    }

    fn connected(&mut self, socket: &TcpStream) -> io::Result<bool> {
        pooka_sockets::connected(socket)
    }

    fn watch(&mut self, socket: &TcpStream, token: Token, interest: Interest) -> io::Result<()> {
        self.poller.modify(socket, token.0, interest)
    }

    fn forget(&mut self, socket: TcpStream, token: Token) {
        // A socket that is closed next is no loss.
        let _ = self.poller.delete(&socket, token.0);
    }
}
