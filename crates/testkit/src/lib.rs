//! What pooka's tests need: [`RabbitNode`], a real RabbitMQ of their own; a [`Proxy`] before it, which is the network that
//! fails; and the [`scripted_peer`], a broker in memory that says what a real one does not.
//!
//! A node has its own name, data folder, epmd and loopback ports, so that any number of them live beside each other and beside
//! the system's broker. Whatever happens to the process that started it, no process of the node outlives it by more than a
//! moment.
#![forbid(unsafe_code)]

mod authority;
mod folder;
pub mod fuzz;
mod handshake;
mod installation;
mod leash;
mod lifeline;
mod ports;
mod proxy;
mod rabbit_node;
pub mod scripted_peer;
mod scripted_tls;
mod shared;
mod watchdog;

pub use authority::{Authority, Issued};
pub use handshake::answers;
pub use lifeline::Lifeline;
pub use proxy::{Proxy, Way};
pub use rabbit_node::RabbitNode;
/// For [`Issued::server_config`], and for servers that are made of it.
pub use rustls;
pub use shared::{broker_url, tls_broker_url};
pub use watchdog::Watchdog;
