//! basic.consume with a callback, to be sent.

use super::channel::BlockingChannel;
use crate::drive::inbox::{Arrived, Consumer};
use amqp_core::{Consume, Delivery, Error, Message, Outcome, Result, ShortString};
use std::{
    future::IntoFuture,
    sync::{Arc, Mutex, OnceLock},
};

/// The options of every consumer.
macro_rules! consume_options {
    () => {
        /// Its tag; otherwise one is made up.
        pub fn consumer_tag(mut self, tag: impl Into<amqp_core::ShortString>) -> Self {
            self.consume = self.consume.consumer_tag(tag);
            self
        }

        /// Whether messages are settled as soon as they are sent: faster, and what is on its way can be lost.
        #[doc(alias = "auto_ack")]
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
        pub fn arguments(mut self, arguments: amqp_core::Table) -> Self {
            self.consume = self.consume.arguments(arguments);
            self
        }

        /// How many unacknowledged messages this consumer may have, whatever
        /// [`basic_qos`](crate::BlockingChannel::basic_qos) said; 0 is no limit.
        pub fn prefetch(mut self, prefetch: u16) -> Self {
            self.consume = self.consume.prefetch(prefetch);
            self
        }
    };
}
pub(crate) use consume_options;

/// A consumer to be started, whose messages are given to a callback.
#[must_use = "nothing is sent before on_message(…)"]
#[derive(Debug)]
pub struct BlockingConsume {
    channel: BlockingChannel,
    consume: Consume<()>,
}

impl BlockingConsume {
    pub(crate) fn new(channel: &BlockingChannel, consume: Consume<()>) -> Self {
        Self { channel: channel.clone(), consume }
    }

    consume_options!();

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
        let consumer = Arc::new(Consumer {
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
