//! A connection's loop side: what arrives becomes calls of the program's, what the program asks for becomes octets.
//! It has no socket and no clock.

use crate::{
    api::{
        connection::ConnectionHandle,
        event::{Event, Source},
        writable::wake_all,
    },
    driver::consumers::{Lines, Trouble},
    error::{Error, Stage, attempt::IoError},
    protocol::{
        Event as Heard, Protocol,
        handshake::{Handshake, Login},
        heartbeat::Heartbeat,
    },
    session::{
        Op, Shared,
        callbacks::Key,
        reply::{Answer, Job, OnOpen, Raised, lend},
    },
    trace::{
        events,
        frames::{self, Wiretap},
    },
    wire::{
        fault::Violation,
        frame::{HEADER_TOO_LARGE, put_method},
        inbox::Inbox,
        outbox::Outbox,
        spec::{Method, MethodId, PROTOCOL_HEADER, connection},
        table::Table,
    },
};
use deadlines::{Deadlines, ReplyDeadlines};
use ending::End;
use slab::Slab;
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

mod channels;
pub(crate) mod consumers;
mod deadlines;
mod ending;
mod opening;

/// One connection, served by its loop.
pub(crate) struct Driver<S: 'static> {
    pub(crate) shared: Arc<Shared<S>>,
    /// `host:port` of what is tried, or connected to.
    pub(crate) endpoint: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) inbox: Inbox,
    wiretap: Wiretap,
    /// What has been taken out of the shared outbox and is not yet written.
    writing: Outbox,
    pub(crate) lines: Lines<S>,
    /// How far it has come: the network, TLS, AMQP.
    stage: Stage,
    handshake: Handshake,
    login: Option<Login>,
    /// Told when the connection is open.
    server_properties: Option<Table>,
    /// Why there is no connection with this endpoint, while others may be left to try.
    failure: Option<Error>,
    heartbeat: Option<Heartbeat>,
    on_open: Option<OnOpen<S>>,
    /// Calls that are due, each with its channel: what stands behind one that panics is not lost.
    pub(crate) jobs: VecDeque<(u16, Job<S>)>,
    deadlines: Deadlines,
    replies: ReplyDeadlines,
    /// Told about back-pressure, and not yet that it is over.
    pressed: bool,
    octets_sent: u64,
    /// Octets have moved since the buffers were last looked at.
    moved: bool,
    /// Nothing had, and the buffers were given back.
    tidied: bool,
    broken: Option<IoError>,
    end: End,
}

impl<S: 'static> Driver<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, on_open: OnOpen<S>) -> Self {
        Self {
            protocol: Protocol::new(shared.parameters.max_message_size()),
            inbox: Inbox::default(),
            wiretap: Wiretap::default(),
            writing: Outbox::default(),
            lines: Lines::default(),
            stage: Stage::Dial,
            handshake: Handshake::default(),
            login: None,
            server_properties: None,
            failure: None,
            heartbeat: None,
            on_open: Some(on_open),
            jobs: VecDeque::new(),
            deadlines: Deadlines::default(),
            replies: ReplyDeadlines::default(),
            pressed: false,
            octets_sent: 0,
            moved: false,
            tidied: false,
            broken: None,
            end: End::No,
            endpoint: shared.parameters.endpoint(),
            shared,
        }
    }

    /// `host:port` of the endpoint that is tried, or connected to.
    pub(crate) fn endpoint(&self) -> Arc<str> {
        self.endpoint.clone()
    }

    /// `n` octets have been read into the inbox.
    pub(crate) fn received(&mut self, n: usize, now: Instant) {
        self.inbox.filled(n);
        if self.end != End::No {
            // Unread octets would make TCP take back our last words when the socket is closed.
            let unread = self.inbox.unread().len();
            self.inbox.take(unread);
        } else {
            self.wiretap.received(&self.endpoint, self.inbox.unread(), self.protocol.begun());
        }
        self.moved = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received(now);
        }
    }

    /// Handles everything that has been received and asked for.
    pub(crate) fn process(&mut self, now: Instant, state: &mut S) -> Result<(), Raised> {
        let result = self.events(now, state);
        let taken = self.protocol.taken();
        self.wiretap.taken(taken);
        self.inbox.take(taken);
        result
    }

    fn events(&mut self, now: Instant, state: &mut S) -> Result<(), Raised> {
        loop {
            while let Some((channel, job)) = self.jobs.pop_front() {
                if let Err(raised) = lend(|| job(state)) {
                    return Err(self.raised(channel, raised));
                }
            }
            if self.shared.news.load(Ordering::Acquire) {
                self.apply_ops(now);
                continue;
            }
            if self.end != End::No {
                return Ok(());
            }
            if let Some(stranger) = self.protocol.stranger(self.inbox.unread()) {
                self.met(stranger);
                continue;
            }
            if self.handshake == Handshake::Start && self.inbox.unread().first() == PROTOCOL_HEADER.first() {
                return Ok(()); // half of another version's header
            }
            match self.protocol.next(self.inbox.unread()) {
                Err(HEADER_TOO_LARGE) => self.header_too_large(now),
                Err(violation) => self.violated(violation, now),
                Ok(None) => return Ok(()),
                Ok(Some(Heard::Message(number, ref incoming))) => {
                    match self.lines.message(&self.shared, &mut self.jobs, number, incoming, state) {
                        Ok(None) => {}
                        Ok(Some(Trouble::Violation(violation))) => self.violated(violation, now),
                        Ok(Some(Trouble::Channel(error))) => self.close_channel(number, error),
                        Err(raised) => return Err(self.raised(number, raised)),
                    }
                }
                Ok(Some(Heard::Connection(method))) => self.on_connection(*method, now),
                Ok(Some(Heard::Method(number, method))) => self.on_method(number, *method, now),
                Ok(Some(Heard::Confirmation(number, confirmation))) => {
                    if let Err(raised) = self.confirmed(number, confirmation, now, state) {
                        return Err(self.raised(number, raised));
                    }
                }
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
        let ops = mem::take(&mut self.shared.lock().ops);
        for op in ops {
            match op {
                Op::Open { identity, handle } => {
                    self.protocol.open(identity.number);
                    self.lines.open(identity, handle);
                }
                Op::Consume { channel, queue, tag, no_ack, callbacks } => {
                    self.lines.consume(channel, queue, tag, no_ack, callbacks);
                }
                Op::Cancel { identity, tag, nowait } => self.lines.cancel(&identity, &tag, nowait),
                Op::Confirm { identity, callback } => self.lines.confirm(&identity, callback),
                Op::Closing(identity) => self.lines.closing(&identity),
                Op::Shutdown => self.shutdown(now),
            }
        }
    }

    fn on_connection(&mut self, method: connection::Method, now: Instant) {
        match method {
            connection::Method::Close(close) => self.closed_by_broker(&close, now),
            connection::Method::CloseOk(_) => self.close_ok(now),
            method if self.handshake != Handshake::Done => self.on_handshake(method, now),
            _ if self.ignores() => {}
            connection::Method::Blocked(blocked) => {
                let limit = self.shared.parameters.blocked_connection_timeout();
                if self.deadlines.blocked.is_none() {
                    let until = limit.and_then(|limit| now.checked_add(limit));
                    self.deadlines.blocked = until.map(|until| (until, blocked.reason.to_string().into()));
                }
                events::blocked(&self.endpoint, &blocked.reason);
                self.tell(Key::Blocked, Event::Blocked(blocked.reason));
            }
            connection::Method::Unblocked(_) => {
                self.deadlines.blocked = None;
                events::unblocked(&self.endpoint);
                self.tell(Key::Unblocked, Event::Unblocked);
            }
            connection::Method::UpdateSecretOk(ok) => {
                let method = Method::from(ok);
                let mut state = self.shared.lock();
                let expected = state.fifo.front().is_some_and(|pending| pending.expect.accepts(method.id()));
                let pending = if expected { state.fifo.pop_front() } else { None };
                drop(state);
                match pending {
                    Some(pending) => {
                        events::secret_updated(&self.endpoint);
                        self.jobs.extend(pending.then.resolve(Ok(Answer::Method(method))).map(|j| (0, j)));
                    }
                    None => self.violated(Violation::command("a reply that nobody asked for"), now),
                }
            }
            _ => self.violated(Violation::command("a connection method out of turn"), now),
        }
    }

    /// Puts a method into the outbox.
    fn say(&self, channel: u16, method: &Method) {
        let mut state = self.shared.lock();
        let frame_max = state.limits.frame_max;
        let put = put_method(state.outbox.octets(), channel, method, frame_max);
        debug_assert!(put.is_ok());
        self.shared.unlock(state);
    }

    /// Whether there is somebody to tell.
    fn tell(&mut self, key: Key, event: Event) -> bool {
        let source = Source::Connection(ConnectionHandle(self.shared.clone()));
        self.call_all(0, key, source, event)
    }

    fn tell_channel(&mut self, number: u16, key: Key, event: Event) -> bool {
        let Some(channel) = self.lines.handle(&self.shared, number) else { return false };
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

    /// pika's low-level hook, `add_callback`.
    fn hook(&mut self, number: u16, id: MethodId, method: impl FnOnce() -> Method) {
        let key = Key::Method(id);
        if self.shared.callbacks.may_have(key) {
            self.tell_channel(number, key, Event::Method(Box::new(method())));
        }
    }

    /// What is to be written now; nothing if the stream is broken.
    pub(crate) fn outgoing(&mut self) -> &mut Outbox {
        if !self.writing.is_empty() {
            return &mut self.writing;
        }
        let mut state = self.shared.lock();
        state.looked_at();
        if self.broken.is_some() || self.end == End::Gone {
            let unwritten = mem::take(&mut state.outbox);
            drop(state);
            drop(unwritten);
            return &mut self.writing;
        }
        mem::swap(&mut state.outbox, &mut self.writing);
        state.in_flight = self.writing.len();
        state.taken += self.writing.len() as u64;
        drop(state);
        frames::sending(&self.endpoint, &self.writing);
        &mut self.writing
    }

    /// `n` octets have been written.
    pub(crate) fn wrote(&mut self, n: usize, now: Instant) {
        self.octets_sent += n as u64;
        self.moved = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.sent(now);
        }
    }

    /// After writing as much as the socket takes: the program is told if that was too little, and what it has asked for
    /// has its deadline, written or not.
    ///
    /// `unwritten` octets were taken from here, and not by the socket.
    pub(crate) fn weigh(&mut self, unwritten: usize, now: Instant) {
        let parameters = &self.shared.parameters;
        let multiplier = self.shared.backpressure_multiplier.load(Ordering::Relaxed);
        let mut state = self.shared.lock();
        state.in_flight = self.writing.len() + unwritten;
        let held = state.held();
        // What waits counts too, or the average of a connection that cannot write would sink with every publish.
        let average = (self.octets_sent + held as u64) / state.frames.max(1);
        let pika = usize::try_from(average.saturating_mul(multiplier.into())).unwrap_or(usize::MAX);
        let pika = if parameters.backpressure_detection() { pika } else { usize::MAX };
        let limit = parameters.outbound_high_water().min(pika);
        let requests = state.requests;
        let heavy = held > limit;
        state.weigh_at = if self.pressed || heavy { usize::MAX } else { limit };
        let room = held <= parameters.low_water() && !state.waiting_for_room.is_empty();
        let waiting = if room { mem::take(&mut state.waiting_for_room) } else { Slab::new() };
        drop(state);
        wake_all(waiting);
        self.replies.mark(requests, now, self.shared.parameters.rpc_timeout());
        if !self.pressed && heavy {
            self.pressed = true;
            events::backpressure(&self.endpoint, held);
            self.tell(Key::Backpressure, Event::Backpressure(held));
        } else if self.pressed && held == 0 {
            self.pressed = false;
            events::drained(&self.endpoint);
            self.tell(Key::Backpressure, Event::Drained);
        }
    }

    /// Whether there is something to do that needs no octets.
    pub(crate) fn has_news(&self) -> bool {
        !self.jobs.is_empty() || self.shared.news.load(Ordering::Acquire)
    }

    /// Whether the socket is to be read, if only to throw away what is there.
    pub(crate) fn reads(&self) -> bool {
        self.end != End::Gone && !self.is_paused()
    }

    /// Whether nothing is read because what comes has nowhere to go: that is no silence of the broker's. Answers are read
    /// all the same, or whoever waits for one before he takes a message would wait for ever.
    fn is_paused(&self) -> bool {
        self.shared.holds.load(Ordering::Acquire) > 0 && self.end == End::No && !self.shared.lock().is_awaited()
    }

    /// Whether octets wait that were not taken.
    pub(crate) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }
}
