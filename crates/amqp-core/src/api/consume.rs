//! basic.consume, to be sent.

use crate::{
    api::{awaited::Awaited, channel::Channel},
    error::{Error, Result},
    session::{
        Op, Refused, Shared,
        channel::Qos,
        op::OnMessage,
        reply::{Answer, Continuation, Outcome},
        slot::Slot,
    },
    wire::{
        message::{Delivery, DeliveryTag},
        spec::{Method, basic},
        strings::ShortString,
    },
};
use std::future::IntoFuture;

/// A message that was larger than `max_message_size`; its body was not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Oversized {
    /// What to reject it by: without requeue, or it comes again.
    pub delivery_tag: DeliveryTag,
    /// Octets in its body.
    pub size: u64,
    /// The consumer that it was for.
    pub consumer_tag: ShortString,
}

/// A consumer to be started: with a callback ([`on_message`](Self::on_message)), or as a [stream](crate::Consumer) by `.await`.
#[must_use = "nothing is sent before on_message(…) or .await"]
#[derive(Debug)]
pub struct Consume<S: 'static> {
    pub(crate) channel: Channel<S>,
    pub(crate) method: basic::Consume,
    pub(crate) prefetch: Prefetch,
    pub(crate) capacity: Option<usize>,
}

/// How many messages may be on their way to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// As many as basic.qos said.
    Channel,
    /// As many as basic.qos said, or [`PREFETCH`] if it said nothing.
    ChannelOrDefault,
    /// So many, whatever basic.qos said.
    Own(u16),
}

/// Unacknowledged messages of a stream, if nothing else is said.
const PREFETCH: u16 = 100;

impl Prefetch {
    /// The limit that the consumer has to have; `None` is the one that the broker has for the channel's consumers already.
    ///
    /// Where the program has said nothing there is no word that brings the broker's own default back, so none is said; and
    /// the limit of the channel as a whole, where there is one, is limit enough.
    fn wanted(self, qos: Qos) -> Option<u16> {
        let untouched = qos.told.is_none();
        match self {
            Self::Own(own) => Some(own),
            Self::Channel | Self::ChannelOrDefault if qos.is_limited() => {
                qos.said.or(if untouched { None } else { Some(0) })
            }
            Self::ChannelOrDefault => Some(qos.said.filter(|said| *said > 0).unwrap_or(PREFETCH)),
            // What was said for the sake of another consumer is not for this one.
            Self::Channel => qos.said.or(if untouched { None } else { Some(PREFETCH) }),
        }
    }
}

/// A consumer to be started: [`then`](Self::then) waits for the broker's answer, [`send`](Self::send) does not.
#[must_use = "nothing is sent before then(), .await or send()"]
#[expect(missing_debug_implementations, reason = "closures")]
pub struct ConsumeWith<S: 'static> {
    pub(crate) consume: Consume<S>,
    pub(crate) callbacks: OnMessage<S>,
}

impl<S: 'static> Consume<S> {
    pub(crate) fn new(channel: &Channel<S>, queue: ShortString) -> Self {
        Self {
            channel: channel.clone(),
            method: basic::Consume { queue, ..Default::default() },
            prefetch: Prefetch::Channel,
            capacity: None,
        }
    }

    /// What [`no_ack`](Self::no_ack) said.
    #[doc(hidden)]
    pub fn is_no_ack(&self) -> bool {
        self.method.no_ack
    }

    /// Sets how many unacknowledged messages this consumer may have, whatever [`basic_qos`](Channel::basic_qos) said of each
    /// consumer; 0 is no limit. A limit of the channel as a whole holds as well.
    ///
    /// The broker knows one such number for a channel, so that it is told one before this consumer and another before the
    /// next. A callback consumer that is made afterwards has the number of [`basic_qos`](Channel::basic_qos); if that was not
    /// called, it has 100, because nothing brings the broker's own default back.
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = Prefetch::Own(prefetch);
        self
    }

    /// How many messages may wait in a stream: while there are more, the connection is read only if somebody waits for a
    /// reply or for the outcome of a publish. Needed where the broker does not know a limit, because of
    /// [`no_ack`](Self::no_ack) or a prefetch of 0.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// What is called with each message, in the order in which the broker sent them.
    #[doc(alias = "set_delegate")]
    #[doc(alias = "on_message_callback")]
    pub fn on_message<R: Outcome>(
        self,
        mut callback: impl FnMut(&mut S, &Channel<S>, Delivery<'_>) -> R + Send + 'static,
    ) -> ConsumeWith<S> {
        let message = Box::new(move |state: &mut S, channel: &Channel<S>, delivery: Delivery<'_>| {
            callback(state, channel, delivery).outcome()
        });
        ConsumeWith { consume: self, callbacks: OnMessage { message, oversized: None, ended: None, on_end: None } }
    }
}

impl<S: 'static> ConsumeWith<S> {
    /// What is called instead for a message larger than `max_message_size`. Without it such a message closes the channel,
    /// because nobody could settle it.
    pub fn on_oversized<R: Outcome>(
        mut self,
        mut callback: impl FnMut(&mut S, &Channel<S>, Oversized) -> R + Send + 'static,
    ) -> Self {
        self.callbacks.oversized =
            Some(Box::new(move |state, channel, oversized| callback(state, channel, oversized).outcome()));
        self
    }

    /// What is called once if the consumer ends and this program has not asked for that: with [`Error::ConsumerCancelled`] when
    /// the broker ends it, because its queue was deleted for example, or with the reason why its channel or its connection is
    /// over. If neither this nor a callback of the channel's hears of an end of the broker's, it comes out of the loop's `start`.
    pub fn on_end<R: Outcome>(
        mut self,
        callback: impl FnOnce(&mut S, &Channel<S>, &Error) -> R + Send + 'static,
    ) -> Self {
        self.callbacks.on_end = Some(Box::new(move |state, channel, error| callback(state, channel, error).outcome()));
        self
    }

    /// Starts the consumer and returns its tag; `callback` is told when the broker has agreed. Messages may come before.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &Channel<S>, Result<basic::ConsumeOk>) -> R + Send + 'static,
    ) -> ShortString {
        let lent = self.consume.channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer: Result<Answer>| {
            callback(state, &lent, answer.and_then(consume_ok)).outcome()
        }));
        self.submit(false, then).0
    }

    /// Starts the consumer and returns its tag.
    ///
    /// # Errors
    /// It could not be sent: the tag is in use or too long, or the reason why the channel is closed.
    pub fn send(self) -> Result<ShortString> {
        let (tag, result) = self.submit(true, Continuation::Nobody);
        result.map(|()| tag)
    }

    pub(crate) fn submit(self, nowait: bool, then: Continuation<S>) -> (ShortString, Result<()>) {
        let Self { consume: Consume { channel, mut method, prefetch, .. }, callbacks } = self;
        method.nowait = nowait;
        let shared = channel.shared();
        match shared.consume(&channel, &mut method, prefetch, then, callbacks) {
            Ok(()) => (method.consumer_tag, Ok(())),
            Err(refused) => {
                shared.answer_later(refused.then, refused.error.clone());
                (method.consumer_tag, Err(refused.error))
            }
        }
    }
}

impl<S: 'static> IntoFuture for ConsumeWith<S> {
    type Output = Result<basic::ConsumeOk>;
    type IntoFuture = Awaited<basic::ConsumeOk>;

    /// Sends basic.consume. If nobody takes the answer, the consumer is cancelled again.
    fn into_future(self) -> Awaited<basic::ConsumeOk> {
        let slot = Slot::new();
        let channel = self.consume.channel.clone();
        let (tag, _) = self.submit(false, Continuation::Slot(slot.clone()));
        Awaited::new(slot, consume_ok).or_else(move |_| drop(channel.basic_cancel(tag).send()))
    }
}

/// The answer to basic.consume.
fn consume_ok(answer: Answer) -> Result<basic::ConsumeOk> {
    match answer {
        Answer::Method(Method::Basic(basic::Method::ConsumeOk(ok))) => Ok(ok),
        _ => Ok(basic::ConsumeOk::default()),
    }
}

impl<S: 'static> Shared<S> {
    /// Tag, frames and registration in one step: a consumer is known before its basic.consume is on the wire.
    fn consume(
        &self,
        channel: &Channel<S>,
        method: &mut basic::Consume,
        prefetch: Prefetch,
        then: Continuation<S>,
        callbacks: OnMessage<S>,
    ) -> Result<(), Box<Refused<S>>> {
        let mut state = self.lock();
        if let Err((error, then)) = state.consume(channel.identity(), method, |qos| prefetch.wanted(qos), then) {
            drop(state);
            return Err(Box::new(Refused { error, then, op: None }));
        }
        let (tag, no_ack, queue) = (method.consumer_tag.clone(), method.no_ack, method.queue.clone());
        state.queue(Op::Consume { channel: channel.clone(), queue, tag, no_ack, callbacks });
        Ok(())
    }
}
