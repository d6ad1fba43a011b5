//! A channel: who it is, and what the loop and its handles both know of it.

use crate::{
    error::Error,
    session::{Pending, confirm::Confirms},
    wire::{
        outbox::Outbox,
        spec::{Arguments, MethodId, basic},
        strings::ShortString,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

/// A channel's number, which is used again, and its serial, which never is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) number: u16,
    pub(crate) serial: u64,
    /// Why it is closed: set once, the error of every later call.
    closed: OnceLock<Error>,
    /// How it ended in fact, where this program was closing it.
    ended: OnceLock<Error>,
}

impl Identity {
    pub(crate) fn new(number: u16, serial: u64) -> Arc<Self> {
        Arc::new(Self { number, serial, closed: OnceLock::new(), ended: OnceLock::new() })
    }

    /// The first reason stands.
    pub(crate) fn close(&self, reason: Error) {
        let _ = self.closed.set(reason);
    }

    /// It was being closed, and ended otherwise: that is the reason which is told.
    pub(crate) fn end(&self, reason: Error) {
        let _ = self.ended.set(reason);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    pub(crate) fn reason(&self) -> Error {
        self.ended.get().or(self.closed.get()).cloned().unwrap_or(Error::NotOpen)
    }
}

/// A channel's part of what the mutex protects.
pub(crate) struct ChannelState<S> {
    pub(crate) identity: Arc<Identity>,
    pub(crate) phase: Phase,
    /// Replies that are expected, in the order of the requests.
    pub(crate) fifo: VecDeque<Pending<S>>,
    /// Cancels of consumers that have not begun yet: RabbitMQ 3.10's channel crashes on one that overtakes its queue's
    /// consume-ok, and takes the connection along.
    pub(crate) held: Vec<(basic::Cancel, Option<Pending<S>>)>,
    pub(crate) consumers: Vec<Consumer>,
    /// The consumer that the broker has ended when it was the last one, until another is started or this is forgotten.
    pub(crate) last_ended: Option<ShortString>,
    pub(crate) qos: Qos,
    /// `Some` while the broker wants no content: what waits for that to end.
    pub(crate) paused: Option<Box<Outbox>>,
    /// `Some` in confirm mode.
    pub(crate) confirms: Option<Confirms<S>>,
    next_tag: u32,
    /// Somebody was told of its end, although it is not over.
    pub(crate) told: bool,
}

/// Requests may be sent after channel.open without waiting for its reply, so there is no "opening" here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// channel.close has been sent, or its answer is the only thing that is waited for.
    Closing,
    /// connection.close has been sent: what is sent after it gets no answer.
    Deserted,
}

/// The limits of unacknowledged messages; 0 is none.
///
/// RabbitMQ has no limit of a consumer's own: it takes the channel's as it is when the consumer is made. So that is changed
/// for consumers that want another, and what the program said has to be known to be said again. A word about the consumers
/// also lifts the limit of the channel as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Qos {
    /// What the program said of each consumer that is made from then on, if it said something.
    pub(crate) said: Option<u16>,
    /// What the program said of the channel as a whole.
    pub(crate) global: Option<u16>,
    /// What the broker was told of consumers, by the program or for one of them; otherwise an operator's default holds, which
    /// is not known here.
    pub(crate) told: Option<u16>,
}

impl Qos {
    /// Whether the channel as a whole is limited.
    pub(crate) fn is_limited(self) -> bool {
        self.global.is_some_and(|limit| limit > 0)
    }
}

/// A consumer tag in use.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: ShortString,
    pub(crate) cancelled: bool,
}

impl<S: 'static> ChannelState<S> {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            phase: Phase::Open,
            fifo: VecDeque::new(),
            held: vec![],
            consumers: vec![],
            last_ended: None,
            qos: Qos::default(),
            paused: None,
            confirms: None,
            next_tag: 1,
            told: false,
        }
    }

    /// What stands for a channel whose end is not complete.
    pub(crate) fn closing(identity: Arc<Identity>) -> Self {
        Self { phase: Phase::Closing, ..Self::new(identity) }
    }

    /// A consumer tag as pika makes them, `ctag1.1`, that is not in use.
    pub(crate) fn new_tag(&mut self) -> ShortString {
        loop {
            let tag = ShortString::from(format!("ctag{}.{}", self.identity.number, self.next_tag));
            self.next_tag = self.next_tag.wrapping_add(1);
            if !self.has_tag(&tag) {
                return tag;
            }
        }
    }

    /// Takes the request that a reply answers: the first one. Only basic.consume and basic.cancel are known by their tag,
    /// because RabbitMQ's queues answer them themselves, before or after the replies to later requests.
    pub(crate) fn answered(&mut self, reply: MethodId, consumer_tag: Option<&ShortString>) -> Option<Pending<S>> {
        let at = self.fifo.iter().position(|pending| {
            pending.consumer_tag.as_ref() == consumer_tag && (consumer_tag.is_none() || pending.expect.accepts(reply))
        })?;
        self.fifo.get(at).filter(|pending| pending.expect.accepts(reply))?;
        self.fifo.remove(at)
    }

    /// Whether somebody waits for an answer or an outcome, and so is told if there will be none.
    pub(crate) fn is_awaited(&self) -> bool {
        let held = self.held.iter().filter_map(|(_, pending)| pending.as_ref());
        self.fifo.iter().chain(held).any(|pending| pending.then.is_somebody())
            || self.confirms.as_ref().is_some_and(Confirms::is_awaited)
    }

    /// Whether this consumer's consume-ok is still to come.
    pub(crate) fn is_starting(&self, tag: &ShortString) -> bool {
        let starts = |pending: &Pending<S>| {
            pending.consumer_tag.as_ref() == Some(tag) && pending.expect.accepts(basic::ConsumeOk::ID)
        };
        self.fifo.iter().any(starts)
    }

    pub(crate) fn has_tag(&self, tag: &ShortString) -> bool {
        self.consumers.iter().any(|consumer| consumer.tag == *tag)
    }

    /// basic.cancel is on its way; without a reply to wait for, the tag is free at once.
    pub(crate) fn cancelling(&mut self, tag: &ShortString, replies: bool) {
        for consumer in &mut self.consumers {
            consumer.cancelled |= consumer.tag == *tag;
        }
        if !replies {
            self.forget(tag.as_bytes());
        }
    }

    /// The broker ends this consumer: false if there is none, or it is being cancelled.
    pub(crate) fn ended_by_broker(&mut self, tag: &ShortString) -> bool {
        let ours = self.consumers.iter().any(|consumer| consumer.tag == *tag && !consumer.cancelled);
        if ours {
            self.forget(tag.as_bytes());
            let is_last = self.consumers.iter().all(|consumer| consumer.cancelled);
            self.last_ended = is_last.then(|| tag.clone());
        }
        ours
    }

    pub(crate) fn forget(&mut self, tag: &[u8]) {
        self.consumers.retain(|consumer| consumer.tag.as_bytes() != tag);
    }
}
