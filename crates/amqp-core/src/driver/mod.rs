//! A connection's loop side: what arrives becomes calls of the program's, what the program asks for becomes octets.
//! It has no socket and no clock.

use crate::{
    api::{
        connection::ConnectionHandle,
        event::{Event, Source},
    },
    driver::consumers::{Consumers, Trouble},
    error::Error,
    protocol::Heard,
    session::{
        Op, Shared,
        callbacks::Key,
        op::OnOpen,
        reply::{Answer, Job, Raised, lend},
        state::{Marks, Weight},
    },
    trace::{events, frames},
    wire::{
        fault::Violation,
        frame::HEADER_TOO_LARGE,
        inbox::Inbox,
        outbox::Outbox,
        spec::{Method, MethodId, connection},
    },
};
use conversation::Conversation;
use life::{End, LastWords, Life, Step};
use pace::Pace;
pub(crate) use pace::{Handled, Now, SLOW};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

mod channels;
pub(crate) mod consumers;
mod conversation;
mod deadlines;
mod ending;
mod life;
mod opening;
mod pace;

/// Octets of answers that may wait where the program has set no `outbound_limit`.
const ANSWERS: usize = 256 << 20;

/// One connection, served by its loop.
///
/// It has no socket and no clock: their owner (the hub's `Link`) calls it, in this order.
///
/// 1. *An endpoint is tried*: [`begin`](Self::begin), then [`connected`](Self::connected) when the network is, and
///    [`secured`](Self::secured) when TLS is, too, or [`tls_failed`](Self::tls_failed).
/// 2. *Octets come*: they are read into [`inbox`](Self::inbox), [`received`](Self::received) is called for them, and
///    [`process`](Self::process) handles them; the end of the stream is [`end_of_stream`](Self::end_of_stream).
/// 3. *Time passes*: when [`poll_timeout`](Self::poll_timeout) has come and a read has found nothing,
///    [`handle_timeout`](Self::handle_timeout) is called, or [`upkeep`](Self::upkeep) while there is more to read or, because
///    callbacks are slow, more to handle.
/// 4. *Octets go*: [`outgoing`](Self::outgoing) until it is empty or the socket takes no more, each write with
///    [`wrote`](Self::wrote) behind it, then [`weigh`](Self::weigh); a failure is [`write_failed`](Self::write_failed).
/// 5. *The end*: when it [`is_over`](Self::is_over), [`failed`](Self::failed) says whether another endpoint may be tried
///    ([`begin`](Self::begin), after a time in which it is [`idle`](Self::idle) perhaps); when none is left,
///    [`cannot_connect`](Self::cannot_connect).
///
/// Only `process` calls the program. Any of the others may leave calls that are due, which [`has_news`](Self::has_news)
/// says, so that each is followed by a `process` before the loop sleeps.
pub(crate) struct Driver<S: 'static> {
    pub(crate) shared: Arc<Shared<S>>,
    life: Life<S>,
    conversation: Conversation,
    /// The open channels, and who consumes there.
    consumers: Consumers<S>,
    /// Calls that are due, each with its channel: those after one that panics are not lost.
    jobs: VecDeque<(u16, Job<S>)>,
    pace: Pace,
}

impl<S: 'static> Driver<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, on_open: OnOpen<S>, now: Instant) -> Self {
        Self {
            life: Life::Opening { on_open, step: Step::Rest, until: None },
            conversation: Conversation::new(shared.parameters.max_message_size()),
            consumers: Consumers::default(),
            jobs: VecDeque::new(),
            pace: Pace::new(now),
            shared,
        }
    }

    /// `host:port` of the endpoint that is tried, or connected to.
    pub(crate) fn endpoint(&self) -> Arc<str> {
        self.shared.lock().endpoint().clone()
    }

    /// Where the stream is read into.
    #[inline]
    pub(crate) fn inbox(&mut self) -> &mut Inbox {
        &mut self.conversation.inbox
    }

    /// `n` octets have been read into the inbox.
    pub(crate) fn received(&mut self, n: usize, now: Instant) {
        self.secured(); // or there would be nothing to read
        self.conversation.received(n, now);
        if self.life.has_ended() {
            // Unread octets would make TCP take back our last words when the socket is closed.
            self.conversation.discard();
        } else {
            let shared = &self.shared;
            self.conversation.tap(|| shared.lock().endpoint().clone());
        }
    }

    /// Handles everything that has been received and asked for, unless something is to be written first.
    pub(crate) fn process(&mut self, now: Instant, clock: Now<'_>, state: &mut S) -> Result<Handled, Raised> {
        self.pace.begin(now);
        if self.life.is_parting() {
            self.part_with_program();
        }
        let handled = self.events(now, clock, state);
        self.conversation.taken();
        handled
    }

    /// The time when callbacks last returned, or the beginning of this turn.
    pub(crate) fn now(&self) -> Instant {
        self.pace.now()
    }

    fn events(&mut self, now: Instant, clock: Now<'_>, state: &mut S) -> Result<Handled, Raised> {
        loop {
            while let Some((channel, job)) = self.jobs.pop_front() {
                if let Err(raised) = lend(|| job(state)) {
                    return Err(self.raised(channel, raised));
                }
                if self.pace.called(clock) == Handled::Halfway {
                    return Ok(Handled::Halfway);
                }
            }
            if self.shared.news.load(Ordering::Acquire) {
                self.apply_ops(now);
                continue;
            }
            if !self.life.is_on() && !self.may_be_amqp() {
                if self.jobs.is_empty() {
                    return Ok(self.pace.end(clock));
                }
                continue;
            }
            let Conversation { protocol, inbox, .. } = &mut self.conversation;
            match protocol.next(inbox.unread()) {
                Err(HEADER_TOO_LARGE) => self.header_too_large(now),
                Err(violation) => self.violated(violation, now),
                Ok(None) => return Ok(self.pace.end(clock)),
                Ok(Some(Heard::Message(number, ref incoming))) => {
                    match self.consumers.message(&self.shared, &mut self.jobs, number, incoming, state) {
                        Ok(None) if self.pace.called(clock) == Handled::All => continue,
                        Ok(None) => return Ok(Handled::Halfway),
                        Ok(Some(Trouble::Violation(violation))) => self.out_of_turn(violation, now),
                        Ok(Some(Trouble::Channel(error))) => self.close_channel(number, error),
                        Ok(Some(Trouble::NoConsumer(tag))) => events::no_consumer(&self.endpoint(), number, &tag),
                        Err(raised) => return Err(self.raised(number, raised)),
                    }
                }
                Ok(Some(Heard::Connection(method))) => self.on_connection(*method, now),
                Ok(Some(Heard::Method(number, method))) => self.on_method(number, *method, now),
                Ok(Some(Heard::Confirmation(number, confirmation))) => {
                    if let Err(raised) = self.confirmed(number, confirmation, now, state) {
                        return Err(self.raised(number, raised));
                    }
                    if self.pace.called(clock) == Handled::Halfway {
                        return Ok(Handled::Halfway);
                    }
                }
            }
            if self.life.is_parting() {
                return Ok(Handled::Halfway);
            }
        }
    }

    /// A callback that panics costs its channel; one that fails costs nothing.
    fn raised(&mut self, channel: u16, raised: Raised) -> Raised {
        if matches!(raised, Raised::Panic(_)) && channel != 0 {
            self.close_channel(channel, Error::Panicked { channel });
        }
        raised
    }

    fn apply_ops(&mut self, now: Instant) {
        self.shared.news.store(false, Ordering::Relaxed);
        let ops = self.shared.lock().take_ops();
        for op in ops {
            match op {
                Op::Open { identity, handle } => {
                    self.conversation.protocol.open(identity.number);
                    self.consumers.open(identity, handle);
                }
                Op::Consume { channel, queue, tag, no_ack, callbacks } => {
                    self.consumers.consume(channel, queue, tag, no_ack, callbacks);
                }
                Op::Cancel { identity, tag, nowait } => self.consumers.cancel(&identity, &tag, nowait),
                Op::Confirm { identity, callback } => self.consumers.confirm(&identity, callback),
                Op::Closing(identity) => self.consumers.closing(&identity),
                Op::Shutdown => self.shutdown(now),
                Op::Overwhelmed(error) => self.answer_all_waiting(&error),
                Op::Drowned(error) => self.drowned(error, now),
            }
        }
    }

    fn on_connection(&mut self, method: connection::Method, now: Instant) {
        match (&mut self.life, method) {
            (_, connection::Method::Close(close)) => self.closed_by_broker(&close, now),
            (Life::Closing { .. }, connection::Method::CloseOk(_)) => self.lost(self.reason(), LastWords::Said),
            (_, connection::Method::CloseOk(_)) => {
                self.violated(Violation::command("close-ok, but nobody closed"), now);
            }
            (Life::Opening { step: Step::Shake(handshake), .. }, method) => {
                let handshake = mem::take(handshake);
                self.on_handshake(handshake, method, now);
            }
            (Life::Open { blocked }, connection::Method::Blocked(event)) => {
                let limit = self.shared.parameters.blocked_connection_timeout();
                if blocked.is_none() {
                    let until = limit.and_then(|limit| now.checked_add(limit));
                    *blocked = until.map(|until| (until, event.reason.to_string_lossy().into()));
                }
                events::blocked(&self.endpoint(), &event.reason);
                self.tell(Key::Blocked, Event::Blocked(event.reason));
            }
            (Life::Open { blocked }, connection::Method::Unblocked(_)) => {
                *blocked = None;
                events::unblocked(&self.endpoint());
                self.tell(Key::Unblocked, Event::Unblocked);
            }
            (Life::Open { .. } | Life::Closing { .. }, connection::Method::UpdateSecretOk(ok)) => {
                let method = Method::from(ok);
                let pending = self.shared.lock().answered(method.id());
                match pending {
                    Some(pending) => {
                        events::secret_updated(&self.endpoint());
                        self.jobs.extend(pending.then.resolve(Ok(Answer::Method(method))).map(|j| (0, j)));
                        self.shared.close_if_forsaken();
                    }
                    None => self.out_of_turn(Violation::command("a reply that nobody asked for"), now),
                }
            }
            _ => self.out_of_turn(Violation::command("a connection method out of turn"), now),
        }
    }

    /// Puts a method into the outbox.
    fn say(&self, channel: u16, method: &Method) {
        self.shared.lock().say(channel, method);
    }

    /// Whether there is somebody to tell.
    fn tell(&mut self, key: Key, event: Event) -> bool {
        let source = Source::Connection(ConnectionHandle::new(self.shared.clone()));
        self.call_all(0, key, source, event)
    }

    fn tell_channel(&mut self, number: u16, key: Key, event: Event) -> bool {
        let Some(channel) = self.consumers.handle(&self.shared, number) else { return false };
        self.call_all(number, key, Source::Channel(channel), event)
    }

    fn call_all(&mut self, number: u16, key: Key, source: Source<S>, event: Event) -> bool {
        if !self.shared.callbacks.may_have(key) {
            return false;
        }
        let callbacks = self.shared.callbacks.take(number, key, None, &event).unwrap_or_default();
        let told = !callbacks.is_empty();
        for callback in callbacks {
            let (source, event) = (source.clone(), event.clone());
            self.jobs.push_back((number, Box::new(move |state| callback(state, &source, &event))));
        }
        told
    }

    /// pika's low-level hook, `add_callback`; says whether one is called.
    fn hook(&mut self, number: u16, id: MethodId, method: impl FnOnce() -> Method) -> bool {
        let key = Key::Method(id);
        self.shared.callbacks.may_have(key) && self.tell_channel(number, key, Event::Method(Box::new(method())))
    }

    /// What is to be written now; nothing if the stream is broken.
    pub(crate) fn outgoing(&mut self) -> &mut Outbox {
        let Conversation { writing, broken, .. } = &mut self.conversation;
        if !writing.is_empty() {
            return writing;
        }
        let mut state = self.shared.lock();
        state.looked_at();
        if broken.is_some() || self.life.words() == Some(LastWords::Said) {
            let unwritten = state.take_unsent();
            drop(state);
            drop(unwritten);
            return writing;
        }
        state.hand_over(writing);
        drop(state);
        let shared = &self.shared;
        frames::sending(|| shared.lock().endpoint().clone(), writing);
        writing
    }

    /// `n` octets have been written.
    pub(crate) fn wrote(&mut self, n: usize, now: Instant) {
        self.conversation.wrote(n, now);
    }

    /// After writing as much as the socket takes: the program is told if that was too little, and what it has asked for
    /// has its deadline, written or not.
    ///
    /// `unwritten` octets were taken from here, and not by the socket.
    pub(crate) fn weigh(&mut self, unwritten: usize, now: Instant) {
        let parameters = &self.shared.parameters;
        let Conversation { writing, octets_sent, pressed, replies, .. } = &mut self.conversation;
        let multiplier = self.shared.backpressure_multiplier.load(Ordering::Relaxed);
        let marks = Marks {
            high: parameters.outbound_high_water(),
            low: parameters.low_water(),
            frames: parameters.backpressure_detection().then_some(multiplier),
            sent: *octets_sent,
            pressed: *pressed,
        };
        let weight = self.shared.lock().weigh(writing.len() + unwritten, &marks);
        let Weight { held, answers, is_heavy, requests, room } = weight;
        room.wake();
        replies.mark(requests, now, parameters.rpc_timeout());
        let limit = parameters.outbound_limit().unwrap_or(ANSWERS);
        if answers > limit {
            let error = Error::AnswersUnread { endpoint: self.endpoint(), held: answers, limit };
            return self.lost(error, LastWords::Said);
        }
        if !*pressed && is_heavy {
            *pressed = true;
            events::backpressure(&self.endpoint(), held);
            self.tell(Key::Backpressure, Event::Backpressure(held));
        } else if *pressed && held == 0 {
            *pressed = false;
            events::drained(&self.endpoint());
            self.tell(Key::Backpressure, Event::Drained);
        }
    }

    /// Whether there is something to do that needs no octets.
    pub(crate) fn has_news(&self) -> bool {
        !self.jobs.is_empty() || self.shared.news.load(Ordering::Acquire)
    }

    /// Whether the socket is to be read, if only to throw away what is there.
    pub(crate) fn reads(&self) -> bool {
        self.life.words() != Some(LastWords::Said) && !self.is_paused()
    }

    /// Whether nothing is read because what comes has nowhere to go: that is no silence of the broker's. Answers are read
    /// all the same, or a program that waits for one before it takes a message would wait for ever.
    fn is_paused(&self) -> bool {
        self.shared.holds.load(Ordering::Acquire) > 0 && !self.life.has_ended() && !self.shared.lock().is_awaited()
    }

    /// Whether octets wait that were not taken.
    pub(crate) fn is_writing(&self) -> bool {
        !self.conversation.writing.is_empty()
    }
}
