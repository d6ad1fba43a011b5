//! The loop: it waits for sockets, the clock and other threads, and knows nothing else.

use crate::poller::{Poller, PollerKind, Readiness};
use amqp_core::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, LoopHandle, Outcome, Result, TcpOptions,
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
    events: Vec<Readiness>,
}

/// How long a [turn](SelectLoop::turn) may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Not at all.
    Now,
    /// Until then at most.
    At(Instant),
    /// Until there is something to do.
    Needed,
}

/// A connection with a [`SelectLoop`] of its own: pika's `SelectConnection`.
#[derive(Debug)]
pub struct SelectConnection<S: 'static = ()> {
    ioloop: SelectLoop<S>,
    handle: ConnectionHandle<S>,
}

impl<S: 'static> SelectLoop<S> {
    /// Returns a loop without connections, which [`LoopHandle::connect`] makes.
    ///
    /// # Errors
    /// There is no such poller here, or the operating system refuses to make one.
    pub fn new(poller: PollerKind) -> Result<Self> {
        let poller = Poller::new(poller)?;
        let waker = poller.waker();
        Ok(Self { hub: Hub::new(Sockets { poller }), waker, events: vec![] })
    }

    /// Returns which readiness call it sleeps in.
    pub fn poller(&mut self) -> PollerKind {
        self.hub.network().poller.kind()
    }

    /// One turn; then a sleep, if there is nothing more to do and `until` says until when. For programs and adapters that
    /// do other things between the turns; [`start`](IoLoop::start) is turn after turn until [`Turn::Over`].
    ///
    /// # Errors
    /// The error of a callback, the reason of an end for which no callback is registered, or the operating system's error of waiting.
    ///
    /// # Panics
    /// Resumes a panic of a callback.
    pub fn turn(&mut self, state: &mut S, until: impl FnOnce() -> Until) -> Result<Turn> {
        let turn = self.hub.turn(&Instant::now, state)?;
        match turn {
            Turn::Over => {}
            Turn::Again => self.wait(Some(Duration::ZERO))?,
            Turn::Sleep(own) => {
                let until = match until() {
                    Until::Now => return Ok(turn),
                    Until::At(limit) => Some(own.map_or(limit, |own| own.min(limit))),
                    Until::Needed => own,
                };
                if self.hub.may_sleep(self.waker.clone()) {
                    let waited = self.wait(until.map(|at| at.saturating_duration_since(Instant::now())));
                    self.hub.awake();
                    waited?;
                }
            }
        }
        Ok(turn)
    }

    /// Looks at the sockets without waiting for them; what is ready is served in the next turn.
    ///
    /// # Errors
    /// The operating system's.
    pub fn look(&mut self) -> Result<()> {
        self.wait(Some(Duration::ZERO))
    }

    /// Looks once more before the caller stops driving the loop; returns false if something came meanwhile. Afterwards `waker`
    /// is woken, once, when there is something to do; the sockets and the time that the last turn gave are not watched.
    pub fn rest(&mut self, waker: Waker) -> bool {
        self.hub.may_sleep(waker)
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
        while self.turn(state, || Until::Needed)? != Turn::Over {}
        Ok(())
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
        let handle = ioloop.handle().connect(parameters).then(on_open);
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

    fn tune(&mut self, socket: &TcpStream, options: &TcpOptions) -> io::Result<()> {
        pooka_sockets::tune(socket, options)
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
