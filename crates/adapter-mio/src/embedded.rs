//! A loop inside a program's own mio loop.

use amqp_core::{
    Error, LoopHandle, Result, TcpOptions,
    hub::{Hub, Interest, Network, Token, Turn},
};
use mio::{Registry, Waker, event::Event, net::TcpStream};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::Wake,
    time::{Duration, Instant},
};

/// A loop that a program drives with its own `mio::Poll`.
///
/// Before each wait take a [turn](Self::turn), wait for as long as it says, and give it each [event](Self::ready) that
/// is its own:
///
/// ```no_run
/// # use pooka_mio::{Embedded, Next};
/// # fn example(mut poll: mio::Poll) -> Result<(), Box<dyn std::error::Error>> {
/// let mut embedded = Embedded::<()>::new(poll.registry(), mio::Token(1000))?;
/// embedded.handle().connect("amqp://localhost".parse()?).then(|_, _, opened| opened);
/// let mut events = mio::Events::with_capacity(64);
/// while let Next::Wait(timeout) = embedded.turn(&mut ())? {
///     poll.poll(&mut events, timeout)?;
///     for event in &events {
///         if !embedded.ready(event) {
///             // one of the program's own
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Embedded<S: 'static = ()> {
    hub: Hub<S, Sockets>,
    first: mio::Token,
    waker: std::task::Waker,
}

/// What the program does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for events, for so long at most.
    Wait(Option<Duration>),
    /// Nothing: the loop was stopped; or its last connection is over, and no timer or post is pending.
    Over,
}

impl<S: 'static> Embedded<S> {
    /// Returns a loop without connections, which [`LoopHandle::connect`] makes. It uses the tokens from `first` on: one for being
    /// woken, and one for each socket, of which a connection has a few while it connects and one when it is open.
    ///
    /// # Errors
    /// The operating system refuses to make a waker.
    pub fn new(registry: &Registry, first: mio::Token) -> Result<Self> {
        let made = || -> io::Result<_> { Ok((registry.try_clone()?, Waker::new(registry, first)?)) };
        let (registry, waker) =
            made().map_err(|error| Error::Io { what: "making a mio waker".into(), cause: error.into() })?;
        let hub = Hub::new(Sockets { registry, first: first.0 + 1 });
        Ok(Self { hub, first, waker: std::task::Waker::from(Arc::new(PollWaker(waker))) })
    }

    /// Returns a handle to the loop. It is `Clone + Send + Sync`.
    pub fn handle(&self) -> LoopHandle<S> {
        self.hub.handle()
    }

    /// Does all that can be done without waiting, and says how long to wait.
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered. The next turn continues after it.
    ///
    /// # Panics
    /// Resumes a panic of a callback.
    pub fn turn(&mut self, state: &mut S) -> Result<Next> {
        self.hub.awake();
        Ok(match self.hub.turn(&Instant::now, state)? {
            Turn::Over => Next::Over,
            Turn::Sleep(until) if self.hub.may_sleep(self.waker.clone()) => {
                Next::Wait(until.map(|until| until.saturating_duration_since(Instant::now())))
            }
            Turn::Again | Turn::Sleep(_) => Next::Wait(Some(Duration::ZERO)),
        })
    }

    /// Takes an event; false if it is not one of this loop's.
    pub fn ready(&mut self, event: &Event) -> bool {
        let Some(index) = event.token().0.checked_sub(self.first.0) else { return false };
        let Some(socket) = index.checked_sub(1) else { return true };
        self.hub.ready(Token(socket), event.is_readable() || event.is_error() || event.is_read_closed())
    }
}

struct PollWaker(Waker);

impl Wake for PollWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only if the poll is broken, and then its wait says so.
        let _ = self.0.wake();
    }
}

/// mio's sockets: each is registered once, and its readiness is reported when it begins.
#[derive(Debug)]
struct Sockets {
    registry: Registry,
    /// The token of the first socket.
    first: usize,
}

impl Network for Sockets {
    type Socket = TcpStream;

    const EDGE_TRIGGERED: bool = true;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        pooka_sockets::resolve(host, port, then);
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let mut socket = TcpStream::from_std(pooka_sockets::connect(address)?);
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.registry.register(&mut socket, mio::Token(self.first + token.0), interest)?;
        Ok(socket)
    }

    fn tune(&mut self, socket: &TcpStream, options: &TcpOptions) -> io::Result<()> {
        pooka_sockets::tune(socket, options)
    }

    fn connected(&mut self, socket: &TcpStream) -> io::Result<bool> {
        pooka_sockets::connected(socket)
    }

    fn watch(&mut self, _: &TcpStream, _: Token, _: Interest) -> io::Result<()> {
        Ok(()) // for both, since it was registered
    }

    fn forget(&mut self, mut socket: TcpStream, _: Token) {
        // A socket that is closed next is no loss.
        let _ = self.registry.deregister(&mut socket);
    }
}
