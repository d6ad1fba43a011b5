//! From the first octet to the open connection, or to the reason why there is none with this endpoint.

use crate::{
    api::{connection::ConnectionHandle, event::Event},
    driver::{Driver, End, deadlines::Deadlines},
    error::{CloseReason, Error, Result, Stage, tls::TlsProblem},
    protocol::{
        Protocol, Stranger,
        handshake::{Handshake, Refusal},
        heartbeat::Heartbeat,
        limits::Limits,
    },
    session::{Phase, callbacks::Key},
    trace::events,
    wire::{
        fault::Invalid,
        frame::{ENVELOPE, put_method},
        inbox::Inbox,
        outbox::Outbox,
        spec::{Method, PROTOCOL_HEADER, connection},
        table::Table,
    },
};
use bytes::Bytes;
use std::{mem, sync::Arc, time::Instant};
use zeroize::Zeroizing;

impl<S: 'static> Driver<S> {
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
            events::secured(&self.endpoint);
        }
        self.stage = Stage::Connect;
    }

    /// There is no TLS with this peer.
    pub(crate) fn tls_failed(&mut self, problem: TlsProblem) {
        self.lost(Error::Tls { endpoint: self.endpoint(), problem });
        self.end = End::Gone;
    }

    /// A step of AMQP's handshake.
    pub(super) fn on_handshake(&mut self, method: connection::Method, now: Instant) {
        let progress = match self.handshake.on_method(method, &self.shared.parameters, &mut self.login) {
            Ok(progress) => progress,
            Err(Refusal::Violation(violation)) => return self.violated(violation, now),
            Err(refusal) => return self.lost(self.unsuitable(refusal)),
        };
        if let Some(properties) = progress.server_properties {
            self.greeted(properties);
        }
        if let Some(limits) = progress.tuned {
            self.tuned(limits, now);
        }
        if let Err(invalid) = self.reply(&progress.replies, progress.secret) {
            return self.lost(self.unsayable(invalid));
        }
        if progress.opened {
            self.opened();
        }
    }

    fn greeted(&mut self, properties: Table) {
        let mechanism = self.login.as_ref().map_or("", |login| login.credentials.mechanism());
        events::greeted(&self.endpoint, &properties, mechanism);
        self.server_properties = Some(properties);
    }

    fn tuned(&mut self, limits: Limits, now: Instant) {
        events::tuned(&self.endpoint, limits);
        self.protocol.tuned(limits.frame_max);
        self.heartbeat = Heartbeat::new(limits.heartbeat, now);
        self.shared.lock().limits = limits;
    }

    fn reply(&self, replies: &[Method], secret: bool) -> Result<(), Invalid> {
        let mut state = self.shared.lock();
        let frame_max = state.limits.frame_max;
        replies.iter().try_for_each(|reply| match &self.login {
            Some(login) if secret => secret_frame(reply, login.frame_max).map(|frame| state.outbox.refer(frame)),
            _ => put_method(state.outbox.octets(), 0, reply, frame_max),
        })
    }

    fn opened(&mut self) {
        if let Some(properties) = self.server_properties.take() {
            let _ = self.shared.server_properties.set(properties);
        }
        if let Some(login) = self.login.take() {
            login.credentials.connected();
        }
        let mut state = self.shared.lock();
        if state.phase != Phase::Opening {
            return; // the program has closed it meanwhile, and is told so by `shutdown`
        }
        state.phase = Phase::Open;
        drop(state);
        events::opened(&self.endpoint);
        self.deadlines.open = None;
        let handle = ConnectionHandle(self.shared.clone());
        if let Some(on_open) = self.on_open.take() {
            self.jobs.push_back((0, Box::new(move |state| on_open(state, &handle, Ok(())))));
        }
        self.tell(Key::Open, Event::Open);
    }

    pub(super) fn met(&mut self, stranger: Stranger) {
        let what = match stranger {
            Stranger::OtherVersion([_, major, minor, revision]) => {
                format!("speaks AMQP {major}-{minor}-{revision}, not 0-9-1")
            }
            Stranger::Tls => "speaks TLS: connect with amqps:// instead of amqp://".into(),
            Stranger::NotAmqp => "does not speak AMQP; is this the AMQP port (5672, or 5671 with TLS)?".into(),
        };
        self.lost(Error::IncompatibleProtocol { endpoint: self.endpoint(), what: what.into() });
    }

    fn unsuitable(&self, refusal: Refusal) -> Error {
        let endpoint = self.endpoint();
        match refusal {
            Refusal::Violation(violation) => Error::Protocol { endpoint, violation },
            Refusal::Version(major, minor) => {
                let what = format!("speaks AMQP {major}.{minor}, not 0-9-1").into();
                Error::IncompatibleProtocol { endpoint, what }
            }
            Refusal::Mechanisms(offered) => {
                let wanted: Vec<_> = self.shared.parameters.all_credentials().map(|c| c.mechanism()).collect();
                Error::MechanismNotOffered { endpoint, wanted: wanted.join(" or ").into(), offered: offered.into() }
            }
            Refusal::Credentials(mechanism, problem) => {
                Error::CredentialsFailed { endpoint, mechanism: mechanism.into(), problem: problem.into() }
            }
        }
    }

    /// A reply that does not fit is a login: nothing else in a handshake is long.
    fn unsayable(&self, invalid: Invalid) -> Error {
        match (invalid, &self.login) {
            (Invalid::ArgumentsTooLarge { length, limit }, Some(login)) => Error::LoginTooLarge {
                endpoint: self.endpoint(),
                mechanism: login.credentials.mechanism().into(),
                length: length + ENVELOPE,
                limit: limit + ENVELOPE,
            },
            (invalid, _) => invalid.into(),
        }
    }

    pub(super) fn authentication_refused(&self, reason: Option<CloseReason>) -> Error {
        let presented = self.login.as_ref().map(|login| &login.credentials);
        let credentials = presented.unwrap_or(self.shared.parameters.credentials());
        Error::AuthenticationRefused {
            endpoint: self.endpoint(),
            user: credentials.user().into(),
            mechanism: credentials.mechanism().into(),
            reason,
        }
    }

    pub(super) fn access_refused(&self, reason: Option<CloseReason>) -> Error {
        let vhost = self.shared.parameters.virtual_host().into();
        Error::AccessRefused { endpoint: self.endpoint(), vhost, reason }
    }
}

/// A frame with a secret in it, which is wiped when it has been written.
fn secret_frame(method: &Method, frame_max: usize) -> Result<Bytes, Invalid> {
    let mut frame = Zeroizing::new(Vec::with_capacity(frame_max)); // one that grew would leave copies behind
    put_method(&mut frame, 0, method, frame_max)?;
    Ok(Bytes::from_owner(frame))
}
