//! Noticing callbacks that take long.

use std::time::{Duration, Instant};

/// The time, whenever it is asked for: the adapter's.
pub(crate) type Now<'a> = &'a dyn Fn() -> Instant;

/// How far [`Driver::process`](super::Driver::process) has come.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Everything is handled.
    All,
    /// There is more, but first what was sent is to be written, and what is due is to be done: callbacks have taken long, or
    /// the last words are said.
    Halfway,
}

/// Measures callbacks without reading the clock after each: while they are quick, once in [`STRIDE`] calls; while one of
/// them is slow, after each.
pub(super) struct Pace {
    since: Instant,
    stride: u32,
    /// Calls until the clock is read.
    left: u32,
}

/// Callbacks that take longer together end the turn.
pub(crate) const SLOW: Duration = Duration::from_millis(5);

/// So many quick calls cost one look at the clock; so many slow ones, behind quick ones, go unnoticed at most.
const STRIDE: u32 = 16;

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, stride: 1, left: 1 }
    }

    /// Calls begin now, or have begun already.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = self.since.max(now);
    }

    /// When the clock was last read.
    pub(super) fn now(&self) -> Instant {
        self.since
    }

    /// A callback has been called.
    #[inline]
    pub(super) fn called(&mut self, clock: Now<'_>) -> Handled {
        self.left -= 1;
        if self.left > 0 { Handled::All } else { self.judge(clock) }
    }

    /// Nothing is left to be called.
    #[inline]
    pub(super) fn end(&mut self, clock: Now<'_>) -> Handled {
        if self.left == self.stride { Handled::All } else { self.judge(clock) }
    }

    #[cold]
    fn judge(&mut self, clock: Now<'_>) -> Handled {
        let now = clock();
        let took = now.saturating_duration_since(self.since);
        self.since = now;
        let handled = if took > SLOW { Handled::Halfway } else { Handled::All };
        self.stride = if handled == Handled::Halfway { 1 } else { STRIDE.min(self.stride * 2) };
        self.left = self.stride;
        handled
    }
}
