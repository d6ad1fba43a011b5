//! Frames as events for `tracing`: each at trace level, under the target `amqp_core::frame`.
//!
//! Whether a subscriber is interested is asked once for each read and each write. If so, what has been read, or will be written,
//! is looked at a second time, from outside; the code that handles frames knows nothing of it.

use crate::wire::{
    frame::{HEAD, Head, Kind},
    frame_value::LARGEST,
    outbox::Outbox,
    spec::{Method, PROTOCOL_HEADER},
};
use std::sync::Arc;
use tracing::{Level, trace};

macro_rules! target {
    () => {
        "amqp_core::frame"
    };
}

/// Logs the frames that a connection receives, if a subscriber is interested.
#[derive(Debug, Default)]
pub(crate) struct FrameLog {
    /// How far ahead of the unread octets the next frame begins that has not been told. `None`: nobody listens.
    ahead: Option<usize>,
}

#[inline]
pub(crate) fn is_on() -> bool {
    #[cfg(feature = "log")]
    if log::log_enabled!(target: target!(), log::Level::Trace) {
        return true;
    }
    tracing::enabled!(target: target!(), Level::TRACE)
}

impl FrameLog {
    /// Octets have come, of which `unread` are not handled. `begun` of them belong to a frame of which the beginning is.
    #[inline]
    pub(crate) fn received(&mut self, endpoint: impl FnOnce() -> Arc<str>, unread: &[u8], begun: usize) {
        if is_on() {
            self.tell(&endpoint(), unread, begun);
        } else {
            self.ahead = None;
        }
    }

    /// `n` octets are handled.
    #[inline]
    pub(crate) fn taken(&mut self, n: usize) {
        if let Some(ahead) = &mut self.ahead {
            *ahead = ahead.saturating_sub(n);
        }
    }

    #[cold]
    fn tell(&mut self, endpoint: &str, unread: &[u8], begun: usize) {
        let mut at = self.ahead.unwrap_or(begun);
        // What is no frame ends the connection, which says so.
        while let Some(octets) = unread.get(at..) {
            let Ok(Some(head)) = Head::peek(octets, LARGEST) else { break };
            let payload = octets.get(HEAD..HEAD + head.size);
            if payload.is_none() && head.kind != Kind::Body {
                break;
            }
            told(endpoint, "received", head, payload.unwrap_or_default());
            at += head.total();
        }
        self.ahead = Some(at);
    }
}

/// What will be written next: whole frames, and nothing of them has been written.
#[inline]
pub(crate) fn sending(endpoint: impl FnOnce() -> Arc<str>, outbox: &Outbox) {
    if is_on() {
        tell_sent(&endpoint(), outbox);
    }
}

#[cold]
fn tell_sent(endpoint: &str, outbox: &Outbox) {
    let octets = outbox.unwritten_octets();
    let mut referred = outbox.referred().peekable();
    let mut at = 0;
    if octets.starts_with(&PROTOCOL_HEADER) {
        trace!(target: target!(), endpoint, "sent the protocol header, 0-9-1");
        at = PROTOCOL_HEADER.len();
    }
    loop {
        // A frame with a secret stands apart as a whole.
        while let Some((_, frame)) = referred.next_if(|(place, _)| *place == at) {
            if let Ok(Some(head)) = Head::peek(frame, LARGEST) {
                told(endpoint, "sent", head, frame.get(HEAD..HEAD + head.size).unwrap_or_default());
            }
        }
        let Some(Ok(Some(head))) = octets.get(at..).map(|octets| Head::peek(octets, LARGEST)) else { return };
        at += HEAD;
        let elsewhere = head.kind == Kind::Body && referred.next_if(|(place, _)| *place == at).is_some();
        let here = if elsewhere { 0 } else { head.size };
        told(endpoint, "sent", head, octets.get(at..at + here).unwrap_or_default());
        at += here + 1;
    }
}

/// Bodies and properties are the program's, and secrets say `[redacted]` of themselves.
fn told(endpoint: &str, way: &str, head: Head, payload: &[u8]) {
    #[cfg(debug_assertions)]
    crate::sync::assert_unlocked();
    let Head { kind, channel, size } = head;
    match kind {
        Kind::Method => match Method::get(payload) {
            Ok(method) => trace!(target: target!(), endpoint, channel, size, "{way} {}: {method:?}", method.name()),
            Err(_) => trace!(target: target!(), endpoint, channel, size, "{way} a method that cannot be decoded"),
        },
        Kind::Header => {
            let body_size =
                payload.get(4..).and_then(|rest| rest.first_chunk()).map_or(0, |size| u64::from_be_bytes(*size));
            trace!(target: target!(), endpoint, channel, size, body_size, "{way} a content header");
        }
        Kind::Body => trace!(target: target!(), endpoint, channel, size, "{way} a body frame"),
        Kind::Heartbeat => trace!(target: target!(), endpoint, "{way} a heartbeat"),
    }
}
