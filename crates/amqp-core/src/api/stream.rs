//! A consumer as a stream of messages.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        consume::{Consume, ConsumeWith, PREFETCH, Prefetch, cancelled},
        hold::Hold,
        request::Request,
        requests::reply,
        start,
    },
    error::{Error, Result},
    session::{Shared, op::OnMessage},
    sync::{Mutex, MutexGuard},
    wire::{
        fault::Invalid,
        message::{Delivery, Message},
        spec::basic,
        strings::ShortString,
    },
};
use futures_core::Stream;
use std::{
    collections::VecDeque,
    fmt,
    future::{IntoFuture, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// A consumer's messages, in the order in which the broker sent them.
///
/// Its last item is an error that says why it ended; if the program cancelled it, or closed its channel or its connection,
/// there is none.
///
/// Dropped, it is cancelled, and what was not taken goes back to the queue. For the broker that is one delivery more of each:
/// a quorum queue with a `delivery-limit` drops a message that has come back more often than that. A program that takes a
/// message or two and drops the stream, again and again, says [`prefetch(1)`](Consume::prefetch).
pub struct Consumer<S: 'static = ()> {
    channel: Channel<S>,
    consumer_tag: ShortString,
    queue: Arc<Queue<S>>,
    no_ack: bool,
    /// The broker has answered basic.consume.
    begun: bool,
    over: bool,
}

/// What has arrived and was not taken yet.
struct Queue<S: 'static> {
    state: Mutex<State<S>>,
    capacity: usize,
}

struct State<S: 'static> {
    messages: VecDeque<Message>,
    waker: Option<Waker>,
    /// It holds as much as it may, and the connection is not read because of it.
    full: Option<Hold<S>>,
    /// Nothing more will come.
    ended: bool,
    /// Why, if the program did not ask for it.
    reason: Option<Error>,
    /// The stream has been dropped.
    dropped: bool,
}

impl<S: 'static> Default for State<S> {
    fn default() -> Self {
        let messages = VecDeque::new();
        Self { messages, waker: None, full: None, ended: false, reason: None, dropped: false }
    }
}

/// Starts the consumer as a stream.
///
/// It has at most as many unacknowledged messages as [`prefetch`](Consume::prefetch) says, or else
/// [`basic_qos`](Channel::basic_qos), or else 100; where `basic_qos` has limited the channel as a whole, that is the limit.
impl<S: 'static> IntoFuture for Consume<S> {
    type Output = Result<Consumer<S>>;
    type IntoFuture = Awaited<Consumer<S>>;

    fn into_future(mut self) -> Awaited<Consumer<S>> {
        self.prefetch = match self.prefetch {
            Prefetch::Channel if !self.method.no_ack => Prefetch::ChannelOr(PREFETCH),
            Prefetch::ChannelOr(_) if self.method.no_ack => Prefetch::Channel,
            prefetch => prefetch,
        };
        let bounded = !self.method.no_ack && self.prefetch != Prefetch::Own(0);
        if !bounded && self.capacity.is_none() {
            return Awaited::ready(Err(Invalid::UnboundedStream.into()));
        }
        let queue = Arc::new(Queue {
            state: Mutex::new(State::default()),
            capacity: self.capacity.unwrap_or(usize::MAX).max(1),
        });
        let (channel, no_ack) = (self.channel.clone(), self.method.no_ack);
        let consumer_tag = ShortString::default();
        let mut consumer = Consumer { channel, consumer_tag, queue: queue.clone(), no_ack, begun: false, over: false };
        start::wait(self.feeding(&queue), |channel| {
            let begun = move |answer| {
                consumer.consumer_tag = reply::<basic::ConsumeOk>(answer)?.consumer_tag;
                consumer.begun = true;
                Ok(consumer)
            };
            (begun, cancelled(channel))
        })
    }
}

impl<S: 'static> Consume<S> {
    fn feeding(self, queue: &Arc<Queue<S>>) -> ConsumeWith<S> {
        let no_ack = self.method.no_ack;
        let feeder = Feeder { queue: queue.clone(), channel: self.channel.clone() };
        let ended = queue.clone();
        let channel = self.channel.channel_number();
        let message = Box::new(move |_: &mut S, channel: &Channel<S>, delivery: Delivery<'_>| {
            if let Some(refused) = feeder.queue.push(delivery.to_owned(), channel.shared()) {
                if !no_ack {
                    channel.give_back(&refused);
                }
            }
            Ok(())
        });
        let ended = Box::new(move |tag: &ShortString| {
            ended.end(Some(Error::ConsumerCancelled { channel, consumer_tag: tag.to_string_lossy().into() }));
        });
        let callbacks = OnMessage { message, oversized: None, ended: Some(ended), on_end: None };
        ConsumeWith { consume: self, callbacks }
    }
}

/// Owned by the loop's callback: when that goes, the stream ends.
struct Feeder<S: 'static> {
    queue: Arc<Queue<S>>,
    channel: Channel<S>,
}

impl<S: 'static> Drop for Feeder<S> {
    fn drop(&mut self) {
        let identity = self.channel.identity();
        let reason = identity.is_closed().then(|| identity.reason());
        self.queue.end(reason.filter(|reason| !reason.is_deliberate()));
    }
}

impl<S: 'static> Queue<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock()
    }

    /// Puts a message in; it comes back if the stream is gone.
    fn push(&self, message: Message, shared: &Arc<Shared<S>>) -> Option<Message> {
        let mut state = self.lock();
        if state.dropped {
            drop(state);
            return Some(message);
        }
        state.messages.push_back(message);
        if state.messages.len() >= self.capacity && state.full.is_none() {
            state.full = Some(Hold::new(shared));
        }
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        None
    }

    fn end(&self, reason: Option<Error>) {
        let mut state = self.lock();
        if mem::replace(&mut state.ended, true) {
            return;
        }
        state.reason = reason;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<S: 'static> Consumer<S> {
    /// Returns its tag.
    pub fn consumer_tag(&self) -> &ShortString {
        &self.consumer_tag
    }

    /// Returns its channel.
    pub fn channel(&self) -> &Channel<S> {
        &self.channel
    }

    /// Waits for the next message. An error is the reason why there are no more, `None` is the end.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Ends the consumer [§1.8.3.5]; what has arrived by then can still be taken.
    pub fn cancel(&self) -> Request<basic::Cancel, Channel<S>> {
        self.channel.basic_cancel(self.consumer_tag.clone())
    }

    /// Does what dropping it does; the reply comes after the last message that was on its way, when that has gone back too.
    /// `None` if it was over already.
    #[doc(hidden)]
    pub fn leave(mut self) -> Option<Awaited<basic::CancelOk>> {
        let lives = !self.queue.lock().ended;
        self.begun = false; // no second cancel
        lives.then(|| self.cancel().into_future())
    }

    /// Messages that have arrived and were not taken yet.
    pub fn len(&self) -> usize {
        self.queue.lock().messages.len()
    }

    /// Returns whether nothing has arrived that was not taken yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: 'static> Stream for Consumer<S> {
    type Item = Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut waker = None;
        loop {
            let mut state = self.queue.lock();
            if let Some(message) = state.messages.pop_front() {
                let room = state.messages.len() <= self.queue.capacity / 2;
                let hold = if room { state.full.take() } else { None };
                drop(state);
                drop(hold);
                return Poll::Ready(Some(Ok(message)));
            }
            if state.ended {
                let reason = state.reason.take();
                drop(state);
                self.over = true;
                return Poll::Ready(reason.map(Err));
            }
            // Cloned where no lock is held, and only if there is nothing to take.
            if let Some(waker) = waker.take() {
                let before = state.waker.replace(waker);
                drop(state);
                drop(before);
                return Poll::Pending;
            }
            drop(state);
            waker = Some(context.waker().clone());
        }
    }
}

impl<S: 'static> Unpin for Consumer<S> {}

impl<S: 'static> Drop for Consumer<S> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.dropped = true;
        let untaken = mem::take(&mut state.messages);
        let waker = state.waker.take();
        let (hold, ended) = (state.full.take(), state.ended);
        drop(state);
        drop(waker);
        drop(hold);
        // On a channel that is closed both are refused, and the broker has requeued everything.
        if self.begun && !ended {
            let _ = self.cancel().send();
        }
        if !self.no_ack {
            for message in untaken {
                self.channel.give_back(&message);
            }
        }
    }
}

impl<S: 'static> fmt::Debug for Consumer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, consumer_tag, .. } = self;
        f.debug_struct("Consumer").field("channel", channel).field("consumer_tag", consumer_tag).finish_non_exhaustive()
    }
}
