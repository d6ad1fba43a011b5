//! basic.consume, to be sent.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        requests::reply,
        start::{self, Start, To},
    },
    error::{Error, Result},
    session::{
        Op,
        channel::Qos,
        op::OnMessage,
        reply::{Answer, Outcome},
    },
    wire::{
        message::{Delivery, DeliveryTag},
        spec::basic,
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
    /// As many as basic.qos said, or so many if it said nothing.
    ChannelOr(u16),
    /// So many, whatever basic.qos said.
    Own(u16),
}

/// Unacknowledged messages of a stream, if nothing else is said.
pub(crate) const PREFETCH: u16 = 100;

impl Prefetch {
    /// The limit that the consumer has to have; `None` is the one that the broker has for the channel's consumers already.
    ///
    /// Where the program has said nothing there is no word that brings the broker's own default back, so none is said; and
    /// the limit of the channel as a whole, where there is one, is limit enough.
    fn wanted(self, qos: Qos) -> Option<u16> {
        let untouched = qos.told.is_none();
        match self {
            Self::Own(own) => Some(own),
            Self::Channel | Self::ChannelOr(_) if qos.is_limited() => {
                qos.said.or(if untouched { None } else { Some(0) })
            }
            Self::ChannelOr(default) => Some(qos.said.filter(|said| *said > 0).unwrap_or(default)),
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

    /// Returns what [`no_ack`](Self::no_ack) said.
    #[doc(hidden)]
    pub fn is_no_ack(&self) -> bool {
        self.method.no_ack
    }

    /// Sets how many unacknowledged messages this consumer may have, whatever [`basic_qos`](Channel::basic_qos) said of each
    /// consumer; 0 is no limit. A limit of the channel as a whole holds as well.
    ///
    /// The broker knows one such number for a channel, so that one is sent before this consumer and another before the
    /// next. A callback consumer that is made afterwards has the number of [`basic_qos`](Channel::basic_qos); if that was not
    /// called, it has 100, because nothing brings the broker's own default back.
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = Prefetch::Own(prefetch);
        self
    }

    /// As [`prefetch`](Self::prefetch), but only where [`basic_qos`](Channel::basic_qos) has said nothing.
    #[doc(hidden)]
    pub fn default_prefetch(mut self, prefetch: u16) -> Self {
        if self.prefetch == Prefetch::Channel {
            self.prefetch = Prefetch::ChannelOr(prefetch);
        }
        self
    }

    /// Sets how many messages may wait in a stream: while there are more, the connection is read only if a task or thread waits for a
    /// reply or for the outcome of a publish. Needed where the broker does not know a limit, because of
    /// [`no_ack`](Self::no_ack) or a prefetch of 0.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Sets the callback for each message, in the order in which the broker sent them.
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
    /// Sets what is called instead for a message larger than `max_message_size`. Without it such a message closes the channel,
    /// because no other code could settle it.
    pub fn on_oversized<R: Outcome>(
        mut self,
        mut callback: impl FnMut(&mut S, &Channel<S>, Oversized) -> R + Send + 'static,
    ) -> Self {
        self.callbacks.oversized =
            Some(Box::new(move |state, channel, oversized| callback(state, channel, oversized).outcome()));
        self
    }

    /// Sets what is called once if the consumer ends and this program has not asked for that: with [`Error::ConsumerCancelled`] when
    /// the broker ends it, because its queue was deleted for example, or with the reason why its channel or its connection is
    /// over. If neither this nor a callback of the channel's hears of an end of the broker's, it comes out of the loop's `start`.
    pub fn on_end<R: Outcome>(
        mut self,
        callback: impl FnOnce(&mut S, &Channel<S>, &Error) -> R + Send + 'static,
    ) -> Self {
        self.callbacks.on_end = Some(Box::new(move |state, channel, error| callback(state, channel, error).outcome()));
        self
    }

    /// Starts the consumer and returns its tag; `callback` is called when the broker has agreed. Messages may come before.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &Channel<S>, Result<basic::ConsumeOk>) -> R + Send + 'static,
    ) -> ShortString {
        start::then(self, callback)
    }

    /// Starts the consumer and returns its tag.
    ///
    /// # Errors
    /// It could not be sent: the tag is in use or too long, or the reason why the channel is closed.
    pub fn send(self) -> Result<ShortString> {
        start::send(self)
    }
}

impl<S: 'static> Start for ConsumeWith<S> {
    type State = S;
    type Lent = Channel<S>;
    type Answer = Answer;
    type Told = basic::ConsumeOk;
    type Sent = ShortString;

    /// Tag, frames and registration in one step: a consumer is known before its basic.consume is on the wire.
    fn start<W>(self, waits: bool, to: impl FnOnce(&Channel<S>) -> (To<Self>, W)) -> (ShortString, W, Result<()>) {
        let Self { consume: Consume { channel, mut method, prefetch, .. }, callbacks } = self;
        method.nowait = !waits;
        let (to, with) = to(&channel);
        let shared = channel.shared();
        let mut state = shared.lock();
        let result = state.consume(channel.identity(), &mut method, |qos| prefetch.wanted(qos), to);
        if result.is_ok() {
            let (tag, queue) = (method.consumer_tag.clone(), method.queue.clone());
            state.queue(Op::Consume { channel: channel.clone(), queue, tag, no_ack: method.no_ack, callbacks });
        }
        drop(state);
        (method.consumer_tag, with, result.or_else(|(error, to)| shared.refuse(error, to)))
    }

    fn read(answer: Answer) -> Result<basic::ConsumeOk> {
        reply(answer)
    }
}

impl<S: 'static> IntoFuture for ConsumeWith<S> {
    type Output = Result<basic::ConsumeOk>;
    type IntoFuture = Awaited<basic::ConsumeOk>;

    /// Sends basic.consume. If the answer is not taken, the consumer is cancelled again.
    fn into_future(self) -> Awaited<basic::ConsumeOk> {
        start::wait(self, |channel| (reply, cancelled(channel)))
    }
}

/// Ends a consumer whose start was not taken. Not before the answer: RabbitMQ's channel crashes on a cancel that
/// overtakes its queue's consume-ok.
pub(super) fn cancelled<S: 'static>(channel: &Channel<S>) -> impl FnOnce(Result<Answer>) + Send + use<S> {
    let channel = channel.clone();
    move |answer| {
        if let Ok(basic::ConsumeOk { consumer_tag }) = answer.and_then(reply) {
            let _ = channel.basic_cancel(consumer_tag).send();
        }
    }
}
