//! Everything under a connection's mutex, and its rules.
//!
//! Nothing of the program's is called, cloned, woken or dropped while it is locked: what a method here takes out of the
//! state, it returns.

mod flow;
mod requests;
mod room;

pub(crate) use requests::Pending;
pub(crate) use room::{Place, Room, Wakers};

use crate::{
    error::Error,
    protocol::limits::Limits,
    session::{
        channel::{ChannelState, Identity, Phase as ChannelPhase},
        confirm::Outstanding,
        op::Op,
        reply::Continuation,
        timer::TimeoutId,
    },
    wire::{
        fault::Invalid,
        frame::put_method,
        outbox::Outbox,
        spec::{self, Method, MethodId},
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};

/// What a connection's handles and its loop share and both change.
pub(crate) struct State<S: 'static> {
    phase: Phase,
    /// `host:port` of the endpoint that is tried, or connected to.
    endpoint: Arc<str>,
    outbox: Outbox,
    /// Octets that the loop has ever taken out of the outbox, to write them.
    taken: u64,
    /// Octets in the outbox that answer the broker, of its own accord or the program's.
    answers: usize,
    /// Octets that the loop has taken out of the outbox and not yet written.
    in_flight: usize,
    /// Octets of channels on which the broker wants no content for the time being.
    paused: usize,
    limits: Limits,
    channels: BTreeMap<u16, ChannelState<S>>,
    ops: Vec<Op<S>>,
    /// Requests that wait for connection.close-ok.
    closers: Vec<Continuation<S, ()>>,
    /// What channel 0 expects: update-secret-ok.
    fifo: VecDeque<Pending<S>>,
    /// Tasks that wait until there is less to write.
    room: Room,
    /// Counts requests that wait for a reply.
    requests: u64,
    /// Frames put into the outbox, for the average of pika's back-pressure rule.
    frames: u64,
    /// Something was changed under this lock that the loop has to see.
    changed: bool,
    /// The loop has been rung for, and has not looked since.
    rung: bool,
    /// Octets waiting over which the loop is rung for again, because its callbacks are to be called.
    weigh_at: usize,
}

/// Where a connection is in its life.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    Opening,
    Open,
    Closing { code: u16, text: Arc<str> },
    Closed(Error),
}

impl Phase {
    /// Why nothing can be asked of a connection in this phase.
    pub(crate) fn refusal(&self) -> Error {
        match self {
            Self::Opening | Self::Open => Error::NotOpen,
            Self::Closing { code, text } => Error::ConnectionClosedByClient { code: *code, text: text.clone() },
            Self::Closed(error) => error.clone(),
        }
    }
}

/// What waits for its end when a connection is over.
pub(crate) struct Rest<S: 'static> {
    pub(crate) channels: BTreeMap<u16, ChannelState<S>>,
    pub(crate) closers: Vec<Continuation<S, ()>>,
    pub(crate) fifo: VecDeque<Pending<S>>,
    pub(crate) ops: Vec<Op<S>>,
    pub(crate) room: Wakers,
}

/// Everybody who waits for a reply, and, channel by channel, for an outcome or for confirms, with what gives up for these.
pub(crate) type Waiting<S> = (Vec<(u16, Continuation<S>)>, Vec<(u16, Vec<TimeoutId>, Outstanding<S>)>);

/// How much waits to be written.
pub(crate) struct Weight {
    pub(crate) held: usize,
    /// Octets of answers to the broker that it has not begun to read.
    pub(crate) answers: usize,
    /// It is more than there should be.
    pub(crate) is_heavy: bool,
    /// Requests so far.
    pub(crate) requests: u64,
    /// Tasks that have room again.
    pub(crate) room: Wakers,
}

impl<S: 'static> State<S> {
    pub(super) fn new(endpoint: Arc<str>) -> Self {
        Self {
            phase: Phase::Opening,
            endpoint,
            outbox: Outbox::default(),
            taken: 0,
            answers: 0,
            in_flight: 0,
            paused: 0,
            limits: Limits::PROVISIONAL,
            channels: BTreeMap::new(),
            ops: vec![],
            closers: vec![],
            fifo: VecDeque::new(),
            room: Room::default(),
            requests: 0,
            frames: 0,
            changed: false,
            rung: false,
            weigh_at: usize::MAX,
        }
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(crate) fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The channel that has this number now.
    pub(crate) fn channel(&mut self, number: u16) -> Option<&mut ChannelState<S>> {
        self.channels.get_mut(&number)
    }

    /// The state of this channel, unless it is over.
    pub(crate) fn channel_of(&self, identity: &Identity) -> Option<&ChannelState<S>> {
        self.channels.get(&identity.number).filter(|channel| channel.identity.serial == identity.serial)
    }

    /// The channel is over, and what is left of it is returned. Its number stays taken until it is [freed](Self::free).
    pub(crate) fn take(&mut self, number: u16) -> Option<ChannelState<S>> {
        let channel = self.channels.get_mut(&number)?;
        let channel = mem::replace(channel, ChannelState::closing(channel.identity.clone()));
        self.paused -= channel.paused_octets();
        Some(channel)
    }

    /// The broker closes a channel, and is answered. The end and the answer are one: what would be written on the channel after
    /// close-ok ends the connection. Returned is what is left of the channel, and whether the answer to a close of our own
    /// is still to come.
    pub(crate) fn closed_by_broker(&mut self, number: u16, error: &Error) -> Option<(ChannelState<S>, bool)> {
        self.say(number, &spec::channel::CloseOk {}.into());
        let channel = self.channels.get_mut(&number)?;
        let is_closing = channel.phase == ChannelPhase::Closing;
        let close = if is_closing { channel.fifo.pop_back() } else { None };
        let awaits_close_ok = close.is_some();
        let told = channel.is_awaited();
        let channel = self.take(number)?;
        match close {
            Some(close) => {
                channel.identity.end(error.clone());
                if let Some(rest) = self.channels.get_mut(&number) {
                    rest.fifo.push_back(close);
                    rest.told = told;
                }
            }
            None => channel.identity.close(error.clone()),
        }
        Some((channel, awaits_close_ok))
    }

    /// Nothing is left of the channel that had this number, anywhere: another one may have it.
    pub(crate) fn free(&mut self, number: u16) {
        self.channels.remove(&number);
    }

    /// Octets that wait to be written.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.outbox.len() + self.in_flight + self.paused
    }

    /// Whether a request waits for what only reading can bring.
    pub(crate) fn is_awaited(&self) -> bool {
        self.phase != Phase::Open
            || self.fifo.iter().any(|pending| pending.then.is_somebody())
            || self.channels.values().any(ChannelState::is_awaited)
    }

    /// Tasks that wait until there is less to write.
    pub(crate) fn room(&mut self) -> &mut Room {
        &mut self.room
    }
}

/// An attempt, and its end.
impl<S: 'static> State<S> {
    pub(crate) fn set_endpoint(&mut self, endpoint: Arc<str>) {
        self.endpoint = endpoint;
    }

    /// An attempt begins anew. What the last one did not write is returned.
    pub(crate) fn begin_anew(&mut self) -> Outbox {
        self.limits = Limits::PROVISIONAL;
        self.abandon()
    }

    /// Nothing of what waits can be written; it is returned.
    pub(crate) fn abandon(&mut self) -> Outbox {
        (self.in_flight, self.answers) = (0, 0);
        mem::take(&mut self.outbox)
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The broker has opened the connection. False if the program has closed it meanwhile.
    pub(crate) fn opened(&mut self) -> bool {
        let opens = self.phase == Phase::Opening;
        if opens {
            self.phase = Phase::Open;
        }
        opens
    }

    /// The program closes the connection: `close` goes out after everything else, if there is a connection yet. True if the
    /// loop is to begin with that; false if it has begun, and `then` waits with the others.
    pub(crate) fn close(
        &mut self,
        (code, text): (u16, Arc<str>),
        close: Outbox,
        then: Continuation<S, ()>,
    ) -> Result<bool, (Error, Continuation<S, ()>)> {
        match &self.phase {
            Phase::Open => {
                self.desert(&Error::ConnectionClosedByClient { code, text: Arc::clone(&text) });
                self.outbox.append(close);
            }
            Phase::Opening => {}
            Phase::Closing { .. } if then.is_somebody() => {
                self.closers.push(then);
                return Ok(false);
            }
            phase => return Err((phase.refusal(), then)),
        }
        self.phase = Phase::Closing { code, text };
        self.closers.push(then);
        Ok(true)
    }

    /// Whether it is open, and nothing is asked of it or of a channel that is not closing.
    pub(crate) fn is_idle(&self) -> bool {
        let open = |channel: &ChannelState<S>| channel.phase == ChannelPhase::Open;
        self.phase == Phase::Open && self.fifo.is_empty() && !self.channels.values().any(open)
    }

    /// connection.close is next: whatever waits goes out before it, and nothing more can be asked of the channels.
    fn desert(&mut self, reason: &Error) {
        for channel in self.channels.values_mut().filter(|channel| channel.phase == ChannelPhase::Open) {
            self.paused -= channel.release_to(&mut self.outbox, self.taken);
            channel.phase = ChannelPhase::Deserted;
            channel.identity.close(reason.clone());
        }
    }

    /// The connection is over. What waits for that is returned; `None` if it was over before. After the last words nothing
    /// can be written.
    pub(crate) fn end(&mut self, error: Error, last_words: Option<&Method>) -> Option<Rest<S>> {
        if let Phase::Closed(_) = self.phase {
            return None;
        }
        if let Some(method) = last_words {
            self.say(0, method);
        }
        // Under this lock, or who finds a channel closed could not be told why.
        for ChannelState { identity, phase, .. } in self.channels.values() {
            match phase {
                ChannelPhase::Deserted => identity.end(error.clone()),
                ChannelPhase::Open | ChannelPhase::Closing => identity.close(error.clone()),
            }
        }
        self.phase = Phase::Closed(error);
        self.paused = 0;
        Some(Rest {
            channels: mem::take(&mut self.channels),
            closers: mem::take(&mut self.closers),
            fifo: mem::take(&mut self.fifo),
            ops: mem::take(&mut self.ops),
            room: self.room.leave_all(),
        })
    }
}

/// What goes out.
impl<S: 'static> State<S> {
    /// Writes a method of the loop's own, which always fits.
    pub(crate) fn say(&mut self, channel: u16, method: &Method) {
        let before = self.outbox.len();
        let put = self.try_to_say(channel, method);
        debug_assert!(put.is_ok());
        self.answers += self.outbox.len() - before;
    }

    fn try_to_say(&mut self, channel: u16, method: &Method) -> Result<(), Invalid> {
        let frame_max = self.limits.frame_max;
        put_method(self.out(), channel, method, frame_max)
    }

    /// Writes octets that are whole frames, or the protocol's header.
    pub(crate) fn say_octets(&mut self, octets: &[u8]) {
        self.out().extend_from_slice(octets);
    }

    /// Writes a frame without copying it.
    pub(crate) fn say_frame(&mut self, frame: Bytes) {
        self.changed = true;
        self.outbox.refer(frame);
    }

    /// Where frames are written; the loop will be rung for them.
    #[inline]
    fn out(&mut self) -> &mut Vec<u8> {
        self.changed = true;
        self.outbox.octets()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Octets that the loop has ever taken, to write them.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The loop takes what is to be written and cannot be.
    pub(crate) fn take_unsent(&mut self) -> Outbox {
        self.answers = 0;
        mem::take(&mut self.outbox)
    }

    /// The loop takes what is to be written, and gives its empty buffer for what will be.
    pub(crate) fn hand_over(&mut self, writing: &mut Outbox) {
        mem::swap(&mut self.outbox, writing);
        self.answers = 0;
        self.in_flight = writing.len();
        self.taken += writing.len() as u64;
    }

    /// Frames since this was asked for last.
    #[cfg(all(test, loom))]
    pub(crate) fn take_frames(&mut self) -> u64 {
        mem::take(&mut self.frames)
    }

    /// Gives a large buffer back.
    pub(crate) fn shrink(&mut self) {
        self.outbox.shrink();
    }

    /// How much waits, after the loop has written: `in_flight` of what it had taken is left. More than `high` octets are too
    /// many, or more than so many average frames; with no more than `low` there is room. Until it is `eased` the loop is
    /// not rung for again.
    pub(crate) fn weigh(&mut self, in_flight: usize, marks: &Marks) -> Weight {
        self.in_flight = in_flight;
        let held = self.held();
        // What waits counts too, or the average of a connection that cannot write would sink with every publish.
        let average = (marks.sent + held as u64) / self.frames.max(1);
        let pika = marks
            .frames
            .map_or(usize::MAX, |frames| usize::try_from(average.saturating_mul(frames.into())).unwrap_or(usize::MAX));
        let limit = marks.high.min(pika);
        let is_heavy = held > limit;
        self.weigh_at = if marks.pressed || is_heavy { usize::MAX } else { limit };
        let room = if held <= marks.low { self.room.leave_all() } else { Wakers::default() };
        Weight { held, answers: self.answers, is_heavy, requests: self.requests, room }
    }
}

/// What [`State::weigh`] judges by.
pub(crate) struct Marks {
    /// `outbound_high_water`.
    pub(crate) high: usize,
    /// `outbound_low_water`.
    pub(crate) low: usize,
    /// pika's back-pressure rule: average frames that may wait.
    pub(crate) frames: Option<u32>,
    /// Octets written so far.
    pub(crate) sent: u64,
    /// The program has been told of back-pressure, and not yet that it is over.
    pub(crate) pressed: bool,
}

/// Whether the loop is rung.
impl<S: 'static> State<S> {
    /// Something for the loop, which is told although it may wait for a socket that takes nothing.
    pub(super) fn push(&mut self, op: Op<S>) {
        self.ops.push(op);
        self.hurry();
    }

    pub(crate) fn take_ops(&mut self) -> Vec<Op<S>> {
        mem::take(&mut self.ops)
    }

    /// The loop is rung although it may know already: what was changed does not wait for a socket that takes nothing.
    fn hurry(&mut self) {
        (self.changed, self.rung) = (true, false);
    }

    /// The loop looks now: for what comes later it is to be rung again.
    pub(crate) fn looked_at(&mut self) {
        self.rung = false;
    }

    /// Whether the loop has to be rung for what was changed.
    #[inline]
    pub(super) fn rings(&mut self) -> bool {
        if !mem::take(&mut self.changed) {
            return false;
        }
        let heavy = self.held() > self.weigh_at;
        if heavy {
            self.weigh_at = usize::MAX;
        }
        let first = !mem::replace(&mut self.rung, true);
        first || heavy
    }
}

/// Answers to the connection's own requests.
impl<S: 'static> State<S> {
    /// Takes the request that a reply on channel 0 answers.
    pub(crate) fn answered(&mut self, reply: MethodId) -> Option<Pending<S>> {
        let expected = self.fifo.front().is_some_and(|pending| pending.expect.accepts(reply));
        if expected { self.fifo.pop_front() } else { None }
    }

    /// Every request that waits, with its channel's number.
    pub(crate) fn pending(&mut self) -> impl Iterator<Item = (u16, &mut Pending<S>)> {
        let own = self.fifo.iter_mut().map(|pending| (0, pending));
        own.chain(self.channels.iter_mut().flat_map(|(number, channel)| {
            let held = channel.held.iter_mut().filter_map(|(_, pending)| pending.as_mut());
            channel.fifo.iter_mut().chain(held).map(|pending| (*number, pending))
        }))
    }

    /// The continuations of everybody who waits for a reply or an outcome, with their channels. What comes later is swallowed.
    pub(crate) fn take_waiting(&mut self) -> Waiting<S> {
        let take =
            |(number, pending): (u16, &mut Pending<S>)| (number, mem::replace(&mut pending.then, Continuation::Nobody));
        let replies = self.pending().map(take).collect();
        let confirms = |(number, channel): (&u16, &mut ChannelState<S>)| {
            channel.confirms.as_mut().map(|confirms| (*number, confirms.timeouts(), confirms.take_waiting()))
        };
        (replies, self.channels.iter_mut().filter_map(confirms).collect())
    }
}
