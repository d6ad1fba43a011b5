//! Every event for `tracing` but the frames: one target for each module that has something to say.
//!
//! At `warn` is what a program may never hear of otherwise, or hears of too late; at `info` that such a thing is over;
//! at `debug` each step. So a session in which nothing goes wrong says nothing above `debug`. There is no `error`: what
//! ends a connection is told to the program, which knows whether it is one. Nothing here has a secret to tell.

use crate::{error::Error, protocol::limits::Limits, wire::table::Table};
use std::{fmt::Display, net::SocketAddr, time::Duration};
use tracing::{debug, info, warn};

/// A target is its module's path, wherever the event is made.
macro_rules! in_module {
    ($module:ident, $level:ident, $($event:tt)+) => {{
        // A subscriber is the program's.
        #[cfg(debug_assertions)]
        crate::sync::assert_unlocked();
        $level!(target: concat!("amqp_core::", stringify!($module)), $($event)+)
    }};
}

// The network.

pub(crate) fn connecting(endpoint: &str) {
    in_module!(dial, debug, endpoint, "connecting");
}

pub(crate) fn resolved(endpoint: &str, addresses: usize) {
    in_module!(dial, debug, endpoint, addresses, "the name is resolved");
}

pub(crate) fn attempt(endpoint: &str, address: SocketAddr) {
    in_module!(dial, debug, endpoint, %address, "trying");
}

pub(crate) fn attempt_failed(endpoint: &str, address: impl Display, error: &impl Display) {
    in_module!(dial, debug, endpoint, %address, %error, "an address failed");
}

pub(crate) fn connected(endpoint: &str, address: SocketAddr) {
    in_module!(dial, debug, endpoint, %address, "connected");
}

pub(crate) fn all_failed(endpoint: &str, attempts_left: u32, retry_in: Duration) {
    in_module!(dial, warn, endpoint, attempts_left, ?retry_in, "all addresses failed, and will be tried again");
}

pub(crate) fn secured(endpoint: &str) {
    in_module!(tls, debug, endpoint, "TLS is up");
}

// AMQP's handshake.

pub(crate) fn greeted(endpoint: &str, server_properties: &Table, mechanism: &str) {
    let text = |key| server_properties.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let (product, version) = (text("product"), text("version"));
    in_module!(handshake, debug, endpoint, product, version, mechanism, "the broker's greeting is answered");
}

pub(crate) fn tuned(endpoint: &str, limits: Limits) {
    let Limits { channel_max, frame_max, heartbeat } = limits;
    in_module!(handshake, debug, endpoint, channel_max, frame_max, heartbeat, "limits are agreed");
}

// A connection and its channels.

pub(crate) fn opened(endpoint: &str) {
    in_module!(connection, debug, endpoint, "open");
}

pub(crate) fn closed(endpoint: &str, reason: &Error) {
    match reason {
        Error::ConnectionClosedByClient { .. } | Error::OpenAborted { .. } | Error::LoopGone => {
            in_module!(connection, debug, endpoint, %reason, "closed");
        }
        _ => in_module!(connection, warn, endpoint, %reason, "closed"),
    }
}

pub(crate) fn blocked(endpoint: &str, reason: &impl Display) {
    in_module!(connection, warn, endpoint, %reason, "the broker has stopped reading what is published");
}

pub(crate) fn unblocked(endpoint: &str) {
    in_module!(connection, info, endpoint, "the broker reads again");
}

pub(crate) fn backpressure(endpoint: &str, outbound: usize) {
    in_module!(connection, debug, endpoint, outbound, "back-pressure: more is published than the broker takes");
}

pub(crate) fn drained(endpoint: &str) {
    in_module!(connection, debug, endpoint, "back-pressure is over");
}

pub(crate) fn secret_updated(endpoint: &str) {
    in_module!(connection, debug, endpoint, "the new secret counts");
}

pub(crate) fn channel_opened(endpoint: &str, channel: u16) {
    in_module!(channel, debug, endpoint, channel, "open");
}

pub(crate) fn channel_closed(endpoint: &str, channel: u16, reason: &Error) {
    match reason {
        Error::ChannelClosedByBroker { .. } | Error::MessageTooLarge { .. } | Error::Panicked { .. } => {
            in_module!(channel, warn, endpoint, channel, %reason, "closed");
        }
        // By the program, or with its connection, which has said so.
        _ => in_module!(channel, debug, endpoint, channel, %reason, "closed"),
    }
}

pub(crate) fn consumer_cancelled(endpoint: &str, channel: u16, consumer_tag: &impl Display) {
    in_module!(consumer, warn, endpoint, channel, %consumer_tag, "cancelled by the broker");
}

pub(crate) fn no_consumer(endpoint: &str, channel: u16, consumer_tag: &impl Display) {
    in_module!(consumer, warn, endpoint, channel, %consumer_tag, "a message for a consumer that there is not is given back");
}

pub(crate) fn timed_out(endpoint: &str, channel: u16, error: &Error) {
    in_module!(request, warn, endpoint, channel, %error, "a request is not answered");
}

// Heartbeats.

pub(crate) fn beat(endpoint: &str) {
    in_module!(heartbeat, debug, endpoint, "sent");
}

pub(crate) fn beat_missed(endpoint: &str, silence: Duration) {
    in_module!(heartbeat, warn, endpoint, ?silence, "missed: nothing is heard for more than an interval");
}

// The program's callbacks.

/// The caller that runs the loop gets the error.
pub(crate) fn raised(error: &Error) {
    in_module!(callback, debug, %error, "an error comes out of the loop");
}

/// Its message has been shown by the panic hook.
pub(crate) fn callback_panicked() {
    in_module!(callback, warn, "a callback panicked");
}
