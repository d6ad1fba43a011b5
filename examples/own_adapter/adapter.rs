//! An adapter on poll(2), as one of your own could be: `docs/writing-an-adapter.md` walks through it.

use pooka::adapter::hub::{Hub, Interest, Network, Token, Turn};
use pooka::{Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, LoopHandle, Result, request::Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::{collections::BTreeMap, os::fd::OwnedFd, os::unix::net::UnixStream, sync::Arc, task::Wake, time::Instant};

/// What is watched, by token, and for what: a second descriptor of each socket, and the waker's.
struct Sockets(BTreeMap<usize, (OwnedFd, PollFlags)>);

impl Network for Sockets {
    type Socket = TcpStream;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        pooka_sockets::resolve(host, port, then);
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<TcpStream> {
        let socket = pooka_sockets::connect(address)?;
        self.watch(&socket, token, Interest::CONNECT)?;
        Ok(socket)
    }

    fn connected(&mut self, socket: &TcpStream) -> io::Result<bool> {
        pooka_sockets::connected(socket)
    }

    fn watch(&mut self, socket: &TcpStream, token: Token, interest: Interest) -> io::Result<()> {
        let read = if interest.readable { PollFlags::IN } else { PollFlags::empty() };
        let write = if interest.writable { PollFlags::OUT } else { PollFlags::empty() };
        self.0.insert(token.0, (socket.try_clone()?.into(), read | write));
        Ok(())
    }

    fn forget(&mut self, _: TcpStream, token: Token) {
        self.0.remove(&token.0);
    }
}

/// What ends a wait from another thread: an octet for the other end of a pair of sockets.
struct SocketWaker(UnixStream);

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        let _ = (&self.0).write(&[1]); // without room for it there are others already
    }
}

/// A loop on the thread that calls `start`.
pub(crate) struct OwnLoop<S: 'static> {
    hub: Hub<S, Sockets>,
    waker: Arc<SocketWaker>,
    woken: UnixStream,
}

impl<S: 'static> OwnLoop<S> {
    fn new() -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        let watched = [(usize::MAX, (woken.try_clone()?.into(), PollFlags::IN))];
        Ok(Self { hub: Hub::new(Sockets(watched.into())), waker: Arc::new(SocketWaker(waker)), woken })
    }

    /// Waits for sockets, the waker, or the time, and tells the hub which sockets are ready.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        // poll(2) tells of a hang-up even if nothing was asked for.
        let asked = self.hub.network().0.iter().filter(|(_, (_, flags))| !flags.is_empty());
        let mut fds: Vec<_> = asked.clone().map(|(_, (socket, flags))| PollFd::new(socket, *flags)).collect();
        let timeout = until.and_then(|at| Timespec::try_from(at.saturating_duration_since(Instant::now())).ok());
        let polled = poll(&mut fds, timeout.as_ref());
        let told: Vec<_> = asked.map(|(token, _)| *token).zip(fds.iter().map(PollFd::revents)).collect();
        for (token, flags) in told.into_iter().filter(|(_, flags)| !flags.is_empty()) {
            // What is not room to write is seen by reading: octets, the end, an error.
            if !self.hub.ready(Token(token), flags != PollFlags::OUT) {
                let _ = self.woken.read(&mut [0; 64]);
            }
        }
        polled.map(drop).or_else(|error| if error == rustix::io::Errno::INTR { Ok(()) } else { Err(error.into()) })
    }
}

fn failed(error: io::Error) -> Error {
    Error::Io { what: "waiting for sockets".into(), cause: error.into() }
}

impl<S: 'static> IoLoop<S> for OwnLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.hub.handle()
    }

    fn start(&mut self, state: &mut S) -> Result<()> {
        loop {
            let waited = match self.hub.turn(&Instant::now, state)? {
                Turn::Over => return Ok(()),
                Turn::Sleep(until) if self.hub.may_sleep(self.waker.clone().into()) => self.wait(until),
                Turn::Again | Turn::Sleep(_) => self.wait(Some(Instant::now())),
            };
            self.hub.awake();
            waited.map_err(failed)?;
        }
    }
}

/// A connection with a loop of its own.
pub(crate) struct OwnConnection<S: 'static>(OwnLoop<S>, ConnectionHandle<S>);

impl<S: 'static> Connection<S> for OwnConnection<S> {
    type Loop = OwnLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let ioloop = OwnLoop::new().map_err(failed)?;
        let handle = ioloop.handle().connect(parameters).then(on_open);
        Ok(Self(ioloop, handle))
    }

    fn ioloop(&mut self) -> &mut OwnLoop<S> {
        &mut self.0
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.1
    }
}
