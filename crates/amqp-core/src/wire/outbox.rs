//! Octets that wait to be written: the outbound buffer, in which an adapter's author sees why a write has pieces.

use bytes::Bytes;
use std::{collections::VecDeque, io::IoSlice};

/// Frames in the order of the calls that made them.
///
/// Nearly everything is in one buffer; a large body that its owner shared is only referred to. A connection has its own,
/// which its hub writes; this is for who moves frames by himself.
///
/// ```
/// # use amqp_core::{frame::Frame, outbox::Outbox};
/// # use std::io::{IoSlice, Write};
/// # fn example(socket: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
/// let mut outbox = Outbox::default();
/// let mut heartbeat = vec![];
/// Frame::Heartbeat.encode(&mut heartbeat)?;
/// outbox.push(&heartbeat);
/// while !outbox.is_empty() {
///     let mut pieces = [IoSlice::new(&[]); 8];
///     let count = outbox.pieces(&mut pieces);
///     let written = socket.write_vectored(&pieces[..count])?;
///     outbox.wrote(written);
/// }
/// # Ok(())
/// # }
/// # let mut wire = vec![];
/// # example(&mut wire).unwrap();
/// # assert_eq!(wire, [8, 0, 0, 0, 0, 0, 0, 0xCE]);
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    octets: Vec<u8>,
    /// Bodies, each with the number of `octets` that go before it.
    bodies: VecDeque<(usize, Bytes)>,
    /// Octets of `octets` and of the first body that are written already.
    written: (usize, usize),
    /// Octets in `bodies`.
    referred: usize,
}

/// An empty buffer larger than this is given back when the connection is quiet.
const KEPT: usize = 1024;

impl Outbox {
    /// The buffer to encode into; only appending is allowed.
    pub(crate) fn octets(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// Appends a copy of these octets.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Appends a body without copying it.
    pub fn refer(&mut self, body: Bytes) {
        self.referred += body.len();
        self.bodies.push_back((self.octets.len(), body));
    }

    /// Appends what another outbox holds, of which nothing is written.
    pub(crate) fn append(&mut self, other: Self) {
        debug_assert_eq!(other.written, (0, 0));
        let before = self.octets.len();
        self.octets.extend_from_slice(&other.octets);
        self.bodies.extend(other.bodies.into_iter().map(|(at, body)| (before + at, body)));
        self.referred += other.referred;
    }

    /// The buffer from its first unwritten octet on, without the bodies that are only referred to.
    pub(crate) fn unwritten_octets(&self) -> &[u8] {
        self.octets.get(self.written.0..).unwrap_or_default()
    }

    /// These, and where in [`unwritten_octets`](Self::unwritten_octets) they are missing, if nothing of the first one is
    /// written.
    pub(crate) fn referred(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.bodies.iter().map(|(before, body)| (before - self.written.0, &body[..]))
    }

    /// Octets still to be written.
    pub fn len(&self) -> usize {
        self.octets.len() - self.written.0 + self.referred - self.written.1
    }

    /// Returns whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the first octets to write, in as few pieces as possible and no more than there is room for; says how many they are.
    pub fn pieces<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let (mut at, mut skip) = self.written;
        let mut count = 0;
        let mut add = |piece: &'a [u8]| {
            if piece.is_empty() {
                return true;
            }
            let Some(place) = into.get_mut(count) else { return false };
            *place = IoSlice::new(piece);
            count += 1;
            true
        };
        for (before, body) in &self.bodies {
            let head = self.octets.get(at..*before).unwrap_or_default();
            if !(add(head) && add(body.get(skip..).unwrap_or_default())) {
                return count;
            }
            at = *before;
            skip = 0;
        }
        add(self.octets.get(at..).unwrap_or_default());
        count
    }

    /// The first `n` octets have been written. Bodies that are through are dropped here, so no lock may be held.
    pub fn wrote(&mut self, n: usize) {
        let mut n = n.min(self.len());
        while let Some((before, body)) = self.bodies.front() {
            let head = n.min(before - self.written.0);
            self.written.0 += head;
            n -= head;
            let left = body.len() - self.written.1;
            if self.written.0 < *before || n < left {
                self.written.1 += n;
                return;
            }
            n -= left;
            self.referred -= body.len();
            self.written.1 = 0;
            self.bodies.pop_front();
        }
        self.written.0 += n;
        if self.written.0 == self.octets.len() {
            self.octets.clear();
            self.written.0 = 0;
        }
    }

    /// Whether there is something to give back.
    pub(crate) fn is_grown(&self) -> bool {
        self.octets.capacity() > KEPT
    }

    /// Gives back what an empty outbox holds.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.is_grown() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `n` octets at most, as a socket would.
    fn write(outbox: &mut Outbox, n: usize, wire: &mut Vec<u8>) {
        let mut pieces = [IoSlice::new(&[]); 3];
        let count = outbox.pieces(&mut pieces);
        let octets: Vec<u8> = pieces[..count].iter().flat_map(|piece| piece.to_vec()).take(n).collect();
        wire.extend_from_slice(&octets);
        outbox.wrote(octets.len());
    }

    /// D-1
    #[test]
    fn copied_and_referred_octets_leave_in_order_through_any_partial_write() {
        for step in 1..40 {
            let (mut outbox, mut wire) = (Outbox::default(), vec![]);
            let mut expected = vec![];
            for n in 0..20_u8 {
                outbox.octets().extend_from_slice(&[n; 5]);
                expected.extend_from_slice(&[n; 5]);
                if n % 3 == 0 {
                    outbox.refer(Bytes::from(vec![100 + n; 7]));
                    expected.extend_from_slice(&[100 + n; 7]);
                }
                if n % 4 == 0 {
                    write(&mut outbox, step, &mut wire);
                }
                assert_eq!(outbox.len(), expected.len() - wire.len());
            }
            while !outbox.is_empty() {
                write(&mut outbox, step, &mut wire);
            }
            assert_eq!(wire, expected, "in steps of {step}");
        }
    }

    /// D-1, faults 42.
    #[test]
    fn what_is_appended_keeps_its_bodies_in_their_places() {
        let (mut outbox, mut waiting, mut wire) = (Outbox::default(), Outbox::default(), vec![]);
        outbox.push(b"first,");
        outbox.refer(Bytes::from_static(b" a body"));
        waiting.push(b", then ");
        waiting.refer(Bytes::from_static(b"another"));
        waiting.push(b".");
        outbox.append(waiting);
        assert_eq!(outbox.len(), 28);
        while !outbox.is_empty() {
            write(&mut outbox, 3, &mut wire);
        }
        assert_eq!(wire, b"first, a body, then another.");
    }

    #[test]
    fn an_empty_outbox_keeps_nothing() {
        let mut outbox = Outbox::default();
        outbox.octets().resize(100_000, 0);
        outbox.shrink();
        assert_eq!(outbox.len(), 100_000);
        outbox.wrote(100_000);
        outbox.shrink();
        assert_eq!(outbox.octets.capacity(), 0);
    }
}
