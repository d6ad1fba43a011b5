//! The core of pooka: AMQP 0-9-1 without a socket, a clock or a thread.
//!
//! Adapters own sockets and wait; everything else is here. Programs use the `pooka` crate, which re-exports this one.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// The rooms, ground floor first: each uses only those above it in this list (tests/rooms.rs).

/// Octets to values and back: frames, methods, tables, properties.
pub mod wire;

/// What went wrong, and by whose fault.
pub mod error;

/// Plaintext to ciphertext and back.
#[cfg_attr(not(any(feature = "rustls", feature = "native-tls")), expect(dead_code, reason = "nobody calls the filter"))]
mod tls;

/// What a program decides before it connects: parameters, endpoints, credentials, URLs.
mod config;

/// One peer: octets in, events out; the handshake and heartbeats. No callback, no clock, no socket.
mod protocol;

/// What is shared under the mutex: what the handles and the loop share of a connection.
mod session;

/// What the program holds: handles, requests, consumers.
mod api;

/// Events for `tracing`.
mod trace;

/// What the loop alone owns of a connection.
mod driver;

/// Many connections, one loop: the adapter's side.
pub mod hub;

mod sync;

pub use api::{
    awaited::Awaited,
    channel::Channel,
    close_connection::CloseConnection,
    connection::ConnectionHandle,
    consume::{Consume, ConsumeWith, Oversized},
    event::{Event, EventCallback, Source},
    loop_handle::{Connect, LoopHandle},
    open_channel::OpenChannel,
    publish::{Publish, Publishing},
    request::{Ask, Confirm, Handle, Lends, Request, Waits},
    stream::Consumer,
    wait_for_confirms::WaitForConfirms,
    writable::Writable,
};
#[doc(hidden)]
pub use api::{hold::Hold, request::Target};
pub use config::{
    credentials::{self, AmqplainCredentials, Credentials, ExternalCredentials, PlainCredentials},
    endpoint::{ConnectionOrder, Endpoint},
    parameters::{self, ConnectionParameters, ParametersBuilder},
    tcp_options::TcpOptions,
    uri,
};
pub use error::{Error, Result, tls::TlsProblem};
pub use hub::{
    adapter::{Connection, IoLoop},
    task,
};
pub use protocol::heartbeat;
pub use session::{
    callbacks::{self as callback, CallbackId, CallbackManager},
    confirm::PublishOutcome,
    reply::Outcome,
    timer::{self, TimeoutId},
};
pub use tls::{TlsBackend, TlsOptions};
pub use wire::{
    confirmation::Confirmation,
    frame::{self, Body},
    message::{Delivery, DeliveryTag, Message, Returned},
    outbox,
    properties::{self, BasicProperties, Properties},
    secret::{self, Secret},
    spec::{self, MethodId, basic, exchange, queue, tx},
    strings::{ShortStr, ShortString},
    table::{self, Table, Value},
};

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
