//! A connection's loop side: what arrives becomes calls of the program's, what the program asks for becomes octets.
//! It has no socket and no clock.

use crate::{
    callback::Key,
    channel::{ChannelState, Phase as ChannelPhase},
    confirm::Confirmation,
    connection::OnOpen,
    error::{CloseReason, Error, Invalid, IoError, Result, Stage, Violation},
    event::{Event, Source},
    frame::{
        ENVELOPE, HEARTBEAT, put_method,
        wiretap::{self, Wiretap},
    },
    handle::ConnectionHandle,
    handshake::{Handshake, Limits, Login, Refusal},
    heartbeat::{Beat, Heartbeat},
    inbox::Inbox,
    journal,
    lines::Lines,
    outbox::Outbox,
    protocol::{Event as Heard, Protocol, Stranger},
    reply::{Answer, Continuation, Expect, Job, Raised, lend},
    room::wake_all,
    shared::{Op, Pending, Phase, Shared},
    spec::{Arguments, Method, MethodId, PROTOCOL_HEADER, basic, channel, connection},
    table::Table,
    tls::TlsProblem,
};
use bytes::Bytes;
use slab::Slab;
use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

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
    /// Requests that were asked for until about the same time.
    marks: VecDeque<Mark>,
    marked: u64,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It lives.
    No,
    /// It is over for the program; last words are still to be written.
    Lingering,
    /// There is nothing to write to any more.
    Gone,
}

/// When something will have taken too long.
#[derive(Default)]
struct Deadlines {
    /// The open connection (`stack_timeout`).
    open: Option<Instant>,
    /// The broker's close-ok.
    close: Option<Instant>,
    /// Last words, or the last octets of a stream that cannot be written to any more.
    linger: Option<Instant>,
    /// Publishers blocked by the broker.
    blocked: Option<(Instant, Arc<str>)>,
    /// Buffers are given back, if nothing has moved by then.
    tidy: Option<Instant>,
}

struct Mark {
    since: Instant,
    through: u64,
}

/// A connection on which nothing has moved for this long needs no large buffers.
const QUIET: Duration = Duration::from_secs(1);

/// Last words are given this long.
const LINGER: Duration = Duration::from_secs(1);

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
            marks: VecDeque::new(),
            marked: 0,
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

    /// Tries another endpoint. Nothing is left of one before.
    pub(crate) fn begin(&mut self, endpoint: Arc<str>, now: Instant) {
        self.pause();
        self.deadlines.open = now.checked_add(self.shared.parameters.stack_timeout());
        self.shared.lock().endpoint = endpoint.clone();
        self.endpoint = endpoint;
    }

    /// Tries nothing for a while.
    pub(crate) fn pause(&mut self) {
        self.protocol = Protocol::new(self.shared.parameters.max_message_size());
        self.inbox = Inbox::default();
        self.writing = Outbox::default();
        (self.stage, self.handshake) = (Stage::Dial, Handshake::default());
        (self.login, self.server_properties, self.heartbeat) = (None, None, None);
        self.deadlines = Deadlines::default();
        (self.broken, self.failure, self.end) = (None, None, End::No);
        let mut state = self.shared.lock();
        let unwritten = mem::take(&mut state.outbox);
        state.in_flight = 0;
        state.limits = Limits::PROVISIONAL;
        drop(state);
        drop(unwritten);
    }

    /// `host:port` of the endpoint that is tried, or connected to.
    pub(crate) fn endpoint(&self) -> Arc<str> {
        self.endpoint.clone()
    }

    /// Why the endpoint failed, if it is for others to be tried.
    pub(crate) fn failed(&mut self) -> Option<Error> {
        self.failure.take().filter(|_| self.on_open.is_some())
    }

    /// The socket is connected: the protocol header goes out, when TLS lets it.
    pub(crate) fn connected(&mut self) {
        self.stage = Stage::Tls;
        self.shared.lock().outbox.octets().extend_from_slice(&PROTOCOL_HEADER);
    }

    /// The handshake of TLS is over, or there is none.
    pub(crate) fn secured(&mut self) {
        if self.stage == Stage::Tls && self.shared.parameters.secure().is_some() {
            journal::secured(&self.endpoint);
        }
        self.stage = Stage::Connect;
    }

    /// There is no TLS with this peer.
    pub(crate) fn tls_failed(&mut self, problem: TlsProblem) {
        self.lost(Error::Tls { endpoint: self.endpoint(), problem });
        self.end = End::Gone;
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
                    if let Err(raised) = self.confirmed(number, confirmation, state) {
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
                Op::Consume { channel, tag, no_ack, callbacks } => self.lines.consume(channel, tag, no_ack, callbacks),
                Op::Cancel { identity, tag } => self.lines.cancel(&identity, &tag),
                Op::Confirm { channel, callback } => self.lines.confirm(channel, callback),
                Op::Closing(identity) => self.lines.closing(&identity),
                Op::Shutdown => self.shutdown(now),
            }
        }
    }

    /// The program has closed the connection.
    fn shutdown(&mut self, now: Instant) {
        if self.on_open.is_some() {
            self.lost(Error::OpenAborted { endpoint: self.endpoint() });
            return;
        }
        self.deadlines.close = now.checked_add(self.shared.parameters.close_timeout());
        self.lines.all_closing();
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
                journal::blocked(&self.endpoint, &blocked.reason);
                self.tell(Key::Blocked, Event::Blocked(blocked.reason));
            }
            connection::Method::Unblocked(_) => {
                self.deadlines.blocked = None;
                journal::unblocked(&self.endpoint);
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
                        journal::secret_updated(&self.endpoint);
                        self.jobs.extend(pending.then.resolve(Ok(Answer::Method(method))).map(|j| (0, j)));
                    }
                    None => self.violated(Violation::command("a reply that nobody asked for"), now),
                }
            }
            _ => self.violated(Violation::command("a connection method out of turn"), now),
        }
    }

    fn on_handshake(&mut self, method: connection::Method, now: Instant) {
        let endpoint = self.endpoint();
        let progress = match self.handshake.on_method(method, &self.shared.parameters, &mut self.login) {
            Ok(progress) => progress,
            Err(Refusal::Violation(violation)) => return self.violated(violation, now),
            Err(Refusal::Version(major, minor)) => {
                let what = format!("speaks AMQP {major}.{minor}, not 0-9-1").into();
                return self.lost(Error::IncompatibleProtocol { endpoint, what });
            }
            Err(Refusal::Mechanisms(offered)) => {
                let wanted: Vec<_> = self.shared.parameters.all_credentials().map(|c| c.mechanism()).collect();
                let wanted = wanted.join(" or ").into();
                return self.lost(Error::MechanismNotOffered { endpoint, wanted, offered: offered.into() });
            }
            Err(Refusal::Credentials(mechanism, problem)) => {
                let (mechanism, problem) = (mechanism.into(), problem.into());
                return self.lost(Error::CredentialsFailed { endpoint, mechanism, problem });
            }
        };
        if let Some(properties) = &progress.server_properties {
            let mechanism = self.login.as_ref().map_or("", |login| login.credentials.mechanism());
            journal::greeted(&endpoint, properties, mechanism);
        }
        if progress.server_properties.is_some() {
            self.server_properties = progress.server_properties;
        }
        if progress.opened {
            if let Some(properties) = self.server_properties.take() {
                let _ = self.shared.server_properties.set(properties);
            }
            if let Some(login) = self.login.take() {
                login.credentials.connected();
            }
        }
        let mut state = self.shared.lock();
        if let Some(limits) = progress.tuned {
            state.limits = limits;
            self.protocol.tuned(limits.frame_max);
            self.heartbeat = Heartbeat::new(limits.heartbeat, now);
        }
        let frame_max = state.limits.frame_max;
        let mut put = Ok(());
        for reply in &progress.replies {
            put = put.and_then(|()| match &self.login {
                Some(login) if progress.secret => {
                    secret_frame(reply, login.frame_max).map(|frame| state.outbox.refer(frame))
                }
                _ => put_method(state.outbox.octets(), 0, reply, frame_max),
            });
        }
        if progress.opened && state.phase == Phase::Opening {
            state.phase = Phase::Open;
        }
        drop(state);
        if let Err(invalid) = put {
            let error = match (invalid, &self.login) {
                (Invalid::ArgumentsTooLarge { length, limit }, Some(login)) => Error::LoginTooLarge {
                    endpoint,
                    mechanism: login.credentials.mechanism().into(),
                    length: length + ENVELOPE,
                    limit: limit + ENVELOPE,
                },
                (invalid, _) => invalid.into(),
            };
            return self.lost(error);
        }
        if let Some(limits) = progress.tuned {
            journal::tuned(&endpoint, limits);
        }
        if progress.opened {
            journal::opened(&endpoint);
            self.deadlines.open = None;
            let handle = ConnectionHandle(self.shared.clone());
            if let Some(on_open) = self.on_open.take() {
                self.jobs.push_back((0, Box::new(move |state| on_open(state, &handle, Ok(())))));
            }
            self.tell(Key::Open, Event::Open);
        }
    }

    fn on_method(&mut self, number: u16, method: Method, now: Instant) {
        if self.ignores() {
            return;
        }
        self.hook(number, method.id(), || method.clone());
        match method {
            Method::Channel(channel::Method::Close(close)) => self.channel_closed_by_broker(number, &close),
            Method::Channel(channel::Method::Flow(flow)) => {
                let ok = channel::FlowOk { active: flow.active };
                self.say(number, &ok.into());
                self.tell_channel(number, Key::Flow, Event::Flow(flow.active));
            }
            Method::Basic(basic::Method::Cancel(cancel)) => self.cancelled_by_broker(number, cancel),
            method => self.on_reply(number, method, now),
        }
    }

    /// After connection.close everything but its answer is ignored [§1.4.2.10].
    fn ignores(&self) -> bool {
        self.deadlines.close.is_some()
    }

    fn on_reply(&mut self, number: u16, method: Method, now: Instant) {
        let mut state = self.shared.lock();
        let Some(channel) = state.channels.get_mut(&number) else {
            drop(state);
            return self.violated(Violation::channel("a reply on a channel that is not open"), now);
        };
        let consumer_tag = match &method {
            Method::Basic(basic::Method::ConsumeOk(ok)) => Some(&ok.consumer_tag),
            Method::Basic(basic::Method::CancelOk(ok)) => Some(&ok.consumer_tag),
            _ => None,
        };
        let Some(pending) = channel.answered(method.id(), consumer_tag) else {
            drop(state);
            return self.violated(Violation::command("a reply to another method than was asked for"), now);
        };
        if let Method::Basic(basic::Method::CancelOk(ok)) = &method {
            channel.forget(ok.consumer_tag.as_bytes());
        }
        let over = matches!(method, Method::Channel(channel::Method::CloseOk(_)));
        let opened = matches!(method, Method::Channel(channel::Method::OpenOk(_)));
        let channel = if over { state.channels.remove(&number) } else { None };
        let refused = match &method {
            Method::Basic(basic::Method::ConsumeOk(ok)) => state.release(number, &ok.consumer_tag),
            _ => vec![],
        };
        drop(state);
        if opened {
            journal::channel_opened(&self.endpoint, number);
        }
        let refused = refused.into_iter().filter_map(|(error, then)| then.resolve(Err(error)));
        self.jobs.extend(refused.map(|job| (number, job)));
        if let Method::Basic(basic::Method::CancelOk(ok)) = &method {
            self.lines.forget(number, ok.consumer_tag.as_bytes());
        }
        let job = pending.then.resolve(Ok(Answer::Method(method)));
        if let Some(channel) = channel {
            // Our own Close was behind everything else, so nothing but the reply to it is outstanding.
            self.channel_over(number, channel.identity.reason(), Some(channel));
        }
        self.jobs.extend(job.map(|job| (number, job)));
        if let Some(identity) = self.lines.orphan(number) {
            self.shared.close_if_idle(&identity);
        }
    }

    /// The broker closed the channel. Everything outstanding is answered with its reason, and the number is free once
    /// close-ok is on its way. If the channel was closing anyway, the answer to our own Close is still to come.
    fn channel_closed_by_broker(&mut self, number: u16, close: &channel::Close) {
        let reason = CloseReason {
            code: close.reply_code,
            text: close.reply_text.to_string().into(),
            method: (close.class_id, close.method_id),
        };
        let error = Error::ChannelClosedByBroker { channel: number, reason };
        self.say(number, &channel::CloseOk {}.into());
        let mut state = self.shared.lock();
        let closing = state.channels.get_mut(&number).and_then(|channel| {
            let awaits_close_ok = channel.phase == ChannelPhase::Closing;
            if awaits_close_ok { channel.fifo.pop_back() } else { None }
        });
        let Some(mut channel) = state.channels.remove(&number) else { return };
        if let Some(close) = closing {
            let mut rest = ChannelState::new(channel.identity.clone());
            rest.phase = ChannelPhase::Closing;
            rest.fifo.push_back(close);
            channel.identity.close_by_broker(error.clone());
            state.channels.insert(number, rest);
            drop(state);
            self.lines.closing(&channel.identity);
            self.answer_all(number, &mut channel, &error);
            return;
        }
        channel.identity.close(error.clone());
        drop(state);
        self.answer_all(number, &mut channel, &error);
        self.channel_over(number, error, Some(channel));
    }

    /// Closes a channel for a reason of the client's own.
    fn close_channel(&mut self, number: u16, error: Error) {
        let mut state = self.shared.lock();
        let Some(channel) = state.channels.get_mut(&number) else { return };
        if channel.phase == ChannelPhase::Closing {
            return;
        }
        channel.phase = ChannelPhase::Closing;
        channel.identity.close(error.clone());
        let expect = Expect(channel::CloseOk::ID, None);
        let identity = channel.identity.clone();
        let then = Continuation::Nobody;
        channel.fifo.push_back(Pending { expect, then, number: 0, consumer_tag: None });
        let text = match &error {
            Error::Panicked { .. } => "a callback panicked",
            _ => "message too large",
        };
        let close = channel::Close { reply_code: 541, reply_text: text.into(), class_id: 0, method_id: 0 };
        let frame_max = state.limits.frame_max;
        let put = put_method(state.outbox.octets(), number, &close.into(), frame_max);
        debug_assert!(put.is_ok());
        self.shared.unlock(state);
        self.lines.closing(&identity);
    }

    fn cancelled_by_broker(&mut self, number: u16, cancel: basic::Cancel) {
        let mut state = self.shared.lock();
        let known = state.channels.get_mut(&number).is_some_and(|channel| {
            let ours = channel.consumers.iter().any(|c| c.tag == cancel.consumer_tag && !c.cancelled);
            if ours {
                channel.forget(cancel.consumer_tag.as_bytes());
            }
            ours
        });
        drop(state);
        if !cancel.nowait {
            self.say(number, &basic::CancelOk { consumer_tag: cancel.consumer_tag.clone() }.into());
        }
        self.lines.ended_by_broker(number, cancel.consumer_tag.as_bytes());
        if known {
            journal::consumer_cancelled(&self.endpoint, number, &cancel.consumer_tag);
            let event = Event::Cancel(cancel.consumer_tag);
            self.tell_channel(number, Key::Cancel, event);
        }
    }

    fn confirmed(&mut self, number: u16, confirmation: Confirmation, state: &mut S) -> Result<(), Raised> {
        if self.ignores() {
            return Ok(());
        }
        self.hook(number, confirmation.id(), || confirmation.method());
        let mut guard = self.shared.lock();
        let confirms = guard.channels.get_mut(&number).and_then(|channel| channel.confirms.as_mut());
        let (settled, waits) =
            confirms.map(|confirms| (confirms.confirmed(confirmation), confirms.has_waits())).unwrap_or_default();
        drop(guard);
        for (then, outcome) in settled {
            self.jobs.extend(then.resolve(Ok(Answer::Outcome(outcome))).map(|job| (number, job)));
        }
        if waits {
            self.jobs.extend(self.shared.confirms_waited(number).into_iter().map(|job| (number, job)));
        }
        match self.lines.on_confirm(number) {
            Some((channel, callback)) => lend(|| callback(state, channel, confirmation)),
            None => Ok(()),
        }
    }

    fn answer_all(&mut self, number: u16, channel: &mut ChannelState<S>, error: &Error) {
        let fifo = mem::take(&mut channel.fifo);
        let confirms = channel.confirms.as_mut().into_iter().flat_map(|confirms| confirms.drain().collect::<Vec<_>>());
        let held = mem::take(&mut channel.held).into_iter().filter_map(|(_, pending)| pending);
        let all = fifo.into_iter().chain(held).map(|pending| pending.then).chain(confirms);
        self.jobs.extend(all.filter_map(|then| then.resolve(Err(error.clone()))).map(|job| (number, job)));
    }

    /// The channel's number is free: its close callbacks are called, everything else about it is dropped.
    fn channel_over(&mut self, number: u16, error: Error, state: Option<ChannelState<S>>) {
        if let Some(mut state) = state {
            self.answer_all(number, &mut state, &error);
        }
        journal::channel_closed(&self.endpoint, number, &error);
        self.tell_channel(number, Key::Close, Event::Close(error));
        self.shared.callbacks.cleanup(number);
        self.protocol.close(number);
        self.lines.close(number);
    }

    fn closed_by_broker(&mut self, close: &connection::Close, now: Instant) {
        self.say(0, &connection::CloseOk {}.into());
        let reason = CloseReason {
            code: close.reply_code,
            text: close.reply_text.to_string().into(),
            method: (close.class_id, close.method_id),
        };
        self.last_words(now);
        let error = match (self.handshake, reason.code) {
            (Handshake::Tune, _) => self.authentication_refused(Some(reason)),
            (Handshake::Open(_), _) => self.access_refused(Some(reason)),
            _ => Error::ConnectionClosedByBroker { endpoint: self.endpoint(), reason },
        };
        self.lost(error);
    }

    fn close_ok(&mut self, now: Instant) {
        let closing = match &self.shared.lock().phase {
            Phase::Closing { code, text } => Some(Error::ConnectionClosedByClient { code: *code, text: text.clone() }),
            _ => None,
        };
        match closing {
            Some(error) => self.lost(error),
            None => self.violated(Violation::command("close-ok, but nobody closed"), now),
        }
    }

    fn met(&mut self, stranger: Stranger) {
        let what = match stranger {
            Stranger::OtherVersion([_, major, minor, revision]) => {
                format!("speaks AMQP {major}-{minor}-{revision}, not 0-9-1")
            }
            Stranger::Tls => "speaks TLS: connect with amqps:// instead of amqp://".into(),
            Stranger::NotAmqp => "does not speak AMQP; is this the AMQP port (5672, or 5671 with TLS)?".into(),
        };
        self.lost(Error::IncompatibleProtocol { endpoint: self.endpoint(), what: what.into() });
    }

    /// The broker broke the protocol: it is told, if that is still possible, and not waited for.
    fn violated(&mut self, violation: Violation, now: Instant) {
        if let Some(reply_code) = violation.code.filter(|_| self.handshake == Handshake::Done) {
            let reply_text = violation.what.into();
            self.say(0, &connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 }.into());
            self.last_words(now);
        }
        self.lost(Error::Protocol { endpoint: self.endpoint(), violation });
    }

    fn last_words(&mut self, now: Instant) {
        if self.end == End::No {
            self.end = End::Lingering;
            self.deadlines.linger = now.checked_add(LINGER);
        }
    }

    fn authentication_refused(&self, reason: Option<CloseReason>) -> Error {
        let presented = self.login.as_ref().map(|login| &login.credentials);
        let credentials = presented.unwrap_or(self.shared.parameters.credentials());
        Error::AuthenticationRefused {
            endpoint: self.endpoint(),
            user: credentials.user().into(),
            mechanism: credentials.mechanism().into(),
            reason,
        }
    }

    fn access_refused(&self, reason: Option<CloseReason>) -> Error {
        let vhost = self.shared.parameters.virtual_host().into();
        Error::AccessRefused { endpoint: self.endpoint(), vhost, reason }
    }

    /// The stream has ended; everything that came before has been handled.
    pub(crate) fn end_of_stream(&mut self, error: Option<io::Error>) {
        // What TLS says is the cause of all else: a client certificate that is refused, for example, behind the handshake.
        if let Some(problem) = error.as_ref().and_then(TlsProblem::of) {
            return self.tls_failed(problem.clone());
        }
        let endpoint = self.endpoint();
        let cause = self.broken.take().or(error.map(IoError::from)).unwrap_or_else(|| IoError {
            kind: io::ErrorKind::UnexpectedEof,
            text: "the peer closed it without a word".into(),
        });
        let error = match self.handshake {
            Handshake::Start => {
                let what =
                    "closed the connection before an AMQP greeting; is this the AMQP port (5672, or 5671 with TLS)?";
                Error::IncompatibleProtocol { endpoint, what: what.into() }
            }
            Handshake::Tune => self.authentication_refused(None),
            Handshake::Open(_) => self.access_refused(None),
            Handshake::Done => Error::StreamLost { endpoint, cause },
        };
        self.lost(error);
        self.end = End::Gone;
    }

    /// Writing has failed: what the broker said before it hung up is still to be read.
    pub(crate) fn write_failed(&mut self, error: io::Error, now: Instant) {
        self.broken.get_or_insert(error.into());
        self.deadlines.linger = self.deadlines.linger.or(now.checked_add(LINGER));
    }

    /// No connection could be made.
    pub(crate) fn cannot_connect(&mut self, error: Error) {
        self.over(error);
        self.end = End::Gone;
    }

    /// There is no connection with this endpoint, or none any more.
    fn lost(&mut self, error: Error) {
        if self.on_open.is_none() || error.is_final() {
            return self.over(error);
        }
        self.failure.get_or_insert(error);
        if self.end == End::No {
            self.end = End::Gone;
        }
    }

    /// It is over: first the connection is dead, then everything outstanding is answered in order, then the channels are
    /// told, then the connection.
    fn over(&mut self, error: Error) {
        let mut state = self.shared.lock();
        if matches!(state.phase, Phase::Closed(_)) {
            return;
        }
        state.phase = Phase::Closed(error.clone());
        let channels = mem::take(&mut state.channels);
        let closers = mem::take(&mut state.closers);
        let fifo = mem::take(&mut state.fifo);
        let ops = mem::take(&mut state.ops);
        let waiting = mem::take(&mut state.waiting_for_room);
        drop(state);
        wake_all(waiting);
        journal::closed(&self.endpoint, &error);
        if self.end == End::No {
            self.end = End::Gone;
        }
        let opened = self.on_open.is_none();
        let handle = ConnectionHandle(self.shared.clone());
        if let Some(on_open) = self.on_open.take() {
            let (handle, error) = (handle.clone(), error.clone());
            self.jobs.push_back((0, Box::new(move |state| on_open(state, &handle, Err(error)))));
            self.tell(Key::OpenError, Event::OpenError(self.reason()));
        }
        for channel in channels.values() {
            channel.identity.close(error.clone());
        }
        let mut over = vec![];
        for (number, mut channel) in channels {
            self.answer_all(number, &mut channel, &error);
            over.push((number, channel));
        }
        self.jobs.extend(fifo.into_iter().filter_map(|p| p.then.resolve(Err(error.clone()))).map(|job| (0, job)));
        for op in ops {
            if let Op::Open { identity, handle } = op {
                self.lines.open(identity, handle);
            }
        }
        for (number, channel) in over {
            self.channel_over(number, channel.identity.reason(), None);
        }
        let clean = matches!(error, Error::ConnectionClosedByClient { .. });
        let answer = || if clean { Ok(Answer::Method(connection::CloseOk {}.into())) } else { Err(error.clone()) };
        self.jobs.extend(closers.into_iter().filter_map(|then| then.resolve(answer())).map(|job| (0, job)));
        if opened {
            self.tell(Key::Close, Event::Close(error));
        }
    }

    fn reason(&self) -> Error {
        self.shared.lock().phase.refusal()
    }

    /// Puts a method into the outbox.
    fn say(&self, channel: u16, method: &Method) {
        let mut state = self.shared.lock();
        let frame_max = state.limits.frame_max;
        let put = put_method(state.outbox.octets(), channel, method, frame_max);
        debug_assert!(put.is_ok());
        self.shared.unlock(state);
    }

    fn tell(&mut self, key: Key, event: Event) {
        let source = Source::Connection(ConnectionHandle(self.shared.clone()));
        self.call_all(0, key, source, event);
    }

    fn tell_channel(&mut self, number: u16, key: Key, event: Event) {
        if let Some(channel) = self.lines.handle(&self.shared, number) {
            self.call_all(number, key, Source::Channel(channel), event);
        }
    }

    fn call_all(&mut self, number: u16, key: Key, source: Source<S>, event: Event) {
        if !self.shared.callbacks.may_have(key) {
            return;
        }
        for callback in self.shared.callbacks.take(number, key, None, &event).unwrap_or_default() {
            let (source, event) = (source.clone(), event.clone());
            self.jobs.push_back((number, Box::new(move |state| callback(state, &source, &event))));
        }
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
        drop(state);
        wiretap::sending(&self.endpoint, &self.writing);
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
        self.mark(requests, now);
        if !self.pressed && heavy {
            self.pressed = true;
            journal::backpressure(&self.endpoint, held);
            self.tell(Key::Backpressure, Event::Backpressure(held));
        } else if self.pressed && held == 0 {
            self.pressed = false;
            journal::drained(&self.endpoint);
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

    /// Whether it is over for the program, and something may still be to be said.
    pub(crate) fn has_last_words(&self) -> bool {
        self.end == End::Lingering
    }

    /// Whether nothing can be written any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether the end has come, and nothing is left to say or to call; with octets unwritten that were taken from here.
    pub(crate) fn is_over(&self, unwritten: bool) -> bool {
        let said = || !unwritten && self.writing.is_empty() && self.shared.lock().outbox.is_empty();
        self.jobs.is_empty() && (self.end == End::Gone || self.end == End::Lingering && said())
    }

    /// Nothing is to be done now: large buffers are given back if it stays like that.
    pub(crate) fn rest(&mut self, grown: bool, now: Instant) {
        if self.deadlines.tidy.is_none() && (grown || self.inbox.is_grown() || self.writing.is_grown()) {
            self.deadlines.tidy = now.checked_add(QUIET);
        }
    }

    /// Whether buffers have been given back since the last call, so that others may be.
    pub(crate) fn tidied(&mut self) -> bool {
        mem::take(&mut self.tidied)
    }

    fn tidy(&mut self) {
        self.deadlines.tidy = None;
        if !mem::take(&mut self.moved) {
            self.tidied = true;
            self.inbox.shrink();
            self.writing.shrink();
            self.shared.lock().outbox.shrink();
        }
    }

    /// Requests that were asked for until now have `rpc_timeout`, rounded up by a thirty-second of it: so there are few
    /// marks, however many requests there are.
    fn mark(&mut self, requests: u64, now: Instant) {
        let Some(timeout) = self.shared.parameters.rpc_timeout() else { return };
        if requests == self.marked {
            return;
        }
        self.marked = requests;
        match self.marks.back_mut() {
            Some(mark) if now.duration_since(mark.since) < timeout / 32 => mark.through = requests,
            _ => self.marks.push_back(Mark { since: now, through: requests }),
        }
    }

    fn rpc_deadline(&self) -> Option<Instant> {
        let timeout = self.shared.parameters.rpc_timeout()?;
        self.marks.front()?.since.checked_add(timeout + timeout / 32)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let Deadlines { open, close, linger, blocked, tidy } = &self.deadlines;
        if self.end != End::No {
            return *linger;
        }
        let blocked = blocked.as_ref().map(|(until, _)| *until);
        let heartbeat = self.heartbeat.as_ref().map(Heartbeat::poll_timeout);
        [*open, *close, *linger, *tidy, blocked, heartbeat, self.rpc_deadline()].into_iter().flatten().min()
    }

    /// Something may have taken too long. The socket has been read: silence is silence.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let endpoint = self.endpoint();
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.deadlines.linger) {
            if let (End::No, Some(cause)) = (self.end, self.broken.take()) {
                self.lost(Error::StreamLost { endpoint, cause });
            }
            self.end = End::Gone;
            return;
        }
        if self.end != End::No {
            return;
        }
        let parameters = &self.shared.parameters;
        if due(self.deadlines.open) {
            let what = match (self.stage, self.handshake) {
                (Stage::Dial, _) => format!("connecting to {endpoint}"),
                (Stage::Tls, _) => format!("the TLS handshake with {endpoint}"),
                (_, Handshake::Start) => format!("the AMQP greeting of {endpoint}"),
                _ => format!("opening the connection to {endpoint}"),
            };
            let after = parameters.stack_timeout();
            return self.lost(Error::Timeout { stage: self.stage, what: what.into(), after });
        }
        if due(self.deadlines.close) {
            let what = format!("the answer of {endpoint} to connection.close").into();
            let after = parameters.close_timeout();
            return self.lost(Error::Timeout { stage: Stage::Close, what, after });
        }
        if let Some((_, reason)) = self.deadlines.blocked.take_if(|(until, _)| *until <= now) {
            let after = parameters.blocked_connection_timeout().unwrap_or_default();
            return self.lost(Error::BlockedTimeout { endpoint, reason, after });
        }
        if due(self.deadlines.tidy) {
            self.tidy();
        }
        if due(self.rpc_deadline()) {
            self.requests_timed_out();
        }
        let paused = self.is_paused();
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| paused) {
            heartbeat.received(now);
        }
        let beat = self.heartbeat.as_mut().and_then(|heartbeat| heartbeat.handle_timeout(now));
        let missed = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.missed(now));
        if let (Some(Beat::Send), Some(silence)) = (beat, missed) {
            journal::beat_missed(&self.endpoint, silence);
        }
        match beat {
            Some(Beat::GiveUp { silence }) => self.lost(Error::HeartbeatTimeout { endpoint, silence }),
            Some(Beat::Send) if self.writing.is_empty() => {
                journal::beat(&self.endpoint);
                let mut state = self.shared.lock();
                state.outbox.octets().extend_from_slice(&HEARTBEAT);
                drop(state);
            }
            Some(Beat::Send) | None => {}
        }
    }

    /// Their continuations are told; their replies, should they come, are swallowed, so that the channels stay in step.
    fn requests_timed_out(&mut self) {
        let Some(mark) = self.marks.pop_front() else { return };
        let after = self.shared.parameters.rpc_timeout().unwrap_or_default();
        let mut late = vec![];
        let mut collect = |number: u16, pending: &mut Pending<S>| {
            if pending.number <= mark.through {
                let then = mem::replace(&mut pending.then, Continuation::Nobody);
                late.push((number, pending.expect.0, then));
            }
        };
        let mut state = self.shared.lock();
        state.fifo.iter_mut().for_each(|pending| collect(0, pending));
        for (number, channel) in &mut state.channels {
            let held = channel.held.iter_mut().filter_map(|(_, pending)| pending.as_mut());
            channel.fifo.iter_mut().chain(held).for_each(|pending| collect(*number, pending));
        }
        drop(state);
        for (number, expected, then) in late {
            let name = expected.name().unwrap_or("a reply");
            let what = format!("{name} from {} on channel {number}", self.endpoint()).into();
            let error = Error::Timeout { stage: Stage::Reply, what, after };
            journal::timed_out(&self.endpoint, number, &error);
            self.jobs.extend(then.resolve(Err(error)).map(|job| (number, job)));
        }
    }
}

/// A frame with a secret in it, which is wiped when it has been written.
fn secret_frame(method: &Method, frame_max: usize) -> Result<Bytes, Invalid> {
    let mut frame = Zeroizing::new(Vec::with_capacity(frame_max)); // one that grew would leave copies behind
    put_method(&mut frame, 0, method, frame_max)?;
    Ok(Bytes::from_owner(frame))
}

/// What is wrong with a message.
pub(crate) enum Trouble {
    Violation(Violation),
    /// The channel cannot go on.
    Channel(Error),
}

/// The loop is dropped: there is no state to lend any more, so callbacks are dropped, uncalled and unlocked.
impl<S: 'static> Drop for Driver<S> {
    fn drop(&mut self) {
        self.lost(Error::LoopGone);
        self.jobs.clear();
    }
}
