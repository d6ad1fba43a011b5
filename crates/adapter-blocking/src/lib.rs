//! pooka for threads that wait for each answer: pika's `BlockingConnection` and `BlockingChannel`.
//!
//! ```no_run
//! # fn main() -> amqp_core::Result<()> {
//! use pooka_blocking::BlockingConnection;
//!
//! let connection = BlockingConnection::open("amqp://localhost".parse()?)?;
//! let channel = connection.channel().call()?;
//! channel.queue_declare("hello").call()?;
//! channel.confirm_select().call()?;
//! channel.basic_publish("", "hello", "Hello, world").mandatory(true).call()?;
//! for message in channel.consume("hello") {
//!     let message = message?;
//!     println!("{}", String::from_utf8_lossy(&message.body));
//!     channel.basic_ack(message.delivery_tag)?;
//!     break;
//! }
//! connection.close().call()
//! # }
//! ```
//!
//! The thread that waits drives the connection. While no thread waits, a keeper answers heartbeats, so a program may
//! compute for as long as it likes between two calls. Callbacks run in [`process_data_events`], [`sleep`] and
//! [`start_consuming`] only, on the thread that calls these, and may do anything, other calls included.
//!
//! What arrives for callbacks waits for these calls. Over 4 MiB of messages nothing more is read, unless a thread waits for an
//! answer, or for room to publish; over 24 MiB of messages and events, such a call is [`Error::InboundFull`] instead, and over
//! 40 MiB the connection ends. A consumer with a [`prefetch`](BlockingConsume::prefetch), and without `no_ack`, does not come near
//! that.
//!
//! [`Error::InboundFull`]: amqp_core::Error::InboundFull
//! [`process_data_events`]: BlockingConnection::process_data_events
//! [`sleep`]: BlockingConnection::sleep
//! [`start_consuming`]: BlockingChannel::start_consuming
#![forbid(unsafe_code)]

// What a program calls: pika's names, each of which waits for its answer.
mod calls;
// What drives the connection: the thread that waits, or the keeper while no thread does.
mod drive;

pub use calls::{
    channel::BlockingChannel,
    connection::{BlockingConnection, CloseBlockingConnection, OpenBlockingChannel},
    consume::BlockingConsume,
    consumer::BlockingConsumer,
    publish::{BlockingPublish, BlockingWaitForConfirms},
};
