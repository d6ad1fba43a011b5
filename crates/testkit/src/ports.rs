//! Loopback ports that nobody uses.

use std::{io, net::TcpListener, ops::Range};

/// The ports of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    pub(crate) amqps: u16,
    /// Where rabbitmqctl talks to the node.
    pub(crate) distribution: u16,
    pub(crate) epmd: u16,
}

impl Ports {
    /// Free at this moment; somebody else may still be quicker.
    pub(crate) fn free() -> io::Result<Self> {
        let [amqp, amqps, distribution, epmd] = [bound()?, bound()?, bound()?, bound()?];
        Ok(Self { amqp: amqp.0, amqps: amqps.0, distribution: distribution.0, epmd: epmd.0 })
    }
}

/// One free port.
pub(crate) fn free() -> io::Result<u16> {
    bound().map(|(port, _)| port)
}

/// A port, and the listener that keeps it from being handed out twice.
///
/// It is not left to the system, whose choice lies among the ports of outgoing connections: a client that calls again and again
/// for a node that is down would in the end be given the node's port as its own, and be connected to itself.
fn bound() -> io::Result<(u16, TcpListener)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..100 {
        let port = fastrand::u16(RANGE);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok((port, listener)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

const RANGE: Range<u16> = 20_000..32_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_four_different_ports_outside_the_ephemeral_range() {
        let Ports { amqp, amqps, distribution, epmd } = Ports::free().unwrap();
        let ports = std::collections::BTreeSet::from([amqp, amqps, distribution, epmd]);
        assert_eq!(ports.len(), 4);
        assert!(ports.iter().all(|port| RANGE.contains(port)));
    }
}
