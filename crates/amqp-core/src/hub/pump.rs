//! The only code that moves octets between a socket and a driver.

use crate::{driver::Driver, hub::stream::Stream};
use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    time::Instant,
};

/// How a read ended.
#[derive(Debug)]
pub(crate) enum Filled {
    /// There is nothing more for now.
    Empty,
    /// There may be more, which an edge-triggered poller will not say again.
    More,
    /// There may be more, and what there was meant nothing: that is silence, too.
    Fruitless,
    /// The stream has ended.
    End(Option<io::Error>),
}

/// Reads once.
pub(crate) fn fill<S: 'static>(
    driver: &mut Driver<S>,
    stream: &mut Stream<impl Read + Write>,
    edge: bool,
    now: Instant,
) -> Filled {
    loop {
        return match stream.read(driver.inbox().space()) {
            Ok(0) => Filled::End(None),
            Ok(n) => {
                driver.received(n, now);
                if edge || driver.inbox().is_full() || stream.holds_back() { Filled::More } else { Filled::Empty }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock && stream.holds_back() => Filled::Fruitless,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Filled::Empty,
            Err(error) => Filled::End(Some(error)),
        };
    }
}

/// Pieces in one write; more would not make it faster.
const PIECES: usize = 32;

/// Writes all that the stream takes, and what it has kept. An error says that nothing can be written any more.
pub(crate) fn flush<S: 'static>(
    driver: &mut Driver<S>,
    stream: &mut Stream<impl Read + Write>,
    now: Instant,
) -> io::Result<()> {
    loop {
        let outbox = driver.outgoing();
        if outbox.is_empty() {
            break;
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = outbox.pieces(&mut pieces);
        match stream.write_vectored(pieces.get(..count).unwrap_or_default()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => {
                driver.outgoing().wrote(n);
                driver.wrote(n, now);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    stream.flush()?;
    driver.weigh(stream.unwritten().unwrap_or(0), now);
    Ok(())
}
