//! A channel whose calls wait.

use super::{
    connection::BlockingConnection,
    consume::BlockingConsume,
    publish::{BlockingPublish, BlockingWaitForConfirms},
};
use crate::drive::{engine::Engine, weight};
use amqp_core::{
    Body, CallbackId, Channel, DeliveryTag, Error, Handle, Outcome, Result, Returned, ShortString, Target, Waits,
    error::Misuse,
};
use std::{fmt, sync::Arc};

/// A channel of a [`BlockingConnection`]: every request is sent by `.call()`, which waits for its reply, or by `.send()`,
/// which does not. Cloned, it is the same channel; it can be used by any thread.
#[derive(Clone)]
pub struct BlockingChannel {
    engine: Arc<Engine>,
    channel: Channel,
}

impl BlockingChannel {
    amqp_core::channel_requests!();

    pub(crate) fn new(engine: &Arc<Engine>, channel: Channel) -> Self {
        Self { engine: engine.clone(), channel }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns the channel's number.
    pub fn channel_number(&self) -> u16 {
        self.channel.channel_number()
    }

    /// Returns its connection. Dropping this one ends nothing: the connection ends with the [`BlockingConnection`] that was opened.
    pub fn connection(&self) -> BlockingConnection {
        BlockingConnection::of(&self.engine)
    }

    /// Returns whether it can be used.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// Returns whether it is closed, or this program has asked for that.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Returns why it is closed; `None` while it is open.
    pub fn close_reason(&self) -> Option<Error> {
        self.channel.close_reason()
    }

    /// Returns the tags of its consumers.
    pub fn consumer_tags(&self) -> Vec<ShortString> {
        self.channel.consumer_tags()
    }

    /// Publishes a message [§1.8.3.7].
    pub fn basic_publish<'a>(
        &'a self,
        exchange: &'a (impl AsRef<[u8]> + ?Sized),
        routing_key: &'a (impl AsRef<[u8]> + ?Sized),
        body: impl Into<Body<'a>>,
    ) -> BlockingPublish<'a> {
        BlockingPublish::new(&self.engine, &self.channel, self.channel.basic_publish(exchange, routing_key, body))
    }

    /// Waits for the confirms of what was published by [`send`](BlockingPublish::send) on this channel until now.
    pub fn wait_for_confirms(&self) -> BlockingWaitForConfirms {
        BlockingWaitForConfirms::new(&self.engine, &self.channel)
    }

    /// Publishes that the broker has not confirmed yet; 0 without confirm mode.
    pub fn unconfirmed(&self) -> usize {
        self.channel.unconfirmed()
    }

    /// Starts a consumer whose messages are given to a callback [§1.8.3.3]; [`start_consuming`](Self::start_consuming)
    /// calls it.
    pub fn basic_consume(&self, queue: impl Into<ShortString>) -> BlockingConsume {
        BlockingConsume::new(self, self.channel.basic_consume(queue))
    }

    /// Consumes in a `for` loop. Leaving the loop ends the consumer and gives back what was sent ahead:
    /// [ten messages at most](BlockingConsume#how-many-messages-an-iterator-takes-ahead), unless the program says otherwise.
    pub fn consume(&self, queue: impl Into<ShortString>) -> BlockingConsume {
        BlockingConsume::new(self, self.channel.basic_consume(queue))
    }

    /// Acknowledges one message [§1.8.3.13].
    ///
    /// # Errors
    /// The channel is closed, or the tag is another channel's. Nothing was sent.
    pub fn basic_ack(&self, delivery_tag: DeliveryTag) -> Result<()> {
        self.sending(|channel| channel.basic_ack(delivery_tag))
    }

    /// Acknowledges a message and all earlier ones of this channel.
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_ack_multiple(&self, delivery_tag: DeliveryTag) -> Result<()> {
        self.sending(|channel| channel.basic_ack_multiple(delivery_tag))
    }

    /// Refuses one message [§1.8.3.14]: back into the queue, or dropped (dead-lettered where the queue says so).
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_reject(&self, delivery_tag: DeliveryTag, requeue: bool) -> Result<()> {
        self.sending(|channel| channel.basic_reject(delivery_tag, requeue))
    }

    /// Refuses one message, or with `multiple` all earlier ones too (RabbitMQ).
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_nack(&self, delivery_tag: DeliveryTag, multiple: bool, requeue: bool) -> Result<()> {
        self.sending(|channel| channel.basic_nack(delivery_tag, multiple, requeue))
    }

    fn sending(&self, send: impl FnOnce(&Channel) -> Result<()>) -> Result<()> {
        self.engine.attended();
        send(&self.channel)?;
        self.engine.sent()
    }

    /// Gives messages to this channel's consumers, and runs whatever else waits for a callback, until the channel has no
    /// consumer any more: until [`stop_consuming`](Self::stop_consuming), for example.
    ///
    /// # Errors
    /// What a callback returned; [`Misuse`] within one; why the channel or the connection was closed, unless this program
    /// has closed it; [`Error::ConsumerCancelled`] where the broker has ended the last consumer, because its queue was deleted
    /// for example. A program that expects that, and has a cancel callback, calls [`stop_consuming`](Self::stop_consuming) there.
    pub fn start_consuming(&self) -> Result<()> {
        if self.engine.inbox.is_dispatched_here() {
            return Err(Misuse::StartConsumingInCallback.into());
        }
        while self.channel.is_consuming() || !self.engine.inbox.is_empty() {
            self.engine.process(None, &mut || !self.channel.is_consuming())?;
        }
        match self.channel.close_reason() {
            None => self.channel.last_ended().map_or(Ok(()), Err),
            Some(reason) if reason.is_deliberate() => Ok(()),
            Some(reason) => Err(reason),
        }
    }

    /// Cancels the channel's consumers: their messages that no callback has been given go back to the queue.
    ///
    /// # Errors
    /// The broker did not answer: the reason.
    pub fn stop_consuming(&self) -> Result<()> {
        for tag in self.channel.consumer_tags() {
            self.basic_cancel(tag).call()?;
        }
        self.channel.forget_ended();
        Ok(())
    }

    /// Called with every message that comes back because nothing is bound for it, unless its [`call`](BlockingPublish::call)
    /// tells of it.
    pub fn add_on_return_callback<R: Outcome>(
        &self,
        callback: impl Fn(&Self, &Returned) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let (engine, callback) = (Arc::downgrade(&self.engine), Arc::new(callback));
        self.channel.add_on_return_callback(move |(), channel, returned| {
            let Some(engine) = engine.upgrade() else { return };
            let (channel, callback, returned) =
                (Self::new(&engine, channel.clone()), callback.clone(), returned.clone());
            let octets = weight::returned(&returned);
            let call = Box::new(move || callback(&channel, &returned).outcome());
            engine.inbox.event(&engine.connection, octets, call);
        })
    }

    /// Called with the tag of a consumer that the broker has ended, because its queue was deleted for example.
    pub fn add_on_cancel_callback<R: Outcome>(
        &self,
        callback: impl Fn(&Self, &ShortString) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let (engine, callback) = (Arc::downgrade(&self.engine), Arc::new(callback));
        self.channel.add_on_cancel_callback(move |(), channel, tag| {
            let Some(engine) = engine.upgrade() else { return };
            let (channel, callback, tag) = (Self::new(&engine, channel.clone()), callback.clone(), tag.clone());
            let octets = weight::name(&tag);
            let call = Box::new(move || callback(&channel, &tag).outcome());
            engine.inbox.event(&engine.connection, octets, call);
        })
    }

    /// Takes back what an `add_…` method has registered; false if it is not there any more.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.channel.remove_callback(id)
    }
}

impl Handle for BlockingChannel {
    type State = ();

    fn target(&self) -> Target<'_, ()> {
        Target::Channel(&self.channel)
    }

    fn before_request(&self) {
        self.engine.attended();
    }

    fn after_request(&self, cancelled: Option<&ShortString>, waits: bool) {
        // Nothing reaches a consumer after its cancel: what no callback has been given goes back.
        for arrived in cancelled.into_iter().flat_map(|tag| self.engine.inbox.cancel(self.channel_number(), tag)) {
            if !arrived.consumer.no_ack {
                arrived.channel.give_back(&arrived.message);
            }
        }
        if !waits {
            // A loop that cannot wait reports that to the next call that waits.
            let _ = self.engine.sent();
        }
    }
}

impl Waits for BlockingChannel {
    fn wait(&self, done: &mut dyn FnMut() -> bool) {
        let _ = self.engine.until(None, done);
    }
}

impl fmt::Debug for BlockingChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocking{:?}", self.channel)
    }
}
