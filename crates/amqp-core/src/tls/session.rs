//! The filter: plaintext on the driver's side, ciphertext on the socket's.

use crate::{error::tls::TlsProblem, tls::ciphertext::Ciphertext};
use std::{
    fmt,
    io::{self, ErrorKind, IoSlice, Read, Write},
};

/// A TLS back end, with neither socket nor buffers for one.
pub(crate) trait Engine: Send {
    /// Goes on with the handshake and decrypts, as far as the ciphertext goes; answers of TLS's own are put into it.
    ///
    /// `into` is not empty, and an engine that has plaintext gives that before it takes more ciphertext.
    fn read(&mut self, ciphertext: &mut Ciphertext, into: &mut [u8]) -> Result<Plain, TlsProblem>;

    /// Encrypts some of this, at most about [`BATCH`] octets, and says how many. Not called before the handshake is done.
    fn write(&mut self, plaintext: &[IoSlice<'_>], ciphertext: &mut Ciphertext) -> Result<usize, TlsProblem>;

    /// Says goodbye.
    fn close(&mut self, ciphertext: &mut Ciphertext);

    fn is_handshaking(&self) -> bool;
}

/// What an [`Engine`] has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Octets(usize),
    /// More ciphertext is needed.
    Dry,
    /// The peer has said goodbye (close_notify).
    Closed,
}

/// A back end makes one for each connection.
pub(crate) trait Connector: Send + Sync {
    /// Begins the handshake. The peer's certificate has to be for `server_name`, a host name or an IP address.
    fn connect(&self, server_name: &str, ciphertext: &mut Ciphertext) -> Result<Box<dyn Engine>, TlsProblem>;
}

/// One connection's TLS. The first problem is final, and comes up at every further read.
pub(crate) struct Session {
    engine: Box<dyn Engine>,
    ciphertext: Ciphertext,
    greeted: bool,
    problem: Option<TlsProblem>,
    /// The next read has something to say, whatever the socket has.
    holds_back: bool,
}

/// Plaintext that is encrypted before the socket has to take it.
pub(crate) const BATCH: usize = 64 * 1024;

/// Reads of the socket in a row that bring no plaintext, before others have their turn.
const FRUITLESS: usize = 16;

/// Answers of TLS's own that a peer may make us keep by asking and never reading.
const UNREAD_ANSWERS: usize = 4 * BATCH;

impl Session {
    pub(crate) fn new(connector: &dyn Connector, server_name: &str) -> Result<Self, TlsProblem> {
        let mut ciphertext = Ciphertext::default();
        let engine = connector.connect(server_name, &mut ciphertext)?;
        Ok(Self { engine, ciphertext, greeted: false, problem: None, holds_back: false })
    }

    /// Plaintext, from the socket only if nothing is here: so a caller reads until this would block.
    ///
    /// Nothing means that the peer has said goodbye; a stream that ends without it is an error.
    pub(crate) fn read(&mut self, socket: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..FRUITLESS {
            match self.decrypt(into)? {
                Plain::Octets(n) => return Ok(n),
                Plain::Closed => return Ok(0),
                Plain::Dry => {}
            }
            match socket.read(self.ciphertext.incoming.space()) {
                Ok(0) => return Err(self.cut_off()),
                Ok(n) => self.received(n)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock && self.is_handshaking() => {
                    return Err(self.fail(TlsProblem::Interrupted(error.into())));
                }
                Err(error) => return Err(error),
            }
        }
        self.holds_back = true;
        Err(ErrorKind::WouldBlock.into())
    }

    /// As much as there is and fits.
    fn decrypt(&mut self, into: &mut [u8]) -> io::Result<Plain> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone().into());
        }
        self.holds_back = false;
        let mut n = 0;
        while let Some(rest) = into.get_mut(n..).filter(|rest| !rest.is_empty()) {
            match self.engine.read(&mut self.ciphertext, rest) {
                Ok(Plain::Octets(more)) => n += more,
                Ok(end) if n == 0 => return Ok(end),
                Ok(end) => {
                    self.holds_back = end == Plain::Closed;
                    break;
                }
                Err(problem) => {
                    let error = self.fail(problem);
                    if n == 0 {
                        return Err(error);
                    }
                    self.holds_back = true;
                    break;
                }
            }
        }
        if self.unwritten() > UNREAD_ANSWERS {
            return Err(self.fail(TlsProblem::Other("the peer asks without end and does not read".into())));
        }
        Ok(Plain::Octets(n))
    }

    fn received(&mut self, n: usize) -> io::Result<()> {
        self.ciphertext.incoming.filled(n);
        let first = self.ciphertext.incoming.unread().first();
        if !std::mem::replace(&mut self.greeted, true) && !first.is_some_and(|first| BEGINNINGS.contains(first)) {
            return Err(self.fail(TlsProblem::NotTls));
        }
        Ok(())
    }

    fn cut_off(&mut self) -> io::Error {
        if self.is_handshaking() {
            return self.fail(TlsProblem::HungUp);
        }
        io::Error::new(ErrorKind::UnexpectedEof, "the peer closed it without a word, not even TLS's close_notify")
    }

    fn fail(&mut self, problem: TlsProblem) -> io::Error {
        self.problem.get_or_insert(problem).clone().into()
    }

    /// Whether the next read has something to say, whatever the socket has: an end that came right behind plaintext. A read
    /// that would block says by it that it has seen a lot, and no plaintext. What did not fit into a buffer is not meant.
    pub(crate) fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// Encrypts some of it, when the socket has taken everything from before.
    pub(crate) fn write(&mut self, socket: &mut impl Write, plaintext: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush(socket)? || self.is_handshaking() || self.problem.is_some() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = match self.engine.write(plaintext, &mut self.ciphertext) {
            Ok(n) => n,
            Err(problem) => return Err(self.fail(problem)),
        };
        self.flush(socket)?;
        // A back end may have to hear something first.
        if n == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    /// Writes what is encrypted. False: the socket does not take it all.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.unwritten() > 0 {
            match socket.write(self.ciphertext.outgoing()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.ciphertext.wrote(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Says goodbye, if the socket takes it at once.
    pub(crate) fn close(&mut self, socket: &mut impl Write) {
        if self.problem.is_none() && !self.is_handshaking() {
            self.engine.close(&mut self.ciphertext);
        }
        // A close has no use for an error.
        let _ = self.flush(socket);
    }

    /// Octets of ciphertext that the socket did not take.
    pub(crate) fn unwritten(&self) -> usize {
        self.ciphertext.outgoing().len()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.engine.is_handshaking()
    }

    /// Whether there is something to give back.
    pub(crate) fn is_grown(&self) -> bool {
        self.ciphertext.is_grown()
    }

    /// Gives back what empty buffers hold.
    pub(crate) fn shrink(&mut self) {
        self.ciphertext.shrink();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("problem", &self.problem).finish_non_exhaustive()
    }
}

/// The types of the records that a server may begin with: an alert and the handshake [RFC 8446 §5.1].
const BEGINNINGS: [u8; 2] = [0x15, 0x16];

#[cfg(test)]
mod tests {
    use super::*;

    /// Is always up, encrypts nothing, and answers every octet with a kibibyte.
    struct Talkative;

    impl Engine for Talkative {
        fn read(&mut self, ciphertext: &mut Ciphertext, into: &mut [u8]) -> Result<Plain, TlsProblem> {
            match ciphertext.read(into) {
                Ok(n) => {
                    (0..n).for_each(|_| drop(ciphertext.write_all(&[0; 1024])));
                    Ok(Plain::Octets(n))
                }
                Err(_) => Ok(Plain::Dry),
            }
        }

        fn write(&mut self, plaintext: &[IoSlice<'_>], _: &mut Ciphertext) -> Result<usize, TlsProblem> {
            Ok(plaintext.iter().map(|piece| piece.len()).sum())
        }

        fn close(&mut self, _: &mut Ciphertext) {}

        fn is_handshaking(&self) -> bool {
            false
        }
    }

    /// A socket that takes nothing and gives nothing.
    struct Full;

    impl Read for Full {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn session() -> Session {
        Session {
            engine: Box::new(Talkative),
            ciphertext: Ciphertext::default(),
            greeted: false,
            problem: None,
            holds_back: false,
        }
    }

    /// What is not read would have to be kept.
    #[test]
    fn a_peer_that_asks_without_end_is_given_up() {
        let (mut session, mut into) = (session(), [0; 8]);
        let mut socket = io::repeat(BEGINNINGS[0]);
        let mut reads = 0;
        let error = loop {
            match session.read(&mut socket, &mut into) {
                Ok(_) => reads += 1,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("asks without end"), "{error}");
        assert_eq!(reads, UNREAD_ANSWERS / 1024 / into.len());
        let again = session.read(&mut socket, &mut into).unwrap_err();
        assert_eq!(again.to_string(), error.to_string(), "the first problem is final");
    }

    /// Understands everything, and it means nothing.
    struct Deaf;

    impl Engine for Deaf {
        fn read(&mut self, ciphertext: &mut Ciphertext, _: &mut [u8]) -> Result<Plain, TlsProblem> {
            let n = ciphertext.incoming.unread().len();
            ciphertext.incoming.take(n);
            Ok(Plain::Dry)
        }

        fn write(&mut self, _: &[IoSlice<'_>], _: &mut Ciphertext) -> Result<usize, TlsProblem> {
            Ok(0)
        }

        fn close(&mut self, _: &mut Ciphertext) {}

        fn is_handshaking(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_peer_that_says_nothing_at_length_does_not_keep_the_loop() {
        let mut session = Session { engine: Box::new(Deaf), ..session() };
        let blocked = session.read(&mut io::repeat(BEGINNINGS[0]), &mut [0]).unwrap_err();
        assert!(blocked.kind() == ErrorKind::WouldBlock && session.holds_back());
        let blocked = session.read(&mut Full, &mut [0]).unwrap_err();
        assert!(blocked.kind() == ErrorKind::WouldBlock && !session.holds_back());
    }

    #[test]
    fn nothing_more_is_encrypted_than_the_socket_takes() {
        let mut session = session();
        let mut into = [0; 1];
        assert_eq!(session.read(&mut &[0x16][..], &mut into).unwrap(), 1);
        let blocked = session.write(&mut Full, &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!((blocked.kind(), session.unwritten()), (ErrorKind::WouldBlock, 1024));
        let mut socket = vec![];
        assert_eq!(session.write(&mut socket, &[IoSlice::new(b"x")]).unwrap(), 1);
        assert_eq!(socket.len(), 1024);
    }
}
