//! The core of pooka: AMQP 0-9-1 without a socket, a clock or a thread.
//!
//! Adapters own sockets and wait; everything else is here. Programs use the `pooka` crate, which re-exports this one.
#![forbid(unsafe_code)]

mod awaited;
mod bell;
pub mod callback;
mod channel;
mod channel_requests;
mod confirm;
mod connection;
mod consume;
mod consumer;
mod content;
pub mod credentials;
mod delivery;
mod dial;
mod driver;
mod endpoints;
pub mod error;
mod event;
mod flow;
pub mod frame;
mod handle;
mod handshake;
pub mod heartbeat;
mod hold;
pub mod hub;
mod inbox;
mod journal;
mod lines;
mod literal;
pub mod outbox;
pub mod parameters;
pub mod properties;
mod protocol;
mod publish;
mod pump;
mod reply;
mod request;
mod room;
pub mod secret;
mod shared;
mod slot;
pub mod spec;
mod stream;
mod sync;
pub mod table;
pub mod task;
mod tcp_options;
pub mod timer;
#[cfg_attr(not(any(feature = "rustls", feature = "native-tls")), expect(dead_code, reason = "nobody calls the filter"))]
mod tls;
pub mod uri;
mod uri_options;
mod wait_for_confirms;
pub mod wire;

pub use awaited::Awaited;
pub use callback::{CallbackId, CallbackManager};
pub use confirm::{Confirmation, PublishOutcome};
pub use connection::{Connection, IoLoop, LoopHandle};
pub use consume::{Consume, ConsumeWith, Oversized};
pub use consumer::Consumer;
pub use credentials::{AmqplainCredentials, Credentials, ExternalCredentials, PlainCredentials};
pub use delivery::{Delivery, DeliveryTag, Message, Returned};
pub use endpoints::{ConnectionOrder, Endpoint};
pub use error::{Error, Result};
pub use event::{Event, EventCallback, Source};
pub use frame::Body;
pub use handle::{Channel, CloseConnection, ConnectionHandle, OpenChannel};
#[doc(hidden)]
pub use hold::Hold;
pub use parameters::{ConnectionParameters, ParametersBuilder};
pub use properties::{BasicProperties, Properties};
pub use publish::{Publish, Publishing};
pub use reply::Outcome;
pub use request::{Ask, Confirm, Handle, Lends, Reply, Request, Waits};
#[doc(hidden)]
pub use request::{Expected, Then};
pub use room::Writable;
pub use secret::Secret;
pub use spec::{MethodId, basic, exchange, queue, tx};
pub use table::{Table, Value};
pub use tcp_options::TcpOptions;
pub use timer::TimeoutId;
pub use tls::{TlsBackend, TlsOptions, TlsProblem};
pub use wait_for_confirms::WaitForConfirms;
pub use wire::{ShortStr, ShortString};

/// For [`TlsOptions::native_tls_connector`].
#[cfg(feature = "native-tls")]
pub use native_tls;
/// For [`TlsOptions::rustls_config`].
#[cfg(feature = "rustls")]
pub use rustls;

/// Tests have a beginning of time, from which they jump.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the one real instant of the core's tests")]
fn clock_for_tests() -> std::time::Instant {
    std::time::Instant::now()
}
