//! A RabbitMQ (AMQP 0-9-1) client that does not choose your event loop.
//!
//! One protocol core runs on select, poll, epoll or kqueue, on mio, on tokio, on smol, or on a plain thread that waits. The
//! same requests can be continued in three ways, whichever the adapter:
//!
//! # With callbacks
//!
//! Callbacks are methods of your own struct. The loop passes `&mut YourStruct` to each of them, so that they share state
//! without a lock.
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
//! # With `.await`
//!
//! On tokio, on smol, and on any other executor; a consumer without a callback is a stream.
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # mod program {
//! use pooka::{Result, TokioConnection};
//!
//! # async fn program() -> Result<()> {
//! let connection = TokioConnection::connect("amqp://localhost".parse()?).await?;
//! let channel = connection.channel().await?;
//! channel.queue_declare("hello").await?;
//! let mut messages = channel.basic_consume("hello").await?;
//! while let Some(message) = messages.next().await {
//!     let message = message?;
//!     println!("{}", String::from_utf8_lossy(&message.body));
//!     channel.basic_ack(message.delivery_tag)?;
//! }
//! connection.close().await
//! # }
//! # }
//! ```
//!
//! # With calls that wait
//!
//! ```no_run
//! # #[cfg(feature = "blocking")]
//! # fn program() -> pooka::Result<()> {
//! use pooka::BlockingConnection;
//!
//! let connection = BlockingConnection::open("amqp://localhost".parse()?)?;
//! let channel = connection.channel().call()?;
//! channel.queue_declare("hello").call()?;
//! channel.basic_publish("", "hello", "Hello, world").call()?;
//! connection.close().call()
//! # }
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | the methods of AMQP, as requests | [`Channel`], [`BlockingChannel`] and [`request`] |
//! | what a message is | [`Delivery`] is lent to a callback, [`Message`] is owned; [`BasicProperties`], [`message`] |
//! | confirms | [`Channel::confirm_delivery`], [`PublishOutcome`], [`Channel::wait_for_confirms`] |
//! | what went wrong, and what to do | [`Error`] |
//! | when a connection or a channel ends, is blocked, is slow | [`event`] |
//! | hosts, logins, timeouts, limits | [`ConnectionParameters`], [`config`] |
//! | TLS | [`TlsOptions`], [`tls`] |
//! | coming from pika | [`guide::porting_from_pika`] |
//! | another event loop | [`guide::writing_an_adapter`], [`adapter`] |
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `select` (default) | [`SelectConnection`]: select, poll, epoll or kqueue, chosen at run time |
//! | `mio` | [`MioConnection`], and [`Embedded`](adapter::Embedded) for a program's own `mio::Poll` |
//! | `tokio` | [`TokioConnection`]: a future on tokio |
//! | `smol` | [`SmolConnection`]: a future on async-io, for smol and any other executor |
//! | `blocking` | [`BlockingConnection`]: calls that wait for their reply, on the calling thread |
//! | `rustls` | TLS by rustls with ring; builds with cargo and a C compiler |
//! | `native-tls` | TLS by the system's library; needs OpenSSL's headers on Linux |
//! | `log` | events for the crate `log`, where no subscriber of `tracing` is set |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// Connections.
#[cfg(feature = "blocking")]
pub use pooka_blocking::BlockingConnection;
#[cfg(feature = "mio")]
pub use pooka_mio::{MioConnection, MioLoop};
#[cfg(feature = "select")]
pub use pooka_select::{PollerKind, SelectConnection, SelectLoop};
#[cfg(feature = "smol")]
pub use pooka_smol::{SmolConnection, SmolLoop};
#[cfg(feature = "tokio")]
pub use pooka_tokio::{TokioConnection, TokioLoop};

pub use amqp_core::{Connection, ConnectionHandle, IoLoop, LoopHandle};

// Channels, and what is asked of them.
pub use amqp_core::{Awaited, Channel, Consumer, PublishOutcome};
#[cfg(feature = "blocking")]
pub use pooka_blocking::BlockingChannel;

// Messages.
pub use amqp_core::{BasicProperties, Delivery, DeliveryTag, Message, ShortString, Table, Value};

// Parameters and errors.
pub use amqp_core::{ConnectionParameters, Error, Result, TlsOptions};

/// Requests: what the methods of a channel or a connection return, before and after they are sent.
///
/// A request does nothing by itself. `.then(callback)`, `.await`, `.call()` and `.send()` send it; which of them there are
/// depends on the handle that it was made with.
pub mod request {
    pub use amqp_core::{
        Ask, CloseConnection, Confirm, Connect, Consume, ConsumeWith, Handle, Lends, OpenChannel, Outcome, Oversized,
        Publish, Publishing, Request, WaitForConfirms, Waits, Writable,
    };
    #[cfg(feature = "blocking")]
    pub use pooka_blocking::{
        BlockingConsume, BlockingConsumer, BlockingPublish, BlockingWaitForConfirms, CloseBlockingConnection,
        OpenBlockingChannel,
    };
}

/// What comes with a message: its properties while they are undecoded, returns, confirms.
pub mod message {
    pub use amqp_core::{Body, Confirmation, Properties, Returned, ShortStr};
}

/// What the callbacks of `add_on_close_callback` and its siblings get, and the manager that keeps them.
pub mod event {
    pub use amqp_core::{
        CallbackId, CallbackManager, Event, EventCallback, Source, TimeoutId,
        callback::{Caller, Facts, Key, Terms},
    };
}

/// What a connection is opened with, beside [`ConnectionParameters`].
pub mod config {
    pub use amqp_core::{
        AmqplainCredentials, ConnectionOrder, ConnectionParameters, Credentials, Endpoint, ExternalCredentials,
        ParametersBuilder, PlainCredentials, Secret, TcpOptions,
        credentials::{Exchange, Failure},
        parameters, uri,
    };
}

/// TLS: the options, what can go wrong, and the libraries, whose own configurations are taken as they are.
pub mod tls {
    #[cfg(feature = "native-tls")]
    pub use amqp_core::native_tls;
    #[cfg(feature = "rustls")]
    pub use amqp_core::rustls;
    pub use amqp_core::{TlsBackend, TlsOptions, TlsProblem};
}

pub use amqp_core::{error, spec};

/// What an event loop of your own needs: see [`guide::writing_an_adapter`].
pub mod adapter {
    pub use amqp_core::{frame, heartbeat, hub, outbox, properties, table, task, timer, wire};
    #[cfg(feature = "mio")]
    pub use pooka_mio::{Embedded, Next};
}

pub mod guide;

/// The programs of the README are compiled.
#[cfg(all(doctest, feature = "blocking", feature = "select", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those of the porting guide.
#[cfg(all(doctest, feature = "blocking", feature = "select"))]
#[doc = include_str!("../docs/porting-from-pika.md")]
struct PortingFromPika;
