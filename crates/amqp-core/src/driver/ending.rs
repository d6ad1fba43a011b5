//! How a connection ends, by whomever: everything outstanding is answered, in order.

use crate::{
    api::{connection::ConnectionHandle, event::Event},
    driver::{Conversation, Driver, End, LastWords, Life, Step, conversation::Broken},
    error::{CloseReason, Error, attempt::IoError, tls::TlsProblem},
    protocol::handshake::Handshake,
    session::{Op, callbacks::Key, reply::Continuation, state::Rest},
    trace::events,
    wire::{
        content::Carrier,
        fault::Violation,
        frame::HEADER_TOO_LARGE,
        spec::{Method, connection},
    },
};
use std::{
    io, mem,
    time::{Duration, Instant},
};

/// Last words are given this long.
const LINGER: Duration = Duration::from_secs(1);

impl LastWords {
    fn from_now(now: Instant) -> Self {
        Self::Unsaid(now.checked_add(LINGER))
    }
}

impl<S: 'static> Driver<S> {
    /// The program has closed the connection.
    pub(super) fn shutdown(&mut self, now: Instant) {
        match self.life {
            Life::Opening { .. } | Life::Failed { .. } => {
                self.lost(Error::OpenAborted { endpoint: self.endpoint() }, LastWords::Said);
            }
            Life::Open { .. } => {
                self.life = Life::Closing { until: now.checked_add(self.shared.parameters.close_timeout()) };
                self.consumers.all_closing();
                self.conversation.protocol.closing();
            }
            Life::Closing { .. } | Life::Parting { .. } | Life::Over(_) => {}
        }
    }

    pub(super) fn closed_by_broker(&mut self, close: &connection::Close, now: Instant) {
        let reason = CloseReason {
            code: close.reply_code,
            text: close.reply_text.to_string_lossy().into(),
            method: (close.class_id, close.method_id),
        };
        let error = match &self.life {
            Life::Opening { step: Step::Shake(Handshake::Tune(login)), .. } if reason.code == 403 => {
                self.authentication_refused(login.credentials(), Some(reason))
            }
            Life::Opening { step: Step::Shake(Handshake::Open(_)), .. } if reason.refuses_vhost() => {
                self.access_refused(Some(reason))
            }
            _ => Error::ConnectionClosedByBroker { endpoint: self.endpoint(), reason },
        };
        self.part(&connection::CloseOk {}.into(), error, now);
    }

    /// The broker broke the protocol: it is told, if that is still possible, and not waited for.
    pub(super) fn violated(&mut self, violation: Violation, now: Instant) {
        let error = Error::Protocol { endpoint: self.endpoint(), violation: violation.clone() };
        self.violated_by(&violation, error, now);
    }

    /// What is sound in itself, and was not to come now. A connection that is closing ignores it [§1.4.2.10].
    pub(super) fn out_of_turn(&mut self, violation: Violation, now: Instant) {
        if !self.life.is_closing() {
            self.violated(violation, now);
        }
    }

    /// A message whose header the broker has made so long: every connection that is sent it would end, so it is told which.
    pub(super) fn header_too_large(&mut self, now: Instant) {
        let Conversation { protocol, inbox, .. } = &self.conversation;
        let message = protocol.belongs_to(inbox.unread());
        let queue = message.and_then(|(channel, carrier)| match carrier {
            Carrier::Deliver { consumer_tag, .. } => self.consumers.queue(channel, consumer_tag),
            Carrier::GetOk { .. } | Carrier::Return { .. } => None,
        });
        let limit = self.shared.lock().limits().frame_max;
        let error = Error::HeaderTooLarge {
            endpoint: self.endpoint(),
            queue: queue.map(|queue| queue.to_string_lossy().into()),
            limit: limit.saturating_mul(2),
        };
        self.violated_by(&HEADER_TOO_LARGE, error, now);
    }

    /// What has arrived has nowhere to go: the broker is told, and not waited for.
    pub(super) fn drowned(&mut self, error: Error, now: Instant) {
        if !self.life.has_ended() {
            self.violated_by(&Violation { code: Some(506), what: "more has arrived than is taken" }, error, now);
        }
    }

    fn violated_by(&mut self, violation: &Violation, error: Error, now: Instant) {
        match violation.code.filter(|_| self.life.is_on()) {
            // A broker that has been told to close already is not told again.
            Some(_) if self.life.is_closing() => self.over(error, LastWords::from_now(now), None),
            Some(reply_code) => {
                let reply_text = violation.what.into();
                let close = connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
                self.part(&close.into(), error, now);
            }
            None => self.lost(error, LastWords::Said),
        }
    }

    /// The connection ends with a close, or a close-ok, after which nothing is written.
    fn part(&mut self, last: &Method, error: Error, now: Instant) {
        let words = LastWords::from_now(now);
        if self.life.is_on() {
            return self.over(error, words, Some(last));
        }
        self.say(0, last);
        self.lost(error, words);
    }

    /// Something of the program's that is no callback has panicked while this connection was served: what it has left half done
    /// is not gone on with, and each request is answered.
    pub(crate) fn panicked(&mut self) {
        if !self.life.has_ended() {
            self.lost(Error::Panicked { channel: 0 }, LastWords::Said);
        }
    }

    /// The stream has ended; everything that came before has been handled.
    pub(crate) fn end_of_stream(&mut self, error: Option<io::Error>) {
        // What TLS says is the cause of all else: a client certificate that is refused, for example, behind the handshake.
        if let Some(problem) = error.as_ref().and_then(TlsProblem::of) {
            return self.tls_failed(problem.clone());
        }
        let endpoint = self.endpoint();
        let broken = self.conversation.broken.take().map(|broken| broken.cause);
        let cause = broken.or(error.map(IoError::from)).unwrap_or_else(|| IoError {
            kind: io::ErrorKind::UnexpectedEof,
            text: "the peer closed it without a word".into(),
        });
        let error = match &self.life {
            Life::Opening { step: Step::Shake(Handshake::Tune(login)), .. } => {
                self.authentication_refused(login.credentials(), None)
            }
            Life::Opening { step: Step::Shake(Handshake::Open(_)), .. } => self.access_refused(None),
            Life::Opening { .. } => {
                let what =
                    "closed the connection before an AMQP greeting; is this the AMQP port (5672, or 5671 with TLS)?";
                Error::IncompatibleProtocol { endpoint, what: what.into() }
            }
            _ => Error::StreamLost { endpoint, cause },
        };
        self.lost(error, LastWords::Said);
        self.fall_silent();
    }

    /// Writing has failed: what the broker said before it hung up is still to be read.
    pub(crate) fn write_failed(&mut self, error: io::Error, now: Instant) {
        let until = now.checked_add(LINGER);
        self.conversation.broken.get_or_insert_with(|| Broken { cause: error.into(), until });
    }

    /// No connection could be made.
    pub(crate) fn cannot_connect(&mut self, error: Error) {
        self.over(error, LastWords::Said, None);
    }

    /// There is no connection with this endpoint, or none any more. The first reason stands.
    pub(super) fn lost(&mut self, error: Error, words: LastWords) {
        self.life = match mem::replace(&mut self.life, Life::Over(LastWords::Said)) {
            Life::Opening { on_open, .. } if !error.is_final() => Life::Failed { on_open, error, words },
            life @ Life::Failed { .. } if !error.is_final() => life,
            life => {
                self.life = life;
                return self.over(error, words, None);
            }
        };
    }

    /// It is over. The connection is dead for its handles before anybody hears of it; those who wait for something hear of it
    /// when the last words have been written.
    fn over(&mut self, error: Error, words: LastWords, last: Option<&Method>) {
        let (on_open, words) = match mem::replace(&mut self.life, Life::Over(words)) {
            life @ (Life::Over(_) | Life::Parting { .. }) => {
                self.life = life;
                return;
            }
            Life::Opening { on_open, .. } => (Some(on_open), words),
            Life::Failed { on_open, words, .. } => (Some(on_open), words),
            Life::Open { .. } | Life::Closing { .. } => (None, words),
        };
        self.life = Life::Over(words);
        let ended = self.shared.lock().end(error.clone(), last);
        let Some(rest) = ended else { return };
        let end = Box::new(End { error, on_open, rest });
        if words == LastWords::Said {
            self.fall_silent();
            self.tell_end(*end);
        } else {
            self.life = Life::Parting { words, end };
        }
    }

    /// The last words have had their chance: the program hears of the end.
    pub(super) fn part_with_program(&mut self) {
        match mem::replace(&mut self.life, Life::Over(LastWords::Said)) {
            Life::Parting { words, end } => {
                self.life = Life::Over(words);
                self.tell_end(*end);
            }
            life => self.life = life,
        }
    }

    /// Everything outstanding is answered in order, then the close callbacks of the channels are called, then the
    /// connection's.
    fn tell_end(&mut self, End { error, on_open, rest }: End<S>) {
        let Rest { channels, closers, fifo, ops, room } = rest;
        room.wake();
        events::closed(&self.endpoint(), &error);
        let opened = on_open.is_none();
        if let Some(on_open) = on_open {
            let (handle, error) = (ConnectionHandle::new(self.shared.clone()), error.clone());
            self.jobs.push_back((0, Box::new(move |state| on_open(state, &handle, Err(error)))));
            self.tell(Key::OpenError, Event::OpenError(self.reason()));
        }
        let mut told = closers.iter().any(Continuation::is_somebody);
        told |= fifo.iter().any(|pending| pending.then.is_somebody());
        let mut over = vec![];
        for (number, mut channel) in channels {
            told |= channel.is_awaited();
            self.answer_all(number, &mut channel, &error);
            over.push((number, channel));
        }
        self.jobs.extend(fifo.into_iter().filter_map(|p| p.then.resolve(Err(error.clone()))).map(|job| (0, job)));
        for op in ops {
            if let Op::Open { identity, handle } = op {
                self.consumers.open(identity, handle);
            }
        }
        for (number, channel) in over {
            told |= self.channel_over(number, channel.identity.reason(), None);
        }
        let clean = matches!(error, Error::ConnectionClosedByClient { .. } | Error::OpenAborted { .. });
        let answer = || if clean { Ok(()) } else { Err(error.clone()) };
        self.jobs.extend(closers.into_iter().filter_map(|then| then.resolve(answer())).map(|job| (0, job)));
        if opened {
            told |= self.tell(Key::Close, Event::Close(error.clone()));
            self.ended(told, error);
        }
    }

    /// Nothing can be written any more, and nothing is kept for it: the program may keep its handles for long.
    pub(crate) fn fall_silent(&mut self) {
        self.life.fall_silent();
        let unsent = self.shared.lock().abandon();
        drop((unsent, mem::take(&mut self.conversation.writing)));
    }

    /// An end that nobody was told comes out of the loop, or a program would wait for ever, or end as if all were well.
    pub(super) fn ended(&mut self, told: bool, error: Error) {
        let orderly = matches!(error, Error::ConnectionClosedByClient { .. });
        if self.shared.raises && !told && !orderly {
            self.jobs.push_back((0, Box::new(move |_| Err(error))));
        }
    }

    pub(super) fn reason(&self) -> Error {
        self.shared.lock().phase().refusal()
    }

    /// Whether it is over for the program, and something may still be to be said.
    pub(crate) fn has_last_words(&self) -> bool {
        matches!(self.life.words(), Some(LastWords::Unsaid(_)))
    }

    /// Whether nothing can be written any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.conversation.broken.is_some()
    }

    /// Whether the end has come, and nothing is left to say or to call; with octets unwritten that were taken from here.
    pub(crate) fn is_over(&self, unwritten: bool) -> bool {
        let said = || !unwritten && !self.is_writing() && !self.shared.lock().has_unsent();
        self.jobs.is_empty()
            && !self.life.is_parting()
            && self.life.words().is_some_and(|words| words == LastWords::Said || said())
    }
}

/// The loop is dropped: there is no state to lend any more, so callbacks are dropped, uncalled and unlocked.
impl<S: 'static> Drop for Driver<S> {
    fn drop(&mut self) {
        self.part_with_program();
        self.over(Error::LoopGone, LastWords::Said, None);
        self.jobs.clear();
    }
}
