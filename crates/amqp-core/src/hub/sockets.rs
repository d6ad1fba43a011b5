//! The sockets of a loop, each under a token that says whose it is.

use crate::{
    config::tcp_options::TcpOptions,
    hub::{Network, Token},
};
use slab::Slab;
use std::{io, net::SocketAddr};

/// An adapter's network, and the connection that each of its sockets belongs to.
pub(super) struct Sockets<N: Network> {
    pub(super) network: N,
    owners: Slab<usize>,
}

impl<N: Network> Sockets<N> {
    pub(super) fn new(network: N) -> Self {
        Self { network, owners: Slab::new() }
    }

    /// Whose socket this is; `None` if there is no such socket any more.
    #[inline]
    pub(super) fn owner(&self, Token(token): Token) -> Option<usize> {
        self.owners.get(token).copied()
    }

    /// Begins to connect.
    pub(super) fn connect(
        &mut self,
        owner: usize,
        address: SocketAddr,
        options: &TcpOptions,
    ) -> io::Result<(N::Socket, Token)> {
        let token = Token(self.owners.insert(owner));
        let socket = self.network.connect(address, token).inspect_err(|_| {
            self.owners.try_remove(token.0);
        })?;
        match self.network.tune(&socket, options) {
            Ok(()) => Ok((socket, token)),
            Err(error) => {
                self.forget(socket, token);
                Err(error)
            }
        }
    }

    /// The socket is not needed any more.
    pub(super) fn forget(&mut self, socket: N::Socket, token: Token) {
        self.owners.try_remove(token.0);
        self.network.forget(socket, token);
    }
}
