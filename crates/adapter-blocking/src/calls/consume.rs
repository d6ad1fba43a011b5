//! basic.consume, to be sent: with a callback, or to be iterated over.

use super::{channel::BlockingChannel, consumer::BlockingConsumer};
use crate::drive::inbox::{Arrived, CallbackConsumer};
use amqp_core::{Consume, Delivery, Error, Message, Outcome, Result, ShortString, Table};
use std::{
    future::IntoFuture,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

/// A consumer to be started: with a callback ([`on_message`](Self::on_message)), or as an iterator, by [`call`](Self::call) or
/// in a `for` loop, where it is started at once, and what went wrong with that is the first item.
///
/// # How many messages an iterator takes ahead
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
#[must_use = "nothing is sent before on_message(…), call() or a for loop"]
#[derive(Debug)]
pub struct BlockingConsume {
    channel: BlockingChannel,
    consume: Consume<()>,
    inactivity_timeout: Option<Duration>,
}

/// Unacknowledged messages, unless the program says otherwise: less than half of the times that RabbitMQ 4's quorum queues let
/// a message come back, so that leaving a loop after each message loses none, and leaves room for what really fails.
const PREFETCH: u16 = 10;

impl BlockingConsume {
    pub(crate) fn new(channel: &BlockingChannel, consume: Consume<()>) -> Self {
        Self { channel: channel.clone(), consume, inactivity_timeout: None }
    }

    /// Sets the consumer tag. If unset, a unique one is generated.
    pub fn consumer_tag(mut self, tag: impl Into<ShortString>) -> Self {
        self.consume = self.consume.consumer_tag(tag);
        self
    }

    /// Sets whether messages are settled as soon as they are sent: faster, and what is on its way can be lost.
    #[doc(alias = "auto_ack")]
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.consume = self.consume.no_ack(no_ack);
        self
    }

    /// Sets whether messages of this connection's own are left out. RabbitMQ ignores it.
    pub fn no_local(mut self, no_local: bool) -> Self {
        self.consume = self.consume.no_local(no_local);
        self
    }

    /// Sets whether no other consumer may consume from the queue.
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.consume = self.consume.exclusive(exclusive);
        self
    }

    /// `x-priority` and so on.
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.consume = self.consume.arguments(arguments);
        self
    }

    /// Sets how many unacknowledged messages this consumer may have, whatever
    /// [`basic_qos`](crate::BlockingChannel::basic_qos) said; 0 is no limit.
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.consume = self.consume.prefetch(prefetch);
        self
    }

    /// Sets how many messages may wait in an iterator: needed where the broker knows no limit, because of [`no_ack`](Self::no_ack) or a
    /// prefetch of 0.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.consume = self.consume.capacity(messages);
        self
    }

    /// Sets that the iterator ends when nothing has come for so long; it can be asked again.
    pub fn inactivity_timeout(mut self, timeout: Duration) -> Self {
        self.inactivity_timeout = Some(timeout);
        self
    }

    /// Starts the consumer and waits for the broker's answer.
    ///
    /// # Errors
    /// It could not be started: the reason.
    pub fn call(self) -> Result<BlockingConsumer> {
        let engine = self.channel.engine().clone();
        engine.left()?;
        let consumer = engine.block_on(self.consume.default_prefetch(PREFETCH).into_future())??;
        Ok(BlockingConsumer { engine, consumer: Ok(consumer), inactivity_timeout: self.inactivity_timeout })
    }

    /// Starts the consumer, waits for the broker's answer and gives the consumer's tag. `callback` is called with each
    /// message, in the order in which the broker sent them, by whichever thread processes events.
    ///
    /// # Errors
    /// It could not be started: the reason.
    #[doc(alias = "on_message_callback")]
    pub fn on_message<R: Outcome>(
        self,
        mut callback: impl FnMut(&BlockingChannel, Message) -> R + Send + 'static,
    ) -> Result<ShortString> {
        let engine = self.channel.engine();
        let lent = Arc::downgrade(engine);
        let on_message = Box::new(move |channel, message| {
            let engine = lent.upgrade().ok_or(Error::LoopGone)?;
            callback(&BlockingChannel::new(&engine, channel), message).outcome()
        });
        let consumer = Arc::new(CallbackConsumer {
            tag: OnceLock::new(),
            no_ack: self.consume.is_no_ack(),
            on_message: Mutex::new(Some(on_message)),
        });
        let (inbox, arriving) = (engine.inbox.clone(), consumer.clone());
        let connection = engine.connection.clone();
        let consume = self.consume.on_message(move |(), channel, delivery: Delivery<'_>| {
            arriving.tag.get_or_init(|| delivery.consumer_tag.to_owned());
            let (channel, consumer, message) = (channel.clone(), arriving.clone(), delivery.to_owned());
            inbox.message(&connection, Arrived::new(channel, consumer, message));
        });
        let tag = engine.block_on(consume.into_future())??.consumer_tag;
        Ok(consumer.tag.get_or_init(|| tag).clone())
    }
}

impl IntoIterator for BlockingConsume {
    type Item = Result<Message>;
    type IntoIter = BlockingConsumer;

    fn into_iter(self) -> BlockingConsumer {
        let (engine, inactivity_timeout) = (self.channel.engine().clone(), self.inactivity_timeout);
        self.call().unwrap_or_else(|error| BlockingConsumer { engine, consumer: Err(Some(error)), inactivity_timeout })
    }
}
