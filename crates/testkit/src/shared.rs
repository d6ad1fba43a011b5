//! The broker for tests that do it no harm.

use std::sync::OnceLock;
use std::{env, io};

use crate::RabbitNode;

/// The URL of a broker to be shared: `AMQP_URL`, as `./run test` sets it, or else one node for this whole process.
///
/// Others use it at the same time. Who wants to stop, kill or command a broker starts a [`RabbitNode`].
pub fn broker_url() -> io::Result<String> {
    if let Some(url) = env::var("AMQP_URL").ok().filter(|url| !url.is_empty()) {
        return Ok(url);
    }
    // Never dropped: the node ends with the process.
    static NODE: OnceLock<Result<RabbitNode, String>> = OnceLock::new();
    match NODE.get_or_init(|| RabbitNode::start().map_err(|error| error.to_string())) {
        Ok(node) => Ok(node.url()),
        Err(error) => Err(io::Error::other(error.clone())),
    }
}
