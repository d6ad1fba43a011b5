//! What a connection does when time has passed.

use crate::{
    driver::{Conversation, Driver, LastWords, Life},
    error::{Error, Stage},
    protocol::heartbeat::{Beat, Heartbeat},
    session::reply::Continuation,
    trace::events,
    wire::frame::HEARTBEAT,
};
use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

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
            Some(mark) if now.saturating_duration_since(mark.since) < timeout / 32 => mark.through = requests,
            _ => self.marks.push_back(Mark { since: now, through: requests }),
        }
    }

    fn first(&self, timeout: Option<Duration>) -> Option<Instant> {
        let timeout = timeout?;
        self.marks.front()?.since.checked_add(timeout.saturating_add(timeout / 32))
    }
}

impl<S: 'static> Driver<S> {
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.life {
            Life::Failed { words, .. } | Life::Parting { words, .. } | Life::Over(words) => return words.until(),
            Life::Opening { until, .. } | Life::Closing { until } => *until,
            Life::Open { blocked } => blocked.as_ref().map(|(until, _)| *until),
        };
        let Conversation { heartbeat, replies, broken, tidy_at, .. } = &self.conversation;
        let broken = broken.as_ref().and_then(|broken| broken.until);
        let heartbeat = heartbeat.as_ref().map(Heartbeat::poll_timeout);
        let reply = replies.first(self.shared.parameters.rpc_timeout());
        [own, broken, *tidy_at, heartbeat, reply].into_iter().flatten().min()
    }

    /// Something may have taken too long. The socket has been read: silence is silence.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if let Some(words) = self.life.words() {
            if due(words.until()) {
                self.fall_silent();
            }
            return;
        }
        if let Some(error) = self.too_late(due) {
            return self.lost(error, LastWords::Said);
        }
        while due(self.conversation.replies.first(self.shared.parameters.rpc_timeout())) {
            self.requests_timed_out();
        }
        self.beat(now);
    }

    /// What is the end of a connection that still lives.
    fn too_late(&self, due: impl Fn(Option<Instant>) -> bool) -> Option<Error> {
        let (endpoint, parameters) = (self.endpoint(), &self.shared.parameters);
        if let Some(broken) = self.conversation.broken.as_ref().filter(|broken| due(broken.until)) {
            return Some(Error::StreamLost { endpoint, cause: broken.cause.clone() });
        }
        match &self.life {
            Life::Opening { step, until, .. } if due(*until) => {
                let (stage, what) = step.late(&endpoint);
                Some(Error::Timeout { stage, what: what.into(), after: parameters.stack_timeout() })
            }
            Life::Closing { until } if due(*until) => {
                let what = format!("the answer of {endpoint} to connection.close").into();
                Some(Error::Timeout { stage: Stage::Close, what, after: parameters.close_timeout() })
            }
            Life::Open { blocked: Some((until, reason)) } if due(Some(*until)) => {
                let after = parameters.blocked_connection_timeout().unwrap_or_default();
                Some(Error::BlockedTimeout { endpoint, reason: reason.clone(), after })
            }
            _ => None,
        }
    }

    /// What is due while there is more to read, or more that was read is to be handled: a heartbeat goes out. That the
    /// broker is not heard meanwhile is no silence of its.
    pub(crate) fn upkeep(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.conversation.heartbeat {
            heartbeat.received(now);
        }
        self.beat(now);
    }

    /// What does not depend on an answer: buffers are given back, a heartbeat goes out, a broker that has been silent for too
    /// long is given up.
    fn beat(&mut self, now: Instant) {
        if self.life.has_ended() {
            return;
        }
        if self.conversation.tidy_at.is_some_and(|deadline| deadline <= now) && self.conversation.tidy() {
            self.shared.lock().shrink();
        }
        let paused = self.is_paused();
        let Some(heartbeat) = &mut self.conversation.heartbeat else { return };
        if paused {
            heartbeat.received(now);
        }
        let beat = heartbeat.handle_timeout(now);
        if let (Some(Beat::Send), Some(silence)) = (beat, heartbeat.missed(now)) {
            events::beat_missed(&self.endpoint(), silence);
        }
        match beat {
            Some(Beat::GiveUp { silence }) => {
                let endpoint = self.endpoint();
                self.lost(Error::HeartbeatTimeout { endpoint, silence }, LastWords::Said);
            }
            Some(Beat::Send) if self.conversation.writing.is_empty() => {
                events::beat(&self.endpoint());
                self.shared.lock().say_octets(&HEARTBEAT);
            }
            Some(Beat::Send) | None => {}
        }
    }

    /// Their continuations are told; their replies, should they come, are swallowed, so that the channels stay in step.
    fn requests_timed_out(&mut self) {
        let Some(mark) = self.conversation.replies.marks.pop_front() else { return };
        let after = self.shared.parameters.rpc_timeout().unwrap_or_default();
        let mut late = vec![];
        for (number, pending) in self.shared.lock().pending().filter(|(_, pending)| pending.number <= mark.through) {
            let then = mem::replace(&mut pending.then, Continuation::Nobody);
            late.push((number, pending.expect.0, then));
        }
        for (number, expected, then) in late {
            let name = expected.name().unwrap_or("a reply");
            let what = format!("{name} from {} on channel {number}", self.endpoint()).into();
            let error = Error::Timeout { stage: Stage::Reply, what, after };
            events::timed_out(&self.endpoint(), number, &error);
            self.jobs.extend(then.resolve(Err(error)).map(|job| (number, job)));
        }
    }

    /// Everybody who waits for a reply or an outcome gets this error instead; what comes later is swallowed.
    pub(super) fn answer_all_waiting(&mut self, error: &Error) {
        let (replies, confirms) = self.shared.lock().take_waiting();
        let answer = || error.clone();
        self.jobs.extend(replies.into_iter().filter_map(|(number, then)| Some((number, then.resolve(Err(answer()))?))));
        for (number, timeouts, (publishes, waits)) in confirms {
            for timeout in timeouts {
                self.shared.bell.remove_timeout(timeout);
            }
            let publishes = publishes.into_iter().filter_map(|then| then.resolve(Err(answer())));
            let waits = waits.into_iter().filter_map(|then| then.resolve(Err(answer())));
            self.jobs.extend(publishes.chain(waits).map(|job| (number, job)));
        }
    }

    /// Nothing is to be done now: large buffers are given back if it stays like that.
    pub(crate) fn rest(&mut self, grown: bool, now: Instant) {
        self.conversation.rest(grown, now);
    }

    /// Whether buffers have been given back since the last call, so that others may be.
    pub(crate) fn tidied(&mut self) -> bool {
        self.conversation.tidied()
    }
}
