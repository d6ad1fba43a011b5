//! What the loop alone knows of each channel: its consumers and their callbacks. No lock is needed to deliver a message.

use crate::{
    api::{
        channel::{Channel, WeakChannel},
        consume::Oversized,
        event::{Event, Source},
    },
    error::Error,
    session::{
        Shared,
        callbacks::Key,
        channel::Identity,
        confirm::PUBLISH_HEADER,
        op::{OnConfirm, OnEnd, OnMessage},
        reply::{Answer, Job, Raised, lend},
    },
    wire::{
        content::{Carrier, Incoming},
        fault::Violation,
        message::{Delivery, DeliveryTag},
        spec::{Arguments, basic},
        strings::{ShortStr, ShortString},
    },
};
use std::{collections::VecDeque, sync::Arc};

/// The consumers of the open channels, by the number of the channel.
pub(crate) struct Consumers<S: 'static>(Vec<Option<ChannelConsumers<S>>>);

struct ChannelConsumers<S: 'static> {
    identity: Arc<Identity>,
    handle: WeakChannel<S>,
    consumers: Vec<Consumer<S>>,
    /// The last consumers that are gone, and whether they were without acknowledgements: what still comes for them is no
    /// surprise, and if they were, it must not be rejected.
    gone: VecDeque<(Arc<ShortString>, bool)>,
    /// Who got the last message: mostly that one gets the next.
    last: usize,
    /// Nothing more is delivered, the broker requeues what it sent; what was asked for or could not be routed still comes.
    closing: bool,
    confirm: Option<OnConfirm<S>>,
}

struct Consumer<S: 'static> {
    queue: ShortString,
    tag: Arc<ShortString>,
    channel: Channel<S>,
    no_ack: bool,
    cancelled: bool,
    callbacks: OnMessage<S>,
}

/// Who hears of the end of consumers.
pub(crate) struct Told<S: 'static> {
    /// A stream does.
    pub(crate) stream: bool,
    /// What is to be called.
    pub(crate) to_call: Vec<(Channel<S>, OnEnd<S>)>,
}

impl<S: 'static> Told<S> {
    fn end(&mut self, stream: bool, channel: Channel<S>, on_end: Option<OnEnd<S>>) {
        self.stream |= stream;
        self.to_call.extend(on_end.map(|on_end| (channel, on_end)));
    }

    pub(crate) fn is_somebody(&self) -> bool {
        self.stream || !self.to_call.is_empty()
    }
}

impl<S: 'static> Default for Consumers<S> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<S: 'static> Consumers<S> {
    pub(crate) fn open(&mut self, identity: Arc<Identity>, handle: WeakChannel<S>) {
        let index = usize::from(identity.number);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let (consumers, gone) = (vec![], VecDeque::new());
        let entry = ChannelConsumers { identity, handle, consumers, gone, last: 0, closing: false, confirm: None };
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(entry);
        }
    }

    /// The channel is over: says whether a stream is told by that, and who else is to be.
    pub(crate) fn close(&mut self, number: u16) -> Told<S> {
        let entry = self.0.get_mut(usize::from(number)).and_then(Option::take);
        let mut told = Told { stream: false, to_call: vec![] };
        for consumer in entry.into_iter().flat_map(|entry| entry.consumers) {
            told.end(consumer.callbacks.ended.is_some(), consumer.channel, consumer.callbacks.on_end);
        }
        told
    }

    pub(crate) fn handle(&self, shared: &Arc<Shared<S>>, number: u16) -> Option<Channel<S>> {
        let entry = self.0.get(usize::from(number))?.as_ref()?;
        Some(entry.handle.upgrade(shared, &entry.identity))
    }

    /// The channel with this number, if the program has no handle of it any more.
    pub(crate) fn orphan(&self, number: u16) -> Option<Arc<Identity>> {
        let entry = self.0.get(usize::from(number))?.as_ref()?;
        entry.handle.is_gone().then(|| entry.identity.clone())
    }

    pub(crate) fn consume(
        &mut self,
        channel: Channel<S>,
        queue: ShortString,
        tag: ShortString,
        no_ack: bool,
        callbacks: OnMessage<S>,
    ) {
        let identity = channel.identity().clone();
        if let Some(entry) = self.entry(&identity) {
            entry.gone.retain(|(gone, _)| **gone != tag);
            entry.consumers.push(Consumer { queue, tag: Arc::new(tag), channel, no_ack, cancelled: false, callbacks });
        }
    }

    /// The queue that a consumer consumes from.
    pub(crate) fn queue(&self, number: u16, tag: ShortStr<'_>) -> Option<&ShortString> {
        let entry = self.0.get(usize::from(number))?.as_ref()?;
        let consumer = entry.consumers.iter().find(|consumer| consumer.tag.as_bytes() == tag.as_bytes())?;
        Some(&consumer.queue)
    }

    /// The program cancels: from now on what arrives goes back to its queue. Without an answer to wait for, the consumer is
    /// gone at once.
    pub(crate) fn cancel(&mut self, identity: &Identity, tag: &ShortString, nowait: bool) {
        let Some(entry) = self.entry(identity) else { return };
        if nowait {
            return entry.forget(tag.as_bytes());
        }
        for consumer in &mut entry.consumers {
            consumer.cancelled |= *consumer.tag == *tag;
        }
    }

    /// Nothing more will arrive for this consumer.
    pub(crate) fn forget(&mut self, number: u16, tag: &[u8]) {
        if let Some(Some(entry)) = self.0.get_mut(usize::from(number)) {
            entry.forget(tag);
        }
    }

    /// The broker has ended this consumer: says who is told.
    pub(crate) fn ended_by_broker(&mut self, number: u16, tag: &[u8]) -> Told<S> {
        let mut told = Told { stream: false, to_call: vec![] };
        let entry = self.0.get_mut(usize::from(number)).and_then(Option::as_mut);
        let consumers = entry.into_iter().flat_map(|entry| &mut entry.consumers);
        for consumer in consumers.filter(|consumer| consumer.tag.as_bytes() == tag && !consumer.cancelled) {
            let ended = consumer.callbacks.ended.take();
            told.end(ended.is_some(), consumer.channel.clone(), consumer.callbacks.on_end.take());
            ended.into_iter().for_each(|ended| ended(&consumer.tag));
        }
        self.forget(number, tag);
        told
    }

    pub(crate) fn confirm(&mut self, identity: &Identity, callback: OnConfirm<S>) {
        if let Some(entry) = self.entry(identity) {
            entry.confirm = Some(callback);
        }
    }

    /// Who is told of confirms, and the channel to lend him: until it is closed, but for one that has panicked.
    pub(crate) fn on_confirm(
        &mut self,
        shared: &Arc<Shared<S>>,
        number: u16,
    ) -> Option<(Channel<S>, &mut OnConfirm<S>)> {
        let entry = self.0.get_mut(usize::from(number))?.as_mut()?;
        if entry.closing && matches!(entry.identity.reason(), Error::Panicked { .. }) {
            return None;
        }
        let callback = entry.confirm.as_mut()?;
        Some((entry.handle.upgrade(shared, &entry.identity), callback))
    }

    pub(crate) fn closing(&mut self, identity: &Identity) {
        if let Some(entry) = self.entry(identity) {
            entry.closing = true;
        }
    }

    pub(crate) fn all_closing(&mut self) {
        self.0.iter_mut().flatten().for_each(|entry| entry.closing = true);
    }

    fn entry(&mut self, identity: &Identity) -> Option<&mut ChannelConsumers<S>> {
        let entry = self.0.get_mut(usize::from(identity.number))?.as_mut()?;
        (entry.identity.serial == identity.serial).then_some(entry)
    }

    /// A message has come: a consumer is called in place, anybody else by a job.
    #[inline]
    pub(crate) fn message(
        &mut self,
        shared: &Arc<Shared<S>>,
        jobs: &mut VecDeque<(u16, Job<S>)>,
        number: u16,
        incoming: &Incoming<'_>,
        state: &mut S,
    ) -> Result<Option<Trouble>, Raised> {
        let Some(Some(entry)) = self.0.get_mut(usize::from(number)) else { return Ok(None) };
        match incoming.carrier {
            Carrier::GetOk { .. } => Ok(got(shared, jobs, &entry.identity, incoming)),
            Carrier::Return { .. } => {
                let channel = entry.handle.upgrade(shared, &entry.identity);
                returned(shared, jobs, &channel, incoming);
                Ok(None)
            }
            Carrier::Deliver { .. } if entry.closing => Ok(None),
            Carrier::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key } => {
                let delivery_tag = DeliveryTag { generation: entry.identity.serial, tag: delivery_tag };
                let Some(consumer) = entry.consumer(consumer_tag) else {
                    return Ok(entry.unclaimed(shared, consumer_tag, delivery_tag.tag, incoming));
                };
                if consumer.cancelled {
                    if !consumer.no_ack {
                        give_back(shared, number, delivery_tag.tag, incoming);
                    }
                    return Ok(None);
                }
                if incoming.is_refused() {
                    return consumer.refuse(shared, delivery_tag, incoming.size, state);
                }
                let Incoming { properties, body, shared, .. } = *incoming;
                let Consumer { tag, callbacks, channel, .. } = consumer;
                let delivery = Delivery {
                    consumer_tag,
                    delivery_tag,
                    redelivered,
                    exchange,
                    routing_key,
                    properties,
                    body,
                    shared,
                    consumer: tag,
                };
                lend(|| (callbacks.message)(state, channel, delivery)).map(|()| None)
            }
        }
    }
}

/// Tags that a channel remembers of consumers that are gone.
const GONE: usize = 64;

impl<S: 'static> ChannelConsumers<S> {
    fn forget(&mut self, tag: &[u8]) {
        let is = |consumer: &Consumer<S>| consumer.tag.as_bytes() == tag;
        while let Some(at) = self.consumers.iter().position(is) {
            let consumer = self.consumers.remove(at);
            self.remember(consumer.tag, consumer.no_ack);
        }
    }

    fn remember(&mut self, tag: Arc<ShortString>, no_ack: bool) {
        if self.gone.len() == GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((tag, no_ack));
    }

    /// A message for a consumer that is not there: one that has just gone, or one that never was. Of that one it is told, once.
    #[cold]
    fn unclaimed(
        &mut self,
        shared: &Shared<S>,
        tag: ShortStr<'_>,
        delivery_tag: u64,
        incoming: &Incoming<'_>,
    ) -> Option<Trouble> {
        let gone = self.gone.iter().find(|(gone, _)| gone.as_bytes() == tag.as_bytes());
        let (known, no_ack) = gone.map_or((false, false), |(_, no_ack)| (true, *no_ack));
        if !no_ack {
            give_back(shared, self.identity.number, delivery_tag, incoming);
        }
        if known {
            return None;
        }
        let tag = tag.to_owned();
        self.remember(Arc::new(tag.clone()), false);
        Some(Trouble::NoConsumer(tag))
    }

    #[inline]
    fn consumer(&mut self, tag: ShortStr<'_>) -> Option<&mut Consumer<S>> {
        let is = |consumer: &Consumer<S>| consumer.tag.as_bytes() == tag.as_bytes();
        if !self.consumers.get(self.last).is_some_and(is) {
            self.last = self.consumers.iter().position(is)?;
        }
        self.consumers.get_mut(self.last)
    }
}

impl<S: 'static> Consumer<S> {
    /// A message that was too large to be kept.
    fn refuse(
        &mut self,
        shared: &Shared<S>,
        delivery_tag: DeliveryTag,
        size: u64,
        state: &mut S,
    ) -> Result<Option<Trouble>, Raised> {
        let Some(callback) = &mut self.callbacks.oversized else {
            return Ok(Some(Trouble::Channel(Error::MessageTooLarge {
                channel: self.channel.channel_number(),
                delivery_tag: delivery_tag.tag,
                size,
                limit: shared.parameters.max_message_size(),
            })));
        };
        let oversized = Oversized { delivery_tag, size, consumer_tag: (*self.tag).clone() };
        let channel = &self.channel;
        lend(|| callback(state, channel, oversized)).map(|()| None)
    }
}

/// Rejects a message that was not taken, so that it is requeued. A stream queue keeps its messages, and takes none back.
fn give_back<S: 'static>(shared: &Shared<S>, number: u16, delivery_tag: u64, incoming: &Incoming<'_>) {
    if !incoming.properties.is_of_stream_queue() {
        shared.lock().say(number, &basic::Reject { delivery_tag, requeue: true }.into());
    }
}

/// basic.get has found a message.
fn got<S: 'static>(
    shared: &Shared<S>,
    jobs: &mut VecDeque<(u16, Job<S>)>,
    identity: &Identity,
    incoming: &Incoming<'_>,
) -> Option<Trouble> {
    let pending = shared.lock().channel(identity.number)?.answered(basic::GetOk::ID, None);
    let Some(pending) = pending else {
        return Some(Trouble::Violation(Violation::command("get-ok, but nobody asked")));
    };
    let message = incoming.got(identity.serial)?;
    let answer = if incoming.is_refused() {
        Err(Error::MessageTooLarge {
            channel: identity.number,
            delivery_tag: message.delivery_tag.tag,
            size: incoming.size,
            limit: shared.parameters.max_message_size(),
        })
    } else {
        Ok(Answer::Message(Box::new(message)))
    };
    jobs.extend(pending.then.resolve(answer).map(|job| (identity.number, job)));
    None
}

/// A message has come back: a publish that waits for its outcome gets it with the ack, the return callbacks get it now.
fn returned<S: 'static>(
    shared: &Shared<S>,
    jobs: &mut VecDeque<(u16, Job<S>)>,
    channel: &Channel<S>,
    incoming: &Incoming<'_>,
) {
    let Some(returned) = incoming.returned() else { return };
    let number = channel.channel_number();
    let headers = returned.properties.headers.as_ref();
    if let Some(mark) = headers.and_then(|headers| headers.get(PUBLISH_HEADER)?.as_i64()) {
        let mut state = shared.lock();
        if let Some(Some(confirms)) = state.channel(number).map(|channel| &mut channel.confirms) {
            confirms.returned(mark as u64, returned.clone());
        }
    }
    let event = Event::Return(Box::new(returned));
    for callback in shared.callbacks.take(number, Key::Return, None, &event).unwrap_or_default() {
        let (source, event) = (Source::Channel(channel.clone()), event.clone());
        jobs.push_back((number, Box::new(move |state| callback(state, &source, &event))));
    }
}

/// What is wrong with a message.
pub(crate) enum Trouble {
    Violation(Violation),
    /// The channel cannot go on.
    Channel(Error),
    /// It was for a consumer that there is not.
    NoConsumer(ShortString),
}
