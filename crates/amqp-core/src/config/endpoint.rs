//! Host and port of a broker, or of each node of a cluster, and the order in which they are tried.

use std::fmt;

/// Names a host and a port to connect to. `Display` is `host:port`, with brackets around an IPv6 address.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The port was not set, so that it depends on TLS.
    pub(crate) by_default: bool,
}

impl Endpoint {
    /// Returns the endpoint of this host and port. An IPv6 address may stand in brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: bare(host.into()), port, by_default: false }
    }

    /// Returns the name or address; an IPv6 address has no brackets here.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the TCP port.
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

/// Says in which order several endpoints are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// In the order of the list.
    #[default]
    Listed,
    /// In random order, anew for each of the `connection_attempts`, so that many clients spread over a cluster.
    Random,
}
