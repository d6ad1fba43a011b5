//! Octets that were read and not yet understood.

/// Where the socket is read into and frames are cut in place.
///
/// It begins small, grows when a read fills it, and is [given back](Self::shrink) when its connection is quiet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    octets: Vec<u8>,
    start: usize,
    end: usize,
    filled: bool,
    /// Octets that were moved within the buffer.
    #[cfg(test)]
    moved: usize,
}

const SMALL: usize = 4 * 1024;
/// Reads pay up to this size; larger ones only for a frame that needs it.
const LARGE: usize = 128 * 1024;

impl Inbox {
    /// Room for the next read; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 && self.octets.len() - self.end < self.octets.len() / 2 {
            #[cfg(test)]
            {
                self.moved += self.end - self.start;
            }
            self.octets.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let grown = LARGE.min(self.octets.len() * 4);
        if self.octets.is_empty() {
            self.octets.resize(SMALL, 0);
        } else if self.filled && grown > self.octets.len() {
            self.octets.resize(grown, 0);
        } else if self.end == self.octets.len() {
            // One frame that fills all there is: the frame cutter has checked its size against the negotiated limit.
            self.octets.resize(self.octets.len() * 2, 0);
        }
        self.filled = false;
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    /// `n` octets were read into [`space`](Self::space).
    pub(crate) fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.octets.len());
        self.filled = self.end == self.octets.len();
    }

    /// Whether the last read left no room, so that there is probably more.
    pub(crate) fn is_full(&self) -> bool {
        self.filled
    }

    pub(crate) fn unread(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or_default()
    }

    /// The next `n` unread octets, which are read by this.
    pub(crate) fn take(&mut self, n: usize) -> &[u8] {
        let from = self.start;
        self.start = (self.start + n).min(self.end);
        self.octets.get(from..self.start).unwrap_or_default()
    }

    /// Whether there is something to give back.
    pub(crate) fn is_grown(&self) -> bool {
        self.octets.len() > SMALL
    }

    /// Gives back what it grew; half a frame keeps what it needs.
    pub(crate) fn shrink(&mut self) {
        if self.start == self.end && self.is_grown() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inbox: &mut Inbox, octets: &[u8]) {
        for chunk in octets.chunks(1000) {
            let space = inbox.space();
            let n = chunk.len().min(space.len());
            space[..n].copy_from_slice(&chunk[..n]);
            inbox.filled(n);
            if n < chunk.len() {
                read(inbox, &chunk[n..]);
            }
        }
    }

    /// D-1
    #[test]
    fn what_was_read_comes_out_in_order_however_it_is_taken() {
        let octets: Vec<u8> = (0..300_000_u32).map(|n| (n * 31 % 251) as u8).collect();
        let mut inbox = Inbox::default();
        let mut out = Vec::new();
        for (n, chunk) in octets.chunks(7001).enumerate() {
            read(&mut inbox, chunk);
            let take = inbox.unread().len() * (n % 4) / 3;
            out.extend_from_slice(inbox.take(take));
        }
        let rest = inbox.unread().len();
        out.extend_from_slice(inbox.take(rest));
        assert!(out == octets);
    }

    /// D-1
    #[test]
    fn more_than_there_is_cannot_be_taken() {
        let mut inbox = Inbox::default();
        read(&mut inbox, b"ab");
        assert_eq!(inbox.take(3), b"ab");
        read(&mut inbox, b"c");
        assert_eq!(inbox.unread(), b"c", "nothing of what comes next is lost");
    }

    #[test]
    fn it_grows_when_reads_fill_it_and_is_given_back() {
        let mut inbox = Inbox::default();
        let mut sizes = vec![];
        for _ in 0..6 {
            let n = inbox.space().len();
            sizes.push(n);
            inbox.filled(n);
            inbox.take(n);
        }
        assert_eq!(sizes, [4096, 16_384, 65_536, 131_072, 131_072, 131_072]);
        inbox.shrink();
        assert_eq!(inbox.octets.capacity(), 0);
    }

    /// Faults 38: what waits for the rest of its frame is not moved again and again.
    #[test]
    fn octets_are_moved_no_more_often_than_they_are_read_however_they_come() {
        for (chunk, frame) in [(1, 131_072), (7, 20_000), (1500, 131_072), (3, 5000)] {
            let mut inbox = Inbox::default();
            let mut read = 0;
            while read < 1 << 20 {
                let n = chunk.min(inbox.space().len());
                inbox.filled(n);
                read += n;
                while inbox.unread().len() >= frame {
                    inbox.take(frame);
                }
            }
            assert!(inbox.moved <= 2 * read, "{} of {read} in steps of {chunk}", inbox.moved);
        }
    }
}
