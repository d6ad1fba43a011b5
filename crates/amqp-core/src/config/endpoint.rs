//! Where a broker, or each node of a cluster, is; which is tried next, and what became of each.

use std::fmt;

/// A place to connect to. `Display` is `host:port`, the host in brackets where it is an IPv6 address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Nobody has chosen the port, so that it depends on TLS.
    pub(crate) by_default: bool,
}

impl Endpoint {
    /// An IPv6 address may stand in brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: bare(host.into()), port, by_default: false }
    }

    /// Name or address; an IPv6 address has no brackets here.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Eq for Endpoint {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port());
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

pub(crate) fn bare(host: String) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(String::from);
    bare.unwrap_or(host)
}

/// In which order several endpoints are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// As they are listed.
    #[default]
    Listed,
    /// Shuffled for each of the `connection_attempts`, so that many clients spread over a cluster.
    Random,
}
