//! From the first octet to the open connection, or to the reason why there is none with this endpoint.

use crate::{
    api::{connection::ConnectionHandle, event::Event},
    config::credentials::Credentials,
    driver::{Conversation, Driver, LastWords, Life, Step},
    error::{CloseReason, Error, tls::TlsProblem},
    protocol::{
        Stranger,
        handshake::{Accepted, Handshake, Login, Progress, Refusal},
        heartbeat::Heartbeat,
        limits::Limits,
    },
    session::callbacks::Key,
    trace::events,
    wire::{
        fault::Invalid,
        frame::{ENVELOPE, put_method},
        spec::{Method, PROTOCOL_HEADER, connection},
    },
};
use bytes::Bytes;
use std::{mem, sync::Arc, time::Instant};
use zeroize::Zeroizing;

impl<S: 'static> Driver<S> {
    /// Tries an endpoint, which has its time from now on.
    pub(crate) fn begin(&mut self, endpoint: Arc<str>, now: Instant) {
        self.renew(Step::Dial, now.checked_add(self.shared.parameters.stack_timeout()));
        self.shared.lock().set_endpoint(endpoint);
    }

    /// Tries nothing until the next [`begin`](Self::begin).
    pub(crate) fn idle(&mut self) {
        self.renew(Step::Rest, None);
    }

    /// Nothing is left of the endpoint before.
    fn renew(&mut self, next: Step, deadline: Option<Instant>) {
        let Life::Opening { step, until, .. } = &mut self.life else { return };
        (*step, *until) = (next, deadline);
        self.conversation = Conversation::new(self.shared.parameters.max_message_size());
        let unwritten = self.shared.lock().begin_anew();
        drop(unwritten);
    }

    /// Why the endpoint failed, if it is for others to be tried.
    pub(crate) fn failed(&mut self) -> Option<Error> {
        match mem::replace(&mut self.life, Life::Over(LastWords::Said)) {
            Life::Failed { on_open, error, .. } => {
                self.life = Life::Opening { on_open, step: Step::Rest, until: None };
                Some(error)
            }
            life => {
                self.life = life;
                None
            }
        }
    }

    /// The socket is connected: the protocol header goes out, when TLS lets it.
    pub(crate) fn connected(&mut self) {
        self.advance(Step::Secure);
        self.shared.lock().say_octets(&PROTOCOL_HEADER);
    }

    /// The handshake of TLS is over, or there is none.
    #[inline]
    pub(crate) fn secured(&mut self) {
        if !matches!(self.life, Life::Opening { step: Step::Secure, .. }) {
            return;
        }
        if self.shared.parameters.secure().is_some() {
            events::secured(&self.endpoint());
        }
        self.advance(Step::Shake(Handshake::Start));
    }

    fn advance(&mut self, next: Step) {
        if let Life::Opening { step, .. } = &mut self.life {
            *step = next;
        }
    }

    /// There is no TLS with this peer.
    pub(crate) fn tls_failed(&mut self, problem: TlsProblem) {
        self.lost(Error::Tls { endpoint: self.endpoint(), problem }, LastWords::Said);
        self.fall_silent();
    }

    /// Before the connection is open: whether what has come is worth looking at as frames of AMQP 0-9-1.
    pub(super) fn may_be_amqp(&mut self) -> bool {
        let Life::Opening { step, .. } = &self.life else { return false };
        let Conversation { protocol, inbox, .. } = &mut self.conversation;
        if let Some(stranger) = protocol.stranger(inbox.unread()) {
            self.met(stranger);
            return false;
        }
        let greets = matches!(step, Step::Shake(Handshake::Start));
        // Or it is half of another version's header.
        !greets || inbox.unread().first() != PROTOCOL_HEADER.first()
    }

    /// A step of AMQP's handshake.
    pub(super) fn on_handshake(&mut self, handshake: Handshake, method: connection::Method, now: Instant) {
        match handshake.on_method(method, &self.shared.parameters) {
            Ok(Progress::Greeted(login, reply)) => {
                events::greeted(&self.endpoint(), login.server_properties(), login.credentials().mechanism());
                self.log_in(login, &reply);
            }
            Ok(Progress::Challenged(login, reply)) => self.log_in(login, &reply),
            Ok(Progress::Tuned(accepted, limits, replies)) => {
                self.tuned(limits, now);
                replies.iter().for_each(|reply| self.say(0, reply));
                self.advance(Step::Shake(Handshake::Open(accepted)));
            }
            Ok(Progress::Opened(accepted)) => self.opened(accepted),
            Err(Refusal::Violation(violation)) => self.violated(violation, now),
            Err(refusal) => self.lost(self.unsuitable(refusal), LastWords::Said),
        }
    }

    fn log_in(&mut self, login: Login, reply: &Method) {
        match secret_frame(reply, login.frame_max) {
            Ok(frame) => {
                self.shared.lock().say_frame(frame);
                self.advance(Step::Shake(Handshake::Tune(login)));
            }
            Err(invalid) => self.lost(self.unsayable(invalid, login.credentials()), LastWords::Said),
        }
    }

    fn tuned(&mut self, limits: Limits, now: Instant) {
        events::tuned(&self.endpoint(), limits);
        self.conversation.protocol.tuned(limits.frame_max);
        self.conversation.heartbeat = Heartbeat::new(limits.heartbeat, now);
        self.shared.lock().set_limits(limits);
    }

    fn opened(&mut self, accepted: Accepted) {
        let _ = self.shared.server_properties.set(accepted.server_properties);
        accepted.credentials.connected();
        let opened = self.shared.lock().opened();
        if !opened {
            return; // the program has closed it meanwhile, and is told so by `shutdown`
        }
        events::opened(&self.endpoint());
        let handle = ConnectionHandle::new(self.shared.clone());
        if let Life::Opening { on_open, .. } = mem::replace(&mut self.life, Life::Open { blocked: None }) {
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
        self.lost(Error::IncompatibleProtocol { endpoint: self.endpoint(), what: what.into() }, LastWords::Said);
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
                let wanted: Vec<_> =
                    self.shared.parameters.all_credentials().map(|c| Credentials::mechanism(&**c)).collect();
                Error::MechanismNotOffered { endpoint, wanted: wanted.join(" or ").into(), offered: offered.into() }
            }
            Refusal::Credentials(mechanism, problem) => {
                Error::CredentialsFailed { endpoint, mechanism: mechanism.into(), problem: problem.into() }
            }
        }
    }

    /// A reply that does not fit is a login: nothing else in a handshake is long.
    fn unsayable(&self, invalid: Invalid, credentials: &dyn Credentials) -> Error {
        match invalid {
            Invalid::ArgumentsTooLarge { length, limit } => Error::LoginTooLarge {
                endpoint: self.endpoint(),
                mechanism: credentials.mechanism().into(),
                length: length + ENVELOPE,
                limit: limit + ENVELOPE,
            },
            invalid => invalid.into(),
        }
    }

    pub(super) fn authentication_refused(&self, credentials: &dyn Credentials, reason: Option<CloseReason>) -> Error {
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
