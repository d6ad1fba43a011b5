//! What a connection does when time has passed.

use crate::{
    driver::{Driver, End},
    error::{Error, Stage},
    protocol::{
        handshake::Handshake,
        heartbeat::{Beat, Heartbeat},
    },
    session::{Pending, reply::Continuation},
    trace::events,
    wire::frame::HEARTBEAT,
};
use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// When something will have taken too long.
#[derive(Default)]
pub(super) struct Deadlines {
    /// The open connection (`stack_timeout`).
    pub(super) open: Option<Instant>,
    /// The broker's close-ok.
    pub(super) close: Option<Instant>,
    /// Last words, or the last octets of a stream that cannot be written to any more.
    pub(super) linger: Option<Instant>,
    /// Publishers blocked by the broker.
    pub(super) blocked: Option<(Instant, Arc<str>)>,
    /// Buffers are given back, if nothing has moved by then.
    pub(super) tidy: Option<Instant>,
}

/// When the replies to requests are due: there is one mark for all that were asked for until about the same time, so
/// that there are few of them however many requests there are.
#[derive(Default)]
pub(super) struct ReplyDeadlines {
    marks: VecDeque<Mark>,
    marked: u64,
}

struct Mark {
    since: Instant,
    through: u64,
}

impl ReplyDeadlines {
    /// Requests that were asked for until now have `timeout`, rounded up by a thirty-second of it.
    pub(super) fn mark(&mut self, requests: u64, now: Instant, timeout: Option<Duration>) {
        let Some(timeout) = timeout else { return };
        if requests == self.marked {
            return;
        }
        self.marked = requests;
        match self.marks.back_mut() {
            Some(mark) if now.duration_since(mark.since) < timeout / 32 => mark.through = requests,
            _ => self.marks.push_back(Mark { since: now, through: requests }),
        }
    }

    fn first(&self, timeout: Option<Duration>) -> Option<Instant> {
        let timeout = timeout?;
        self.marks.front()?.since.checked_add(timeout + timeout / 32)
    }
}

/// A connection on which nothing has moved for this long needs no large buffers.
const QUIET: Duration = Duration::from_secs(1);

impl<S: 'static> Driver<S> {
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let Deadlines { open, close, linger, blocked, tidy } = &self.deadlines;
        if self.end != End::No {
            return *linger;
        }
        let blocked = blocked.as_ref().map(|(until, _)| *until);
        let heartbeat = self.heartbeat.as_ref().map(Heartbeat::poll_timeout);
        [*open, *close, *linger, *tidy, blocked, heartbeat, self.replies.first(self.shared.parameters.rpc_timeout())]
            .into_iter()
            .flatten()
            .min()
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
        while due(self.replies.first(self.shared.parameters.rpc_timeout())) {
            self.requests_timed_out();
        }
        self.upkeep(now);
    }

    /// What does not depend on an answer: buffers are given back, a heartbeat goes out, a broker that has been silent for too
    /// long is given up.
    pub(crate) fn upkeep(&mut self, now: Instant) {
        if self.end != End::No {
            return;
        }
        if self.deadlines.tidy.is_some_and(|deadline| deadline <= now) {
            self.tidy();
        }
        let paused = self.is_paused();
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| paused) {
            heartbeat.received(now);
        }
        let beat = self.heartbeat.as_mut().and_then(|heartbeat| heartbeat.handle_timeout(now));
        let missed = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.missed(now));
        if let (Some(Beat::Send), Some(silence)) = (beat, missed) {
            events::beat_missed(&self.endpoint, silence);
        }
        match beat {
            Some(Beat::GiveUp { silence }) => {
                let endpoint = self.endpoint();
                self.lost(Error::HeartbeatTimeout { endpoint, silence });
            }
            Some(Beat::Send) if self.writing.is_empty() => {
                events::beat(&self.endpoint);
                let mut state = self.shared.lock();
                state.outbox.octets().extend_from_slice(&HEARTBEAT);
                drop(state);
            }
            Some(Beat::Send) | None => {}
        }
    }

    /// Their continuations are told; their replies, should they come, are swallowed, so that the channels stay in step.
    fn requests_timed_out(&mut self) {
        let Some(mark) = self.replies.marks.pop_front() else { return };
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
            events::timed_out(&self.endpoint, number, &error);
            self.jobs.extend(then.resolve(Err(error)).map(|job| (number, job)));
        }
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
}
