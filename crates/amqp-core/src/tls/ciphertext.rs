//! Octets between a TLS back end and the socket.

use crate::wire::inbox::Inbox;
use std::io::{self, ErrorKind, Read, Write};

/// Both directions. It never ends: a stream that does is the [session](super::Session)'s to judge, since back ends take an
/// end for a goodbye.
#[derive(Debug, Default)]
pub(crate) struct Ciphertext {
    /// What was read from the socket and is not yet understood.
    pub(crate) incoming: Inbox,
    outgoing: Vec<u8>,
    /// Octets of `outgoing` that are written.
    written: usize,
}

impl Ciphertext {
    /// What is to be written to the socket.
    pub(crate) fn outgoing(&self) -> &[u8] {
        self.outgoing.get(self.written..).unwrap_or_default()
    }

    /// The first `n` octets of [`outgoing`](Self::outgoing) have been written.
    pub(crate) fn wrote(&mut self, n: usize) {
        self.written += n;
        if self.written >= self.outgoing.len() {
            self.outgoing.clear();
            self.written = 0;
        }
    }

    /// Whether there is something to give back.
    pub(crate) fn is_grown(&self) -> bool {
        self.incoming.is_grown() || self.outgoing.capacity() > KEPT
    }

    /// Gives back what empty buffers hold.
    pub(crate) fn shrink(&mut self) {
        self.incoming.shrink();
        if self.outgoing.is_empty() {
            self.outgoing.shrink_to(KEPT);
        }
    }
}

/// Reads what came from the socket.
impl Read for Ciphertext {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = into.len().min(self.incoming.unread().len());
        if n == 0 && !into.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if let Some(into) = into.get_mut(..n) {
            into.copy_from_slice(self.incoming.take(n));
        }
        Ok(n)
    }
}

/// Appends to what goes to the socket.
impl Write for Ciphertext {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An empty buffer larger than this is given back when the connection is quiet.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_is_not_the_end() {
        let mut pipe = Ciphertext::default();
        assert_eq!(pipe.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_was_written_is_forgotten_and_given_back() {
        let mut pipe = Ciphertext::default();
        pipe.write_all(&[7; 100_000]).unwrap();
        pipe.wrote(99_999);
        pipe.shrink();
        assert_eq!(pipe.outgoing(), [7]);
        pipe.wrote(1);
        assert!(pipe.outgoing().is_empty() && pipe.is_grown());
        pipe.shrink();
        assert!(!pipe.is_grown());
    }
}
