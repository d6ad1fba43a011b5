//! Options of the TCP socket.

use std::time::Duration;

/// Sets how the operating system detects a peer that is gone: pika's `tcp_options`. `None` keeps the system's default.
///
/// Keepalive itself is always on, and so is TCP_NODELAY. Heartbeats detect the same, and more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// The silence before the first probe, in whole seconds, at least 1: TCP_KEEPIDLE.
    pub keep_idle: Option<Duration>,
    /// The time between two probes, in whole seconds, at least 1: TCP_KEEPINTVL.
    pub keep_interval: Option<Duration>,
    /// The number of unanswered probes after which the connection is dead, at least 1: TCP_KEEPCNT.
    pub keep_count: Option<u32>,
    /// How long sent data may stay unacknowledged, in whole milliseconds: TCP_USER_TIMEOUT. Linux and Android only; ignored
    /// elsewhere.
    pub user_timeout: Option<Duration>,
}
