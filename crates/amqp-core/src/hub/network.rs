//! What an adapter provides.

use crate::config::tcp_options::TcpOptions;
use std::{io, net::SocketAddr};

/// What an adapter gives its hub: sockets, and a way to wait for them.
pub trait Network {
    /// A stream that never blocks.
    type Socket: io::Read + io::Write;

    /// Readiness is reported once, when it begins, so that everything has to be read.
    const EDGE_TRIGGERED: bool = false;

    /// Finds the addresses of a host, on another thread if that can take time.
    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>);

    /// Begins to connect. The socket is watched under `token` from now on, for being writable.
    ///
    /// # Errors
    /// The operating system's.
    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Self::Socket>;

    /// Asks the operating system for these options of a socket that has begun to connect.
    ///
    /// # Errors
    /// The operating system's.
    fn tune(&mut self, socket: &Self::Socket, options: &TcpOptions) -> io::Result<()> {
        let _ = (socket, options);
        Ok(())
    }

    /// Whether a socket that became ready is connected; false if it is still to come.
    ///
    /// # Errors
    /// It could not be connected.
    fn connected(&mut self, socket: &Self::Socket) -> io::Result<bool>;

    /// From now on the socket is watched for this.
    ///
    /// # Errors
    /// The operating system's.
    fn watch(&mut self, socket: &Self::Socket, token: Token, interest: Interest) -> io::Result<()>;

    /// A deadline is due: until it says that there is nothing, each read of the socket asks the system itself.
    ///
    /// That is for runtimes that remember what they were last told of a socket. One that was stopped with its program, or
    /// whose thread was kept busy, has not heard yet of what came meanwhile, and that would look like a silence of the peer's.
    fn doubt(&mut self, socket: &mut Self::Socket) {
        let _ = socket;
    }

    /// The socket is not needed any more.
    fn forget(&mut self, socket: Self::Socket, token: Token);
}

/// Names a socket between a hub and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub usize);

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// For something to read.
    pub readable: bool,
    /// For room to write.
    pub writable: bool,
}

impl Interest {
    /// For the outcome of connecting.
    pub const CONNECT: Self = Self { readable: false, writable: true };
}
