//! The broker for tests that do it no harm.

use crate::RabbitNode;
use std::{env, io, sync::OnceLock};

/// The URL of a broker to be shared: `AMQP_URL`, as `./run test` sets it, or else one node for this whole process.
///
/// Others use it at the same time. Who wants to stop, kill or command a broker starts a [`RabbitNode`].
pub fn broker_url() -> io::Result<String> {
    given("AMQP_URL").map_or_else(|| node().map(RabbitNode::url), Ok)
}

/// The same over TLS: `AMQPS_URL`, or else that node.
pub fn tls_broker_url() -> io::Result<String> {
    given("AMQPS_URL").map_or_else(|| node().map(RabbitNode::tls_url), Ok)
}

fn given(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|url| !url.is_empty())
}

/// Never dropped: the node ends with the process.
fn node() -> io::Result<&'static RabbitNode> {
    static NODE: OnceLock<Result<RabbitNode, String>> = OnceLock::new();
    let node = NODE.get_or_init(|| RabbitNode::start().map_err(|error| error.to_string()));
    node.as_ref().map_err(|error| io::Error::other(error.clone()))
}
