//! What a program holds of a channel.

use crate::{
    api::{
        connection::ConnectionHandle,
        consume::Consume,
        event::{Event, EventCallback, Source},
        publish::Publish,
        request::Confirm,
    },
    error::{Error, Result},
    session::{
        Op, Shared, ack,
        callbacks::{CallbackId, Key, Terms},
        channel::{ChannelState, Identity},
        confirm::Confirms,
        reply::{Continuation, Expect, Outcome},
    },
    wire::{
        confirmation::Confirmation,
        frame::{Body, put_ack, put_method},
        message::{DeliveryTag, Message, Returned},
        spec::{Arguments, Method, MethodId, basic, channel},
        strings::ShortString,
    },
};
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// A channel. Cloned, it is the same channel.
///
/// A handle that outlives its channel says on every call why the channel was closed; it never reaches the next channel
/// with the same number. When the last handle is dropped and nothing is consumed, the channel is closed as soon as the
/// last reply and the last confirm have come.
pub struct Channel<S: 'static = ()>(Arc<Inner<S>>);

struct Inner<S: 'static> {
    shared: Arc<Shared<S>>,
    identity: Arc<Identity>,
    /// False for a handle that is lent when the program has none any more.
    owner: bool,
}

/// The loop's way to the program's handle, if there is one.
pub(crate) struct WeakChannel<S: 'static>(Weak<Inner<S>>);

impl<S: 'static> WeakChannel<S> {
    /// The program has dropped its last handle.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    pub(crate) fn upgrade(&self, shared: &Arc<Shared<S>>, identity: &Arc<Identity>) -> Channel<S> {
        Channel(
            self.0.upgrade().unwrap_or_else(|| {
                Arc::new(Inner { shared: shared.clone(), identity: identity.clone(), owner: false })
            }),
        )
    }
}

impl<S: 'static> Channel<S> {
    crate::channel_requests!();

    pub(super) fn new(shared: Arc<Shared<S>>, identity: Arc<Identity>) -> Self {
        shared.keep();
        Self(Arc::new(Inner { shared, identity, owner: true }))
    }

    fn downgrade(&self) -> WeakChannel<S> {
        WeakChannel(Arc::downgrade(&self.0))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.0.shared
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.0.identity
    }

    pub(super) fn open(&self, then: Continuation<S>) -> Result<()> {
        let expect = Expect(channel::OpenOk::ID, None);
        let op = Op::Open { identity: self.0.identity.clone(), handle: self.downgrade() };
        self.0.shared.submit(&self.0.identity, &channel::Open::default().into(), Some(expect), then, Some(op))
    }

    /// Returns the channel's number.
    pub fn channel_number(&self) -> u16 {
        self.0.identity.number
    }

    /// Returns its connection.
    pub fn connection(&self) -> ConnectionHandle<S> {
        ConnectionHandle::new(self.0.shared.clone())
    }

    /// Returns whether it can be used.
    pub fn is_open(&self) -> bool {
        !self.is_closed()
    }

    /// Returns whether it is closed, or this program has asked for that, of the channel or of its connection.
    pub fn is_closed(&self) -> bool {
        self.0.identity.is_closed()
    }

    /// Returns why it is closed, or what it or its connection was asked to be closed with; `None` while it is open.
    pub fn close_reason(&self) -> Option<Error> {
        self.is_closed().then(|| self.0.identity.reason())
    }

    /// Returns whether each publish has an outcome, because of [`confirm_select`](Self::confirm_select) or
    /// [`confirm_delivery`](Self::confirm_delivery).
    pub fn is_confirming(&self) -> bool {
        self.look(|channel| channel.confirms.is_some()).unwrap_or(false)
    }

    /// Returns whether it has a consumer that was not cancelled.
    pub fn is_consuming(&self) -> bool {
        self.look(|channel| channel.consumers.iter().any(|consumer| !consumer.cancelled)).unwrap_or(false)
    }

    /// Says how the broker has ended its last consumer, if it was not the program who did.
    #[doc(hidden)]
    pub fn last_ended(&self) -> Option<Error> {
        let channel = self.channel_number();
        self.look(|state| {
            let consumer_tag = state.last_ended.as_ref()?.to_string_lossy().into();
            Some(Error::ConsumerCancelled { channel, consumer_tag })
        })
        .flatten()
    }

    /// The program knows of that.
    #[doc(hidden)]
    pub fn forget_ended(&self) {
        let mut state = self.shared().lock();
        let identity = self.identity();
        let channel = state.channel(identity.number).filter(|channel| channel.identity.serial == identity.serial);
        let ended = channel.and_then(|channel| channel.last_ended.take());
        drop(state);
        drop(ended);
    }

    /// Returns the tags of its consumers.
    pub fn consumer_tags(&self) -> Vec<ShortString> {
        let tags = |channel: &ChannelState<S>| {
            let live = channel.consumers.iter().filter(|consumer| !consumer.cancelled);
            live.map(|consumer| consumer.tag.clone()).collect()
        };
        self.look(tags).unwrap_or_default()
    }

    /// Its state, unless it is closed.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&ChannelState<S>) -> R) -> Option<R> {
        self.0.shared.lock().channel_of(&self.0.identity).map(look)
    }

    /// Starts a consumer [§1.8.3.3].
    pub fn basic_consume(&self, queue: impl Into<ShortString>) -> Consume<S> {
        Consume::new(self, queue.into())
    }

    /// Publishes a message [§1.8.3.7].
    ///
    /// ```no_run
    /// # fn example(channel: &amqp_core::Channel) -> amqp_core::Result<()> {
    /// channel.basic_publish("", "hello", "Hello, world").send()
    /// # }
    /// ```
    #[inline]
    pub fn basic_publish<'a>(
        &'a self,
        exchange: &'a (impl AsRef<[u8]> + ?Sized),
        routing_key: &'a (impl AsRef<[u8]> + ?Sized),
        body: impl Into<Body<'a>>,
    ) -> Publish<'a, S> {
        Publish::new(self, exchange.as_ref(), routing_key.as_ref(), body.into())
    }

    /// Acknowledges one message [§1.8.3.13].
    ///
    /// # Errors
    /// The channel is closed, or the tag is another channel's. Nothing was sent.
    #[inline]
    pub fn basic_ack(&self, delivery_tag: DeliveryTag) -> Result<()> {
        self.0.shared.settle(&self.0.identity, Some(delivery_tag), ack)
    }

    /// Acknowledges a message and all earlier ones of this channel.
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_ack_multiple(&self, delivery_tag: DeliveryTag) -> Result<()> {
        self.0.shared.settle(&self.0.identity, Some(delivery_tag), |out, channel, tag| {
            put_ack(out, channel, tag, true);
        })
    }

    /// Refuses one message [§1.8.3.14]: back into the queue, or dropped (dead-lettered where the queue says so).
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_reject(&self, delivery_tag: DeliveryTag, requeue: bool) -> Result<()> {
        self.0.shared.settle(&self.0.identity, Some(delivery_tag), |out, channel, delivery_tag| {
            put_small(out, channel, &basic::Reject { delivery_tag, requeue }.into());
        })
    }

    /// Refuses one message, or with `multiple` all earlier ones too (RabbitMQ).
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_nack(&self, delivery_tag: DeliveryTag, multiple: bool, requeue: bool) -> Result<()> {
        self.0.shared.settle(&self.0.identity, Some(delivery_tag), |out, channel, delivery_tag| {
            put_small(out, channel, &basic::Nack { delivery_tag, multiple, requeue }.into());
        })
    }

    /// Puts a message that was not taken back into its queue. A stream queue keeps its messages: there is nothing to give
    /// back, and RabbitMQ would close the connection with 540.
    #[doc(hidden)]
    pub fn give_back(&self, message: &Message) {
        if !message.properties.is_of_stream_queue() {
            // A channel that is closed has requeued it already.
            let _ = self.basic_reject(message.delivery_tag, true);
        }
    }

    /// Puts the channel into confirm mode (RabbitMQ), with a callback for every confirm: pika's `confirm_delivery` with its
    /// `ack_nack_callback`. Publishes are numbered from 1, and the callback gets the numbers that are acked or nacked.
    ///
    /// [`confirm_select`](Self::confirm_select) is confirm mode without it: each publish then returns its own outcome, and
    /// no number has to be kept. The outcomes are there after this one, too.
    #[doc(alias = "ack_nack_callback")]
    pub fn confirm_delivery<R: Outcome>(
        &self,
        mut callback: impl FnMut(&mut S, &Self, Confirmation) -> R + Send + 'static,
    ) -> Confirm<S> {
        Confirm::new(
            self,
            Box::new(move |state, channel, confirmation| callback(state, channel, confirmation).outcome()),
        )
    }

    /// Called when the channel is closed, by whomever.
    pub fn add_on_close_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Error) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Close, move |state, channel, event| match event {
            Event::Close(error) => callback(state, channel, error).outcome(),
            _ => Ok(()),
        })
    }

    /// Called with every message that comes back because nothing is bound for it.
    pub fn add_on_return_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Returned) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Return, move |state, channel, event| match event {
            Event::Return(returned) => callback(state, channel, returned).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the broker wants publishes to pause (`false`) or to go on [§1.5.2.5]; it has been answered already, and
    /// until then publishes wait, and so do the requests after them. RabbitMQ never asks for that.
    pub fn add_on_flow_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, bool) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Flow, move |state, channel, event| match event {
            Event::Flow(active) => callback(state, channel, *active).outcome(),
            _ => Ok(()),
        })
    }

    /// Called with the tag of a consumer that the broker has ended, because its queue was deleted for example.
    pub fn add_on_cancel_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &ShortString) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Cancel, move |state, channel, event| match event {
            Event::Cancel(tag) => callback(state, channel, tag).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when one of these methods arrives on this channel, once or always: pika's low-level hook. Content
    /// (deliveries, basic.get-ok, returns) does not come this way.
    pub fn add_callback<R: Outcome>(
        &self,
        replies: &[MethodId],
        terms: Terms,
        callback: impl Fn(&mut S, &Self, &Method) -> R + Send + Sync + 'static,
    ) -> Vec<CallbackId> {
        let callback: Arc<EventCallback<S>> = Arc::new(move |state, source, event| match (source, event) {
            (Source::Channel(channel), Event::Method(method)) => callback(state, channel, method).outcome(),
            _ => Ok(()),
        });
        let add = |id: &MethodId| {
            let callbacks = &self.0.shared.callbacks;
            callbacks.add(self.channel_number(), Key::Method(*id), callback.clone(), terms.clone())
        };
        replies.iter().map(add).collect()
    }

    /// Takes back what an `add_…` method has registered; false if it is not there any more.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.0.shared.callbacks.remove(id)
    }

    fn on(
        &self,
        key: Key,
        callback: impl Fn(&mut S, &Self, &Event) -> Result<()> + Send + Sync + 'static,
    ) -> CallbackId {
        let callback = Arc::new(move |state: &mut S, source: &Source<S>, event: &Event| match source {
            Source::Channel(channel) => callback(state, channel, event),
            Source::Connection(_) => Ok(()),
        });
        self.0.shared.callbacks.add(self.channel_number(), key, callback, Terms::persistent())
    }
}

/// A method without names or tables, which always fits.
fn put_small(out: &mut Vec<u8>, channel: u16, method: &Method) {
    let put = put_method(out, channel, method, 4096);
    debug_assert!(put.is_ok());
}

impl<S: 'static> Shared<S> {
    /// Closes a channel without handles, if nothing is outstanding on it.
    pub(crate) fn close_if_idle(&self, identity: &Arc<Identity>) {
        let state = self.lock();
        let idle = state.channel_of(identity).is_some_and(|channel| {
            let unconfirmed = channel.confirms.as_ref().map_or(0, Confirms::unconfirmed);
            channel.fifo.is_empty() && channel.consumers.is_empty() && unconfirmed == 0
        });
        drop(state);
        if idle {
            let close = channel::Close { reply_code: 200, reply_text: "Dropped".into(), class_id: 0, method_id: 0 };
            let expect = Some(Expect(channel::CloseOk::ID, None));
            let _ = self.submit(identity, &close.into(), expect, Continuation::Nobody, None);
        }
    }
}

/// The last handle is gone, so the channel is closed here if nothing is outstanding on it, or
/// else by the loop when the last reply has come.
impl<S: 'static> Drop for Inner<S> {
    fn drop(&mut self) {
        if !self.owner {
            return;
        }
        if !self.identity.is_closed() && !self.shared.bell.is_gone() {
            self.shared.close_if_idle(&self.identity);
        }
        self.shared.release();
    }
}

impl<S: 'static> Clone for Channel<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: 'static> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({} at {})", self.channel_number(), self.0.shared.lock().endpoint())
    }
}
