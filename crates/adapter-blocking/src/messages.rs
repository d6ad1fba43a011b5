//! A consumer as an iterator.

use crate::{channel::BlockingChannel, engine::Engine};
use amqp_core::{Consume, Consumer, Error, Message, Result, ShortString, Table};
use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, Instant},
};

/// A consumer to be started, whose messages are iterated over: pika's `consume`.
///
/// In a `for` loop it is started at once, and what went wrong with that is the first item.
#[must_use = "nothing is sent before call() or a for loop"]
#[derive(Debug)]
pub struct ConsumeMessages {
    channel: BlockingChannel,
    consume: Consume<()>,
    inactivity_timeout: Option<Duration>,
}

/// A consumer's messages, in the order in which the broker sent them.
///
/// An error is the reason why there are no more. `None` is the end, or that nothing came within the inactivity timeout: the
/// next call goes on. A loop that is left can be entered again with `for message in &mut messages`. Dropped, the consumer is
/// cancelled, and what was never yielded goes back to the queue; what was yielded stays the program's to acknowledge.
#[derive(Debug)]
pub struct Messages {
    engine: Arc<Engine>,
    /// Why it could not be started, or the consumer.
    consumer: Result<Consumer, Option<Error>>,
    inactivity_timeout: Option<Duration>,
}

impl ConsumeMessages {
    pub(crate) fn new(channel: &BlockingChannel, consume: Consume<()>) -> Self {
        Self { channel: channel.clone(), consume, inactivity_timeout: None }
    }

    /// Its tag; otherwise one is made up.
    pub fn consumer_tag(mut self, tag: impl Into<ShortString>) -> Self {
        self.consume = self.consume.consumer_tag(tag);
        self
    }

    /// Whether messages are settled as soon as they are sent: faster, and what was not yielded can be lost. It needs a
    /// [`capacity`](Self::capacity).
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.consume = self.consume.no_ack(no_ack);
        self
    }

    /// Whether messages of this connection's own are left out. RabbitMQ ignores it.
    pub fn no_local(mut self, no_local: bool) -> Self {
        self.consume = self.consume.no_local(no_local);
        self
    }

    /// Whether nobody else may consume from the queue.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.consume = self.consume.exclusive(exclusive);
        self
    }

    /// `x-priority` and so on.
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.consume = self.consume.arguments(arguments);
        self
    }

    /// How many unacknowledged messages this consumer may have; otherwise as [`basic_qos`](BlockingChannel::basic_qos) said,
    /// or 100.
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.consume = self.consume.prefetch(prefetch);
        self
    }

    /// How many messages may wait here, where the broker knows no limit.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.consume = self.consume.capacity(messages);
        self
    }

    /// The iterator ends when nothing has come for so long; it can be asked again.
    pub fn inactivity_timeout(mut self, timeout: Duration) -> Self {
        self.inactivity_timeout = Some(timeout);
        self
    }

    /// Starts the consumer and waits for the broker's answer.
    ///
    /// # Errors
    /// It could not be started: the reason.
    pub fn call(self) -> Result<Messages> {
        let engine = self.channel.engine().clone();
        let consumer = engine.block_on(self.consume.into_future())??;
        Ok(Messages { engine, consumer: Ok(consumer), inactivity_timeout: self.inactivity_timeout })
    }
}

impl IntoIterator for ConsumeMessages {
    type Item = Result<Message>;
    type IntoIter = Messages;

    fn into_iter(self) -> Messages {
        let (engine, inactivity_timeout) = (self.channel.engine().clone(), self.inactivity_timeout);
        self.call().unwrap_or_else(|error| Messages { engine, consumer: Err(Some(error)), inactivity_timeout })
    }
}

impl Messages {
    /// The consumer's tag; empty if it could not be started.
    pub fn consumer_tag(&self) -> ShortString {
        self.consumer.as_ref().map(|consumer| consumer.consumer_tag().clone()).unwrap_or_default()
    }

    /// The next message, if one comes in time. Callbacks of timers and other consumers run meanwhile.
    ///
    /// # Errors
    /// Why there are no more, or what a callback returned.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Message>> {
        self.take(Instant::now().checked_add(limit)).transpose()
    }

    /// Ends the consumer and waits for the broker's answer: what was never yielded goes back to the queue, and is counted.
    ///
    /// # Errors
    /// The broker did not answer: the reason.
    pub fn cancel(self) -> Result<usize> {
        let Ok(consumer) = &self.consumer else { return Ok(0) };
        self.engine.block_on(consumer.cancel().into_future())??;
        let untaken = consumer.len();
        let engine = self.engine.clone();
        drop(self);
        engine.tend(false)?;
        Ok(untaken)
    }

    fn take(&mut self, deadline: Option<Instant>) -> Option<Result<Message>> {
        let Self { engine, consumer, .. } = self;
        let consumer = match consumer {
            Ok(consumer) => consumer,
            Err(error) => return error.take().map(Err),
        };
        loop {
            match engine.next(consumer, deadline) {
                Ok(Some(next)) => return next,
                Ok(None) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return None,
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for Messages {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        let deadline = self.inactivity_timeout.and_then(|limit| Instant::now().checked_add(limit));
        self.take(deadline)
    }
}

/// What was never yielded goes back at once.
impl Drop for Messages {
    fn drop(&mut self) {
        self.consumer = Err(None);
        let _ = self.engine.tend(false);
    }
}
