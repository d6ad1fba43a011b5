//! What the operating system is asked of a TCP connection.

use std::time::Duration;

/// How the operating system finds out that a peer is gone: pika's `tcp_options`. What is `None` stays the system's.
///
/// Keepalive itself is always on, and so is TCP_NODELAY. A heartbeat finds out the same, and more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Silence before the first probe, in whole seconds, at least 1: TCP_KEEPIDLE.
    pub keep_idle: Option<Duration>,
    /// Between two probes, in whole seconds, at least 1: TCP_KEEPINTVL.
    pub keep_interval: Option<Duration>,
    /// Probes without an answer until the connection is dead, at least 1: TCP_KEEPCNT.
    pub keep_count: Option<u32>,
    /// How long what was sent may go without an acknowledgement, in whole milliseconds: TCP_USER_TIMEOUT. Linux and
    /// Android only; others leave it alone.
    pub user_timeout: Option<Duration>,
}
