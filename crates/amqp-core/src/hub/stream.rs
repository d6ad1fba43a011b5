//! What a connection reads and writes: its socket, or TLS over it.

use crate::tls::Session;
use std::io::{self, IoSlice, Read, Write};

/// An error of TLS carries its [`TlsProblem`](crate::TlsProblem).
#[derive(Debug)]
pub(crate) enum Stream<T> {
    Plain(T),
    Tls(T, Box<Session>),
}

impl<T: Read + Write> Stream<T> {
    pub(crate) fn socket(&self) -> &T {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut T {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    /// Closes it, with a goodbye if TLS has one and the socket takes it.
    pub(crate) fn close(self) -> T {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(mut socket, mut session) => {
                session.close(&mut socket);
                socket
            }
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.is_handshaking())
    }

    /// Whether something waits here that no poller knows of, although the last read has not filled its buffer.
    #[inline]
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.holds_back())
    }

    /// Octets that wait here because the socket did not take them. `None`: whatever waits, waits elsewhere.
    pub(crate) fn unwritten(&self) -> Option<usize> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(_, session) => Some(session.unwritten()),
        }
    }

    /// Whether there is something to give back.
    pub(crate) fn is_grown(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.is_grown())
    }

    /// Gives back what empty buffers hold.
    pub(crate) fn shrink(&mut self) {
        if let Self::Tls(_, session) = self {
            session.shrink();
        }
    }
}

impl<T: Read> Read for Stream<T> {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(socket, session) => session.read(socket, into),
        }
    }
}

impl<T: Write> Write for Stream<T> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(octets)])
    }

    #[inline]
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(pieces),
            Self::Tls(socket, session) => session.write(socket, pieces),
        }
    }

    /// Nothing of a plain socket's waits here.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(socket, session) => session.flush(socket).map(drop),
        }
    }
}
