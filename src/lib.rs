//! A RabbitMQ (AMQP 0-9-1) client that does not choose your event loop.
//!
//! This crate is the core and the adapters that its features name: `select`, `mio`, `tokio`, `smol`, `blocking`.
//! Requests on a [`Channel`] are continued by callbacks or awaited, whichever the adapter; those on a `BlockingChannel` are
//! waited for. A program with the `select` adapter:
//!
//! ```no_run
//! use pooka::{Channel, Connection, ConnectionHandle, Delivery, IoLoop, Result, SelectConnection};
//!
//! #[derive(Default)]
//! struct Consumer {
//!     seen: u64,
//! }
//!
//! impl Consumer {
//!     fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
//!         opened?;
//!         let channel = connection.channel().send()?;
//!         channel.queue_declare("hello").send()?;
//!         channel.basic_consume("hello").on_message(Self::on_message).send()?;
//!         channel.basic_publish("", "hello", "Hello, world").send()
//!     }
//!
//!     fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
//!         self.seen += 1;
//!         println!("{}", String::from_utf8_lossy(delivery.body));
//!         channel.basic_ack(delivery.delivery_tag)?;
//!         channel.connection().close().send()
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     let mut connection = SelectConnection::open("amqp://localhost".parse()?, Consumer::on_open)?;
//!     connection.ioloop().start(&mut Consumer::default())
//! }
//! ```
//!
//! With the feature `rustls` or `native-tls` every adapter speaks TLS: `amqps://` in the URL, or [`TlsOptions`].
#![forbid(unsafe_code)]

pub use amqp_core::*;

#[cfg(feature = "select")]
pub use pooka_select::{PollerKind, SelectConnection, SelectLoop};

#[cfg(feature = "blocking")]
pub use pooka_blocking::{
    BlockingChannel, BlockingConnection, BlockingConsume, BlockingPublish, BlockingWaitForConfirms,
    CloseBlockingConnection, ConsumeMessages, Messages, OpenBlockingChannel,
};

#[cfg(feature = "mio")]
pub use pooka_mio::{Embedded, MioConnection, MioLoop, Next};

#[cfg(feature = "tokio")]
pub use pooka_tokio::{TokioConnection, TokioLoop};

#[cfg(feature = "smol")]
pub use pooka_smol::{SmolConnection, SmolLoop};

/// The programs of the README are compiled.
#[cfg(all(doctest, feature = "blocking", feature = "select", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those of the porting guide.
#[cfg(all(doctest, feature = "blocking", feature = "select"))]
#[doc = include_str!("../docs/porting-from-pika.md")]
struct PortingFromPika;
