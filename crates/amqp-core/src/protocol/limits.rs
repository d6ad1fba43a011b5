//! What both peers agree to, and what holds until then.

/// What both peers agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The highest channel number.
    pub(crate) channel_max: u16,
    /// Octets in a frame, its envelope included.
    pub(crate) frame_max: usize,
    /// Seconds; 0 is off.
    pub(crate) heartbeat: u16,
}

impl Limits {
    /// Before there are any.
    pub(crate) const PROVISIONAL: Self = Self { channel_max: 0, frame_max: PROVISIONAL_FRAME_MAX, heartbeat: 0 };
}

/// Octets that a peer may send in a frame before the size is agreed.
pub(crate) const PROVISIONAL_FRAME_MAX: usize = 128 * 1024;
