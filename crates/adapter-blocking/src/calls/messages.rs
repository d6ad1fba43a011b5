//! A consumer as an iterator.

use super::{channel::BlockingChannel, consume::consume_options};
use crate::drive::engine::Engine;
use amqp_core::{Consume, Consumer, Error, Message, Result, ShortString};
use std::{
    future::IntoFuture,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// A consumer to be started, whose messages are iterated over: pika's `consume`.
///
/// In a `for` loop it is started at once, and what went wrong with that is the first item.
///
/// # How many messages it takes ahead
///
/// The broker sends at most as many unacknowledged messages as [`prefetch`](Self::prefetch) says, or else
/// [`basic_qos`](BlockingChannel::basic_qos), or else ten. Say more where the broker is far away, and where the program
/// acknowledges in batches: the next message does not come before one of these is acknowledged.
///
/// Ten are few because of what leaving the loop costs. What was sent ahead goes back to the queue, and for the broker that is
/// one delivery more of each message: a quorum queue with a `delivery-limit` (RabbitMQ 4 sets 20) drops a message that has come
/// back more often than that, whether a program has seen it or not. With ten ahead, a program that leaves the loop after each
/// message gives each of the others back ten times at most before its turn. `prefetch(1)` gives back the fewest; a loop that is
/// entered again by `for message in &mut messages` gives back none.
#[must_use = "nothing is sent before call() or a for loop"]
#[derive(Debug)]
pub struct ConsumeMessages {
    channel: BlockingChannel,
    consume: Consume<()>,
    inactivity_timeout: Option<Duration>,
}

/// A consumer's messages, in the order in which the broker sent them.
///
/// An error is the reason why there are no more. `None` is the end that the program itself has made, or that nothing came within the inactivity timeout: the
/// next call goes on. A loop that is left can be entered again with `for message in &mut messages`.
///
/// Dropped, the consumer is cancelled, and what was never yielded goes back to the queue, which the broker counts as a delivery
/// of each: [how many that are](ConsumeMessages#how-many-messages-it-takes-ahead). What was yielded stays the program's to
/// acknowledge.
#[derive(Debug)]
pub struct Messages {
    engine: Arc<Engine>,
    /// Why it could not be started, or the consumer.
    consumer: Result<Consumer, Option<Error>>,
    inactivity_timeout: Option<Duration>,
}

/// Unacknowledged messages, unless the program says otherwise: less than half of the times that RabbitMQ 4's quorum queues let
/// a message come back, so that leaving a loop after each message loses none, and leaves room for what really fails.
const PREFETCH: u16 = 10;

impl ConsumeMessages {
    pub(crate) fn new(channel: &BlockingChannel, consume: Consume<()>) -> Self {
        Self { channel: channel.clone(), consume: consume.default_prefetch(PREFETCH), inactivity_timeout: None }
    }

    consume_options!();

    /// Sets how many messages may wait here: needed where the broker knows no limit, because of [`no_ack`](Self::no_ack) or a
    /// prefetch of 0.
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
        engine.left()?;
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

    /// Messages that have arrived and were not yielded yet: pika's `get_waiting_message_count`.
    #[doc(alias = "get_waiting_message_count")]
    pub fn waiting_message_count(&self) -> usize {
        self.consumer.as_ref().map_or(0, Consumer::len)
    }

    /// The next message, if one comes in time. Callbacks of timers and other consumers run meanwhile.
    ///
    /// # Errors
    /// Why there are no more, or what a callback returned.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Message>> {
        self.take(Instant::now().checked_add(limit)).transpose()
    }

    /// Ends the consumer and waits for the broker's answer: what was never yielded goes back to the queue. Counted is what
    /// had arrived already; what was still on its way goes back as well.
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
        if let Ok(consumer) = mem::replace(&mut self.consumer, Err(None)) {
            self.engine.leave(consumer);
        }
        let _ = self.engine.tend(false);
    }
}
