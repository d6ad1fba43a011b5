//! Which address to try next, and when: every one that a name has, IPv6 and IPv4 in turn, under one deadline.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The addresses of one endpoint, in the order in which they are tried.
///
/// The next one is tried when one fails, or when it has not answered for [`STAGGER`] although it still may.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    addresses: VecDeque<SocketAddr>,
    next_at: Option<Instant>,
    running: usize,
    failures: Vec<(SocketAddr, io::Error)>,
}

/// RFC 8305 calls it the connection attempt delay.
const STAGGER: Duration = Duration::from_millis(250);

impl Dial {
    pub(crate) fn new(addresses: Vec<SocketAddr>, now: Instant) -> Self {
        Self { addresses: interleaved(addresses), next_at: Some(now), running: 0, failures: vec![] }
    }

    /// An address whose time has come.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.next_at.is_none_or(|at| at > now) {
            return None;
        }
        let address = self.addresses.pop_front();
        self.running += usize::from(address.is_some());
        self.next_at = if self.addresses.is_empty() { None } else { now.checked_add(STAGGER) };
        address
    }

    /// An attempt has failed: the next one starts at once.
    pub(crate) fn failed(&mut self, address: SocketAddr, error: io::Error, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.failures.push((address, error));
        if !self.addresses.is_empty() {
            self.next_at = Some(now);
        }
    }

    /// When the next address is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Whether all have failed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.running == 0 && self.addresses.is_empty()
    }

    /// Why some have failed.
    pub(crate) fn failures(&mut self) -> Vec<(SocketAddr, io::Error)> {
        std::mem::take(&mut self.failures)
    }
}

/// IPv6 and IPv4 in turn, beginning with what the resolver put first.
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return VecDeque::new() };
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) = (VecDeque::new(), VecDeque::new());
    for address in addresses {
        let list = if address.is_ipv6() == first { &mut ours } else { &mut others };
        if !list.contains(&address) {
            list.push_back(address);
        }
    }
    let mut all = VecDeque::new();
    while !(ours.is_empty() && others.is_empty()) {
        all.extend(ours.pop_front());
        all.extend(others.pop_front());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// F11
    #[test]
    fn families_take_turns_and_a_failure_starts_the_next_at_once() {
        let start = crate::clock_for_tests();
        let list = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::1]:1"].map(address).to_vec();
        let mut dial = Dial::new(list, start);
        assert_eq!(dial.next(start), Some(address("[::1]:1")));
        assert_eq!(dial.next(start), None);
        dial.failed(address("[::1]:1"), io::ErrorKind::ConnectionRefused.into(), start);
        assert_eq!(dial.next(start), Some(address("1.1.1.1:1")));
        assert_eq!(dial.poll_timeout(), Some(start + STAGGER));
        assert_eq!(dial.next(start + STAGGER), Some(address("[::2]:1")));
        assert!(!dial.is_exhausted());
        for failed in ["1.1.1.1:1", "[::2]:1"] {
            dial.failed(address(failed), io::ErrorKind::TimedOut.into(), start);
        }
        assert!(dial.is_exhausted());
        assert_eq!(dial.failures().len(), 3);
    }
}
