//! What pooka's tests need to meet a real broker: [`RabbitNode`], a RabbitMQ of their own.
//!
//! A node has its own name, data folder, epmd and loopback ports, so that any number of them live beside each other and beside
//! the system's broker. Whatever happens to the process that started it, no process of the node outlives it by more than a
//! moment.
#![forbid(unsafe_code)]

mod folder;
mod handshake;
mod installation;
mod leash;
mod lifeline;
mod ports;
mod rabbit_node;
mod shared;

pub use handshake::answers;
pub use lifeline::Lifeline;
pub use rabbit_node::RabbitNode;
pub use shared::broker_url;
