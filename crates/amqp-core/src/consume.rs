//! basic.consume, to be sent.

use crate::{
    channel::{Consumer as Registered, Identity},
    delivery::{Delivery, DeliveryTag},
    error::{Error, Invalid, Result},
    handle::Channel,
    reply::{Answer, Continuation, Expect, Outcome},
    shared::{Op, Refused, Shared},
    spec::{Arguments, Method, basic},
    table::Table,
    wire::ShortString,
};

/// A consumer's callbacks.
pub(crate) struct OnMessage<S: 'static> {
    pub(crate) message: OnDelivery<S>,
    pub(crate) oversized: Option<OnOversized<S>>,
}

type OnDelivery<S> = Box<dyn FnMut(&mut S, &Channel<S>, Delivery<'_>) -> Result<()> + Send>;
pub(crate) type OnOversized<S> = Box<dyn FnMut(&mut S, &Channel<S>, Oversized) -> Result<()> + Send>;

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

/// A consumer that needs a callback: [`on_message`](Self::on_message).
#[must_use = "nothing is sent before on_message(…) and then() or send()"]
#[derive(Debug)]
pub struct Consume<S: 'static> {
    channel: Channel<S>,
    method: basic::Consume,
}

/// A consumer to be started: [`then`](Self::then) waits for the broker's answer, [`send`](Self::send) does not.
#[must_use = "nothing is sent before then() or send()"]
#[expect(missing_debug_implementations, reason = "closures")]
pub struct ConsumeWith<S: 'static> {
    consume: Consume<S>,
    callbacks: OnMessage<S>,
}

impl<S: 'static> Consume<S> {
    pub(crate) fn new(channel: &Channel<S>, queue: ShortString) -> Self {
        Self { channel: channel.clone(), method: basic::Consume { queue, ..Default::default() } }
    }

    /// Its tag; otherwise one is made up.
    pub fn consumer_tag(mut self, tag: impl Into<ShortString>) -> Self {
        self.method.consumer_tag = tag.into();
        self
    }

    /// Whether messages are settled as soon as they are sent: faster, and what is on its way can be lost.
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.method.no_ack = no_ack;
        self
    }

    /// Whether nobody else may consume from the queue.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.method.exclusive = exclusive;
        self
    }

    /// `x-priority` and so on.
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.method.arguments = arguments;
        self
    }

    /// What is called with each message, in the order in which the broker sent them.
    pub fn on_message<R: Outcome>(
        self,
        mut callback: impl FnMut(&mut S, &Channel<S>, Delivery<'_>) -> R + Send + 'static,
    ) -> ConsumeWith<S> {
        let message = Box::new(move |state: &mut S, channel: &Channel<S>, delivery: Delivery<'_>| {
            callback(state, channel, delivery).outcome()
        });
        ConsumeWith { consume: self, callbacks: OnMessage { message, oversized: None } }
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

    /// Starts the consumer and returns its tag; `callback` is told when the broker has agreed. Messages may come before.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &Channel<S>, Result<basic::ConsumeOk>) -> R + Send + 'static,
    ) -> ShortString {
        let lent = self.consume.channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer: Result<Answer>| {
            let reply = answer.map(|answer| match answer {
                Answer::Method(Method::Basic(basic::Method::ConsumeOk(ok))) => ok,
                _ => basic::ConsumeOk::default(),
            });
            callback(state, &lent, reply).outcome()
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

    fn submit(self, nowait: bool, then: Continuation<S>) -> (ShortString, Result<()>) {
        let Self { consume: Consume { channel, mut method }, callbacks } = self;
        method.nowait = nowait;
        let shared = channel.shared();
        let expect = (!nowait).then_some(Expect(basic::ConsumeOk::ID, None));
        let result = shared.consume(&channel, &mut method, expect, then, callbacks);
        let tag = method.consumer_tag;
        match result {
            Ok(()) => (tag, Ok(())),
            Err(refused) => {
                shared.answer_later(refused.then, refused.error.clone());
                (tag, Err(refused.error))
            }
        }
    }
}

impl<S: 'static> Shared<S> {
    /// Tag, frame and registration in one step: a consumer is known before its basic.consume is on the wire.
    fn consume(
        &self,
        channel: &Channel<S>,
        method: &mut basic::Consume,
        expect: Option<Expect>,
        then: Continuation<S>,
        callbacks: OnMessage<S>,
    ) -> Result<(), Box<Refused<S>>> {
        let identity = channel.identity();
        let claimed = self.claim_tag(identity, method);
        let tag = method.consumer_tag.clone();
        let op = Op::Consume { channel: channel.clone(), tag: tag.clone(), no_ack: method.no_ack, callbacks };
        if let Err(error) = claimed {
            return Err(Box::new(Refused { error, then, op: Some(op) }));
        }
        let result = self.submit(identity, &method.clone().into(), expect, then, Some(op));
        if result.is_err() {
            if let Some(state) = self.lock().channels.get_mut(&identity.number) {
                state.forget(tag.as_bytes());
            }
        }
        result
    }

    fn claim_tag(&self, identity: &Identity, method: &mut basic::Consume) -> Result<()> {
        let mut state = self.lock();
        let channel = state.usable(identity)?;
        if method.consumer_tag.is_empty() {
            method.consumer_tag = channel.new_tag();
        } else if channel.has_tag(&method.consumer_tag) {
            let tag = method.consumer_tag.to_string().into();
            return Err(Error::Invalid(Invalid::DuplicateConsumerTag(tag)));
        }
        let tag = method.consumer_tag.clone();
        channel.consumers.push(Registered { tag, cancelled: false });
        Ok(())
    }
}
