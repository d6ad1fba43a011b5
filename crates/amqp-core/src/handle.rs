//! Handles: what a program holds of a connection and its channels. They can be cloned, sent and shared; every method
//! changes some state under one short lock, and none of them ever calls the program.

use crate::{
    awaited::Awaited,
    callback::{CallbackId, Key, Terms},
    channel::{ChannelState, Identity},
    confirm::Confirmation,
    connection::LoopHandle,
    consume::Consume,
    delivery::{DeliveryTag, Returned},
    error::{Error, Result},
    event::{Event, EventCallback, Source},
    frame::{Body, put_ack, put_method},
    outbox::Outbox,
    parameters::ConnectionParameters,
    publish::Publish,
    reply::{Continuation, Expect, Outcome},
    request::{Confirm, Request},
    shared::{Op, Phase, Shared, ack, next_serial},
    slot::Slot,
    spec::{Arguments, Method, MethodId, basic, channel, connection},
    table::Table,
    wire::ShortString,
};
use std::{
    fmt,
    future::IntoFuture,
    sync::{Arc, Weak, atomic::Ordering},
};

/// A connection. Cloned, it is the same connection.
pub struct ConnectionHandle<S: 'static = ()>(pub(crate) Arc<Shared<S>>);

/// A channel. Cloned, it is the same channel.
///
/// A handle that outlives its channel says on every call why the channel was closed; it never reaches the next channel
/// with the same number. When the last handle is dropped while nothing is consumed and nothing outstanding, the channel
/// is closed.
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

impl<S: 'static> ConnectionHandle<S> {
    /// Opens a channel [§1.5.2.1]; it can be used at once, what is called on it goes out behind channel.open.
    pub fn channel(&self) -> OpenChannel<S> {
        OpenChannel { connection: self.clone(), number: None }
    }

    /// Closes the connection [§1.4.2.10]: everything that was called before goes out first, channels end with it.
    ///
    /// Answered within `close_timeout`. Closing what is closed already is answered with the reason it was closed for.
    pub fn close(&self) -> CloseConnection<S> {
        CloseConnection { connection: self.clone(), code: 200, text: "Normal shutdown".into() }
    }

    /// Replaces the secret of the credentials before it expires (RabbitMQ; OAuth 2 for example).
    pub fn update_secret(
        &self,
        new_secret: impl Into<crate::secret::Secret>,
        reason: impl Into<ShortString>,
    ) -> Request<connection::UpdateSecret, Self> {
        Request::new(self, connection::UpdateSecret { new_secret: new_secret.into(), reason: reason.into() })
    }

    /// Whether channels can be opened.
    pub fn is_open(&self) -> bool {
        self.0.lock().phase == Phase::Open
    }

    /// Whether this program has asked for the end and waits for the answer.
    pub fn is_closing(&self) -> bool {
        matches!(self.0.lock().phase, Phase::Closing { .. })
    }

    /// Whether it is over, or was never opened.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.lock().phase, Phase::Closed(_))
    }

    /// Why it is closed; `None` before.
    pub fn close_reason(&self) -> Option<Error> {
        match &self.0.lock().phase {
            Phase::Closed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// What it was opened with; negotiation changes none of it.
    #[doc(alias = "params")]
    pub fn parameters(&self) -> &ConnectionParameters {
        &self.0.parameters
    }

    /// `host:port` of the broker: of several endpoints the one that is connected to, or that is tried.
    pub fn endpoint(&self) -> Arc<str> {
        self.0.lock().endpoint.clone()
    }

    /// What the broker says it is; `None` before the connection is open.
    pub fn server_properties(&self) -> Option<&Table> {
        self.0.server_properties.get()
    }

    /// Whether the broker says that it can do this, `basic.nack` for example.
    #[doc(alias = "server_capabilities")]
    pub fn has_capability(&self, name: &str) -> bool {
        self.0.has_capability(name)
    }

    /// Channels that may be open at once, as negotiated.
    pub fn channel_max(&self) -> u16 {
        self.0.lock().limits.channel_max
    }

    /// Octets in a frame, as negotiated.
    pub fn frame_max(&self) -> usize {
        self.0.lock().limits.frame_max
    }

    /// Seconds between heartbeats, as negotiated; 0 is off.
    pub fn heartbeat(&self) -> u16 {
        self.0.lock().limits.heartbeat
    }

    /// Octets that wait to be written.
    pub fn outbound_len(&self) -> usize {
        self.0.lock().held()
    }

    /// The loop that serves this connection.
    pub fn ioloop(&self) -> LoopHandle<S> {
        LoopHandle(self.0.bell.clone())
    }

    /// Called when the connection is open, beside the callback that it was opened with.
    pub fn add_on_open_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Open, move |state, connection, _| callback(state, connection).outcome())
    }

    /// Called when the connection cannot be opened.
    pub fn add_on_open_error_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Error) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::OpenError, move |state, connection, event| match event {
            Event::OpenError(error) => callback(state, connection, error).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the connection is closed, by whomever, after its channels' callbacks.
    pub fn add_on_close_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &Error) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Close, move |state, connection, event| match event {
            Event::Close(error) => callback(state, connection, error).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the broker stops accepting publishes, with its words.
    pub fn add_on_connection_blocked_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, &ShortString) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Blocked, move |state, connection, event| match event {
            Event::Blocked(reason) => callback(state, connection, reason).outcome(),
            _ => Ok(()),
        })
    }

    /// Called when the broker accepts publishes again.
    pub fn add_on_connection_unblocked_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        self.on(Key::Unblocked, move |state, connection, _| callback(state, connection).outcome())
    }

    /// Called when more octets wait to be written than `outbound_high_water`, with their number, and with 0 when they
    /// are written again.
    pub fn add_backpressure_callback<R: Outcome>(
        &self,
        callback: impl Fn(&mut S, &Self, usize) -> R + Send + Sync + 'static,
    ) -> CallbackId {
        let callback: Arc<EventCallback<S>> = Arc::new(move |state, source, event| match (source, event) {
            (Source::Connection(connection), Event::Backpressure(octets)) => {
                callback(state, connection, *octets).outcome()
            }
            (Source::Connection(connection), Event::Drained) => callback(state, connection, 0).outcome(),
            _ => Ok(()),
        });
        self.0.callbacks.add(0, Key::Backpressure, callback, Terms::persistent())
    }

    /// With [`backpressure_detection`](ConnectionParameters::backpressure_detection) the callbacks are called too when more
    /// octets wait to be written than so many average frames have: 10, if nothing else is said.
    pub fn set_backpressure_multiplier(&self, value: u32) {
        self.0.backpressure_multiplier.store(value, Ordering::Relaxed);
    }

    /// Takes back what an `add_…` method has registered; false if it is not there any more.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        self.0.callbacks.remove(id)
    }

    fn on(
        &self,
        key: Key,
        callback: impl Fn(&mut S, &Self, &Event) -> Result<()> + Send + Sync + 'static,
    ) -> CallbackId {
        let callback = Arc::new(move |state: &mut S, source: &Source<S>, event: &Event| match source {
            Source::Connection(connection) => callback(state, connection, event),
            Source::Channel(_) => Ok(()),
        });
        self.0.callbacks.add(0, key, callback, Terms::persistent())
    }
}

/// channel.open, to be sent: [`then`](Self::then) lends the channel to a callback, `.await` gives it when the broker has
/// answered, [`send`](Self::send) at once.
#[must_use = "nothing is sent before then(), .await or send()"]
#[derive(Debug)]
pub struct OpenChannel<S: 'static = ()> {
    connection: ConnectionHandle<S>,
    number: Option<u16>,
}

impl<S: 'static> OpenChannel<S> {
    /// This number instead of the lowest that is free.
    pub fn channel_number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }

    /// Opens the channel; `callback` is lent it when the broker has answered, or told why there is none.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<()>) -> R + Send + 'static) {
        let (channel, opened) = self.register();
        let lent = channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer| {
            callback(state, &lent, answer.map(|_| ())).outcome()
        }));
        let refused = match opened {
            Ok(()) => channel.open(then).err(),
            Err(error) => Some((error, then)),
        };
        if let Some((error, then)) = refused {
            channel.0.shared.answer_later(then, error);
        }
    }

    /// Opens the channel and gives it without waiting: what is called on it goes out behind channel.open.
    ///
    /// # Errors
    /// The connection is not open, or all channels are.
    pub fn send(self) -> Result<Channel<S>> {
        let (channel, opened) = self.register();
        opened?;
        channel.open(Continuation::Nobody).map_err(|(error, _)| error)?;
        Ok(channel)
    }

    fn register(self) -> (Channel<S>, Result<()>) {
        let shared = &self.connection.0;
        let serial = next_serial();
        let mut state = shared.lock();
        let limit = state.limits.channel_max;
        let free = |number: &u16| !state.channels.contains_key(number);
        let result = match (&state.phase, self.number) {
            (Phase::Open, Some(number)) if number == 0 || number > limit || !free(&number) => {
                Err(crate::error::Invalid::ChannelNumber(number).into())
            }
            (Phase::Open, Some(number)) => Ok(number),
            (Phase::Open, None) => {
                (1..=limit).find(free).ok_or_else(|| Error::NoFreeChannels { endpoint: state.endpoint.clone(), limit })
            }
            (phase, _) => Err(phase.refusal()),
        };
        let identity = Identity::new(*result.as_ref().unwrap_or(&0), serial);
        let inner = Arc::new(Inner { shared: shared.clone(), identity: identity.clone(), owner: true });
        let result = match result {
            Ok(number) => {
                state.channels.insert(number, ChannelState::new(identity.clone()));
                state.hurry();
                state.ops.push(Op::Open { identity, handle: WeakChannel(Arc::downgrade(&inner)) });
                shared.news.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                identity.close(error.clone());
                Err(error)
            }
        };
        drop(state);
        (Channel(inner), result)
    }
}

impl<S: 'static> IntoFuture for OpenChannel<S> {
    type Output = Result<Channel<S>>;
    type IntoFuture = Awaited<Channel<S>>;

    /// Sends channel.open. If nobody takes the channel, it is closed again.
    fn into_future(self) -> Awaited<Channel<S>> {
        let slot = Slot::new();
        let (channel, opened) = self.register();
        let then = Continuation::Slot(slot.clone());
        if let Err((error, then)) = match opened {
            Ok(()) => channel.open(then),
            Err(error) => Err((error, then)),
        } {
            channel.0.shared.answer_later(then, error);
        }
        let unclaimed = channel.clone();
        Awaited::new(slot, move |_| Ok(channel)).or_else(move |_| drop(unclaimed))
    }
}

/// connection.close, to be sent.
#[must_use = "nothing is sent before then(), .await or send()"]
#[derive(Debug)]
pub struct CloseConnection<S: 'static = ()> {
    connection: ConnectionHandle<S>,
    code: u16,
    text: ShortString,
}

impl<S: 'static> CloseConnection<S> {
    /// The reply code, 200 otherwise.
    pub fn reply_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// The reply text, `Normal shutdown` otherwise.
    pub fn reply_text(mut self, text: impl Into<ShortString>) -> Self {
        self.text = text.into();
        self
    }

    /// Closes; `callback` is called when the broker has agreed, or told why it did not.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) {
        let lent = self.connection.clone();
        let shared = self.connection.0.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer| {
            callback(state, &lent, answer.map(|_| ())).outcome()
        }));
        if let Err((error, then)) = self.submit(then) {
            shared.answer_later(then, error);
        }
    }

    /// Closes.
    ///
    /// # Errors
    /// It is closing or closed already: the reason.
    pub fn send(self) -> Result<()> {
        self.submit(Continuation::Nobody).map_err(|(error, _)| error)
    }

    fn submit(self, then: Continuation<S>) -> Result<(), (Error, Continuation<S>)> {
        let shared = &self.connection.0;
        let mut guard = shared.lock();
        let state = &mut *guard;
        let text: Arc<str> = self.text.to_string().into();
        match &state.phase {
            Phase::Open => {
                let close =
                    connection::Close { reply_code: self.code, reply_text: self.text, class_id: 0, method_id: 0 };
                let mut last = Outbox::default();
                if let Err(invalid) = put_method(last.octets(), 0, &close.into(), state.limits.frame_max) {
                    drop(guard);
                    return Err((invalid.into(), then));
                }
                state.desert(&Error::ConnectionClosedByClient { code: self.code, text: text.clone() });
                state.outbox.append(last);
            }
            Phase::Opening => {}
            Phase::Closing { .. } if !matches!(then, Continuation::Nobody) => {
                state.closers.push(then);
                return Ok(());
            }
            phase => {
                let error = phase.refusal();
                drop(guard);
                return Err((error, then));
            }
        }
        state.phase = Phase::Closing { code: self.code, text };
        state.closers.push(then);
        state.ops.push(Op::Shutdown);
        state.hurry();
        shared.news.store(true, Ordering::Release);
        shared.unlock(guard);
        Ok(())
    }
}

impl<S: 'static> IntoFuture for CloseConnection<S> {
    type Output = Result<()>;
    type IntoFuture = Awaited<()>;

    /// Sends connection.close.
    fn into_future(self) -> Awaited<()> {
        let slot = Slot::new();
        let shared = self.connection.0.clone();
        if let Err((error, then)) = self.submit(Continuation::Slot(slot.clone())) {
            shared.answer_later(then, error);
        }
        Awaited::new(slot, |_| Ok(()))
    }
}

impl<S: 'static> Channel<S> {
    crate::channel_requests!();

    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.0.shared
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.0.identity
    }

    fn open(&self, then: Continuation<S>) -> Result<(), (Error, Continuation<S>)> {
        let open = channel::Open::default().into();
        let expect = Expect(channel::OpenOk::ID, None);
        let result = self.0.shared.submit(&self.0.identity, &open, Some(expect), then, None);
        result.map_err(|refused| (refused.error, refused.then))
    }

    /// The channel's number.
    pub fn channel_number(&self) -> u16 {
        self.0.identity.number
    }

    /// Its connection.
    pub fn connection(&self) -> ConnectionHandle<S> {
        ConnectionHandle(self.0.shared.clone())
    }

    /// Whether it can be used.
    pub fn is_open(&self) -> bool {
        !self.is_closed()
    }

    /// Whether it is closed, or this program has asked for that, of the channel or of its connection.
    pub fn is_closed(&self) -> bool {
        self.0.identity.is_closed()
    }

    /// Why it is closed, or what it or its connection was asked to be closed with; `None` while it is open.
    pub fn close_reason(&self) -> Option<Error> {
        self.is_closed().then(|| self.0.identity.reason())
    }

    /// Whether each publish has an outcome, because of [`confirm_select`](Self::confirm_select) or
    /// [`confirm_delivery`](Self::confirm_delivery).
    pub fn is_confirming(&self) -> bool {
        self.look(|channel| channel.confirms.is_some()).unwrap_or(false)
    }

    /// Whether it has a consumer that nobody has cancelled.
    pub fn is_consuming(&self) -> bool {
        self.look(|channel| channel.consumers.iter().any(|consumer| !consumer.cancelled)).unwrap_or(false)
    }

    /// The tags of its consumers.
    pub fn consumer_tags(&self) -> Vec<ShortString> {
        let tags = |channel: &ChannelState<S>| {
            let live = channel.consumers.iter().filter(|consumer| !consumer.cancelled);
            live.map(|consumer| consumer.tag.clone()).collect()
        };
        self.look(tags).unwrap_or_default()
    }

    /// Its state, unless it is closed.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&ChannelState<S>) -> R) -> Option<R> {
        let state = self.0.shared.lock();
        let channel = state.channels.get(&self.0.identity.number)?;
        (channel.identity.serial == self.0.identity.serial).then(|| look(channel))
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

    /// Puts the channel into confirm mode (RabbitMQ): from now on publishes are numbered from 1, and `callback` is told
    /// what became of them.
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
    /// until then publishes wait, with the requests behind them. RabbitMQ never asks for that.
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
    /// A request that could not be sent is answered by the loop, as all others are.
    pub(crate) fn answer_later(&self, then: Continuation<S>, error: Error) {
        if let Some(job) = then.resolve(Err(error)) {
            self.bell.post(job);
        }
    }

    /// Closes a channel that nobody has a handle of, if nothing is going on in it.
    pub(crate) fn close_if_idle(&self, identity: &Arc<Identity>) {
        let state = self.lock();
        let channel = state.channels.get(&identity.number);
        let channel = channel.filter(|channel| channel.identity.serial == identity.serial);
        let idle = channel.is_some_and(|channel| channel.fifo.is_empty() && channel.consumers.is_empty());
        drop(state);
        if idle {
            let close = channel::Close { reply_code: 200, reply_text: "Dropped".into(), class_id: 0, method_id: 0 };
            let expect = Some(Expect(channel::CloseOk::ID, None));
            let _ = self.submit(identity, &close.into(), expect, Continuation::Nobody, None);
        }
    }
}

/// The last handle is gone: nobody can close the channel any more, so it is done here if nothing is going on in it, or
/// else by the loop when the last reply has come.
impl<S: 'static> Drop for Inner<S> {
    fn drop(&mut self) {
        if !self.owner || self.identity.is_closed() || self.shared.bell.is_gone() {
            return;
        }
        self.shared.close_if_idle(&self.identity);
    }
}

impl<S: 'static> Clone for ConnectionHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: 'static> Clone for Channel<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: 'static> fmt::Debug for ConnectionHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionHandle({})", self.endpoint())
    }
}

impl<S: 'static> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({} at {})", self.channel_number(), self.0.shared.lock().endpoint)
    }
}
