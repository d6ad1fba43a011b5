//! Random octets that decisions are made of.

/// Octets, taken from the front; zeros when they are used up.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    octets: Vec<u8>,
    taken: usize,
}

impl Dice {
    pub(super) fn new(octets: &[u8]) -> Self {
        Self { octets: octets.to_vec(), taken: 0 }
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.taken >= self.octets.len()
    }

    pub(super) fn octet(&mut self) -> u8 {
        let octet = self.octets.get(self.taken).copied().unwrap_or(0);
        self.taken += 1;
        octet
    }

    /// A number from 0 up, less than `n`.
    pub(super) fn below(&mut self, n: u8) -> u8 {
        self.octet() % n.max(1)
    }

    /// True once in `n` times; false when there are no octets left.
    pub(super) fn once_in(&mut self, n: u8) -> bool {
        self.octet() % n.max(1) == n.max(1) - 1
    }

    /// At most `most` octets, and no more than there are.
    pub(super) fn octets(&mut self, most: u8) -> Vec<u8> {
        let length = usize::from(self.below(most.saturating_add(1)));
        let left = self.octets.get(self.taken..).unwrap_or_default();
        let octets = left.get(..length).unwrap_or(left).to_vec();
        self.taken += octets.len();
        octets
    }

    /// One of these, which are not none.
    pub(super) fn one_of<T: Clone>(&mut self, things: &[T]) -> Option<T> {
        let at = usize::from(self.octet()).checked_rem(things.len())?;
        things.get(at).cloned()
    }

    /// Takes one of these out.
    pub(super) fn take<T>(&mut self, things: &mut Vec<T>) -> Option<T> {
        let at = usize::from(self.octet()).checked_rem(things.len())?;
        Some(things.swap_remove(at))
    }
}
