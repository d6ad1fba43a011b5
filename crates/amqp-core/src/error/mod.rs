//! What can go wrong, sorted by whose fault it is and what to do about it.

pub(crate) mod attempt;
pub mod tls;

pub use crate::wire::fault::{Invalid, Violation};
pub use attempt::{Attempt, IoError};
use attempt::{causes, tried};

use crate::{
    error::tls::TlsProblem,
    wire::{message::Returned, strings::Escaped},
};
use std::{fmt, io, sync::Arc, time::Duration};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
///
/// Every variant can be cloned and compared, so that one reason can be given to all who wait for it. `Display` is
/// one line: what happened, where, and what to do about it where that is known. `{:?}` is the same line, because that is what
/// a `main` that returns an error prints; `{:#?}` has the variant's name before it.
#[doc(alias = "AMQPError")]
#[non_exhaustive]
#[derive(Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The broker closed the connection [§1.4.2.10].
    #[doc(alias = "ConnectionClosed")]
    #[error("{endpoint} closed the connection: {reason}")]
    ConnectionClosedByBroker {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// What it said.
        reason: CloseReason,
    },
    /// This program closed the connection.
    #[error("the connection was closed by this program: {code} {}", Escaped(.text))]
    ConnectionClosedByClient {
        /// The reply code that was sent.
        code: u16,
        /// The reply text that was sent.
        text: Arc<str>,
    },
    /// The broker closed the channel [§1.5.2.5].
    #[doc(alias = "AMQPChannelError")]
    #[doc(alias = "ChannelClosed")]
    #[error("channel {channel} was closed by the broker: {reason}")]
    ChannelClosedByBroker {
        /// The channel's number.
        channel: u16,
        /// What it said.
        reason: CloseReason,
    },
    /// This program closed the channel.
    #[error("channel {channel} was closed by this program: {code} {}", Escaped(.text))]
    ChannelClosedByClient {
        /// The channel's number.
        channel: u16,
        /// The reply code that was sent.
        code: u16,
        /// The reply text that was sent.
        text: Arc<str>,
    },

    /// The broker ended a consumer, because its queue was deleted for example.
    #[error(
        "the broker cancelled consumer \"{}\" on channel {channel}: its queue was deleted, or its node failed",
        Escaped(.consumer_tag)
    )]
    ConsumerCancelled {
        /// The channel's number.
        channel: u16,
        /// The consumer's tag.
        consumer_tag: Arc<str>,
    },

    /// No endpoint could be connected to. Where only one was tried, once, and the network was not to blame, its own error
    /// is told instead.
    #[doc(alias = "AMQPConnectionError")]
    #[doc(alias = "AMQPConnectorException")]
    #[error("cannot connect to {endpoint} ({}): {}", tried(.attempts), causes(.attempts))]
    CannotConnect {
        /// `host:port`, as it was asked for; several are separated by commas.
        endpoint: Arc<str>,
        /// Every address that was tried, in order.
        attempts: Arc<[Attempt]>,
    },
    /// The peer does not speak AMQP 0-9-1.
    #[doc(alias = "IncompatibleProtocolError")]
    #[doc(alias = "ProtocolVersionMismatch")]
    #[error("{endpoint} {what}")]
    IncompatibleProtocol {
        /// `host:port` of the peer.
        endpoint: Arc<str>,
        /// What it did instead.
        what: Arc<str>,
    },
    /// There is no TLS with the peer.
    #[error("TLS with {endpoint} failed: {problem}")]
    Tls {
        /// `host:port` of the peer.
        endpoint: Arc<str>,
        /// Why.
        problem: TlsProblem,
    },
    /// The broker refused the login, or hung up where brokers do that because of a bad login.
    #[doc(alias = "ProbableAuthenticationError")]
    #[error("login refused for user \"{user}\" with {mechanism} at {endpoint}{} - check user and password (guest may log in from localhost only)", said(.reason))]
    AuthenticationRefused {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The user that was presented.
        user: Arc<str>,
        /// The SASL mechanism.
        mechanism: Arc<str>,
        /// The broker's words, where it gave any.
        reason: Option<CloseReason>,
    },
    /// The broker does not offer the SASL mechanism of these credentials; nothing was presented.
    #[doc(alias = "AuthenticationError")]
    #[error("{endpoint} does not offer the SASL mechanism {wanted}, only: {}", Escaped(.offered))]
    MechanismNotOffered {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// What the credentials need.
        wanted: Arc<str>,
        /// What the broker offers, separated by spaces.
        offered: Arc<str>,
    },
    /// The credentials had nothing to present, or no answer to a challenge of the broker's.
    #[error("the {mechanism} credentials for {endpoint} failed: {}; nothing more was sent", Escaped(.problem))]
    CredentialsFailed {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The SASL mechanism.
        mechanism: Arc<str>,
        /// What they said.
        problem: Arc<str>,
    },
    /// The login and the client properties do not fit into the largest frame that the broker takes before limits are
    /// agreed; RabbitMQ would fall silent and hang up after 3 s.
    #[error(
        "the login with {mechanism} at {endpoint} needs a frame of {length} octets, and the broker takes {limit} at most before limits are agreed - shorten the token or the client properties; nothing was sent"
    )]
    LoginTooLarge {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The SASL mechanism.
        mechanism: Arc<str>,
        /// Octets of the frame, its envelope included.
        length: usize,
        /// Octets. 4096 [§4.2.3], and 8192 for RabbitMQ 4.1 and later.
        limit: usize,
    },
    /// The broker refused the virtual host, or hung up where brokers do that because of it. That a limit of the virtual host,
    /// the user or the node is reached is no such refusal, but [`ConnectionClosedByBroker`](Self::ConnectionClosedByBroker).
    #[doc(alias = "ProbableAccessDeniedError")]
    #[error("access to vhost \"{vhost}\" at {endpoint} refused{}{}", said(.reason), vhost_hint(.reason))]
    AccessRefused {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The virtual host that was asked for.
        vhost: Arc<str>,
        /// The broker's words, where it gave any.
        reason: Option<CloseReason>,
    },
    /// The program closed the connection before it was open.
    #[doc(alias = "ConnectionOpenAborted")]
    #[error("the connection to {endpoint} was closed by this program before it was open")]
    OpenAborted {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
    },
    /// The network connection broke.
    #[doc(alias = "StreamLostError")]
    #[error("the connection to {endpoint} was lost: {cause}")]
    StreamLost {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// What the operating system said.
        cause: IoError,
    },
    /// Nothing was heard from the broker for two heartbeat intervals.
    #[doc(alias = "AMQPHeartbeatTimeout")]
    #[error("nothing heard from {endpoint} for {} s, two heartbeat intervals: the connection is dead", .silence.as_secs())]
    HeartbeatTimeout {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// How long it was silent.
        silence: Duration,
    },
    /// The broker blocked publishers for longer than `blocked_connection_timeout`.
    #[doc(alias = "ConnectionBlockedTimeout")]
    #[error("{endpoint} blocked the connection for more than {} s: {}", .after.as_secs_f32(), Escaped(.reason))]
    BlockedTimeout {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The broker's words.
        reason: Arc<str>,
        /// The limit.
        after: Duration,
    },
    /// The broker broke the protocol; the connection was closed with the violation's reply code.
    #[doc(alias = "UnexpectedFrameError")]
    #[doc(alias = "ProtocolSyntaxError")]
    #[error("{endpoint} broke the protocol: {violation}")]
    Protocol {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The rule that was broken.
        violation: Violation,
    },
    /// A message has a content header that does not even fit into twice the negotiated `frame_max`; the connection was
    /// closed with 501. The broker adds headers of its own, `x-death` for example, to one that fitted when it was published,
    /// and will send it again to the next consumer.
    #[error(
        "{endpoint} sent a message{} whose header is over {limit} octets, twice frame_max: every consumer of it ends like this - connect with a larger frame_max (the broker's may have to grow too), or take the message out of the queue",
        from_queue(.queue)
    )]
    HeaderTooLarge {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The queue, where it is known: not for basic.get and what comes back.
        queue: Option<Arc<str>>,
        /// Octets, with the frame's envelope.
        limit: usize,
    },
    /// The broker keeps sending and does not read the answers: acknowledgements, rejects, replies.
    #[error("{endpoint} sends and does not read: {held} octets of answers to it wait, the limit is {limit}")]
    AnswersUnread {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// Octets of answers that wait to be written.
        held: usize,
        /// The limit, `outbound_limit`.
        limit: usize,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {} s{}", .after.as_secs_f32(), .stage.hint())]
    Timeout {
        /// What was waited for.
        stage: Stage,
        /// The same in words, with its place.
        what: Arc<str>,
        /// The limit.
        after: Duration,
    },

    /// The program asked for something that cannot be sent. Nothing was sent, and the channel is unharmed.
    #[error("{0}; nothing was sent")]
    Invalid(Invalid),
    /// All channel numbers that the broker allows are in use.
    #[error("no free channel: all {limit} that {endpoint} allows are open")]
    NoFreeChannels {
        /// `host:port` of the broker.
        endpoint: Arc<str>,
        /// The negotiated number of channels.
        limit: u16,
    },
    /// The connection is not open yet.
    #[doc(alias = "ConnectionWrongStateError")]
    #[doc(alias = "ChannelWrongStateError")]
    #[error("the connection is not open yet: wait for its open callback; nothing was sent")]
    NotOpen,
    /// The outbound buffer is full; nothing was sent.
    #[error(
        "the outbound buffer holds {held} octets, its hard limit is {limit}: the broker does not read fast enough; nothing was sent"
    )]
    OutboundFull {
        /// Octets that wait to be written.
        held: usize,
        /// The limit.
        limit: usize,
    },
    /// More has arrived than the program has taken, while it waited for an answer or published. What became of the request is
    /// unknown; nothing was published. The connection stays open, unless this is its reason for closing.
    #[error(
        "{held} octets have arrived that the program has not taken, the limit is {limit}: process events more often, or limit what is on its way with basic_qos or prefetch"
    )]
    InboundFull {
        /// Octets that wait.
        held: usize,
        /// The limit.
        limit: usize,
    },
    /// A message is larger than `max_message_size`. Reject it with its delivery tag, without requeue, to be rid of it.
    #[error("message {delivery_tag} on channel {channel} has {size} octets, the limit is {limit}")]
    MessageTooLarge {
        /// The channel's number.
        channel: u16,
        /// The broker's number for the delivery; 0 for a returned message.
        delivery_tag: u64,
        /// Octets in the body, as announced.
        size: u64,
        /// The limit in octets.
        limit: u64,
    },
    /// A mandatory message came back, because no queue is bound for it: pika's `UnroutableError`.
    #[doc(alias = "UnroutableError")]
    #[error("the message for exchange \"{}\" with key \"{}\" came back: {} {}", .0.exchange, .0.routing_key, .0.reply_code, .0.reply_text)]
    Unroutable(Arc<Returned>),
    /// The broker could not take responsibility for a message: pika's `NackError`.
    #[doc(alias = "NackError")]
    #[error("the broker refused a message on channel {channel} (basic.nack): it is not stored; publish it again")]
    Nacked {
        /// The channel's number.
        channel: u16,
    },
    /// The delivery tag belongs to another channel, or to an earlier one or connection; nothing was sent.
    #[error("delivery tag {tag} belongs to another channel, or to an earlier connection; nothing was sent")]
    StaleDeliveryTag {
        /// The broker's number for the delivery.
        tag: u64,
    },
    /// A callback returned an error.
    #[error("a callback failed: {0}")]
    Callback(CallbackError),
    /// A callback panicked, and its channel was closed; or something else that the program has given to a connection (credentials,
    /// `heartbeat_by`, a subscriber of `tracing`) did, and the connection was closed.
    #[error("{} was closed because a callback panicked", panicked(*.channel))]
    Panicked {
        /// The channel whose callback it was; 0 for the connection.
        channel: u16,
    },
    /// The loop was dropped: this cannot be served any more.
    #[error("the loop that served this connection is gone")]
    LoopGone,
    /// An operating-system call of the loop itself failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was attempted.
        what: Arc<str>,
        /// What the operating system said.
        cause: IoError,
    },
    /// The poller that was asked for does not exist on this system.
    #[error("there is no poller \"{wanted}\" here; available: {available}")]
    NoSuchPoller {
        /// What was asked for.
        wanted: Arc<str>,
        /// What there is, separated by commas.
        available: Arc<str>,
    },
    /// A loop was used in a way that it cannot be used in.
    #[error("{0}")]
    Misuse(Misuse),
    /// A parameter has a value that it cannot have.
    #[error("{name}: {problem}")]
    BadParameter {
        /// The parameter's name.
        name: &'static str,
        /// What is wrong with its value. Never the value of a secret.
        problem: Arc<str>,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{}: ", self.variant())?;
        }
        write!(f, "{self}")
    }
}

/// A method that says which variant it is.
macro_rules! variants {
    ($($variant:ident)*) => {
        impl Error {
            fn variant(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => stringify!($variant), )*
                }
            }
        }
    };
}

variants! {
    ConnectionClosedByBroker ConnectionClosedByClient ChannelClosedByBroker ChannelClosedByClient ConsumerCancelled
    CannotConnect IncompatibleProtocol Tls AuthenticationRefused MechanismNotOffered
    CredentialsFailed LoginTooLarge AccessRefused OpenAborted StreamLost
    HeartbeatTimeout BlockedTimeout Protocol HeaderTooLarge AnswersUnread Timeout Invalid
    NoFreeChannels NotOpen OutboundFull InboundFull MessageTooLarge Unroutable
    Nacked StaleDeliveryTag Callback Panicked LoopGone
    Io NoSuchPoller Misuse BadParameter
}

/// The broker's words when it closes a connection or a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The reply code [§1.1], 404 for example.
    pub code: u16,
    /// The reply text as it came; `Display` escapes control characters.
    pub text: Arc<str>,
    /// Class and method that it was about; zeros where it was about none.
    pub method: (u16, u16),
}

impl CloseReason {
    /// What connection.open is refused with when the virtual host, the user or the node has too many connections: 530 as well,
    /// but not for long perhaps.
    fn is_limit(&self) -> bool {
        self.code == 530 && self.text.contains("limit (") && self.text.ends_with("is reached")
    }

    /// Whether connection.open was refused because of the virtual host.
    pub(crate) fn refuses_vhost(&self) -> bool {
        matches!(self.code, 402 | 403 | 530) && !self.is_limit() && !self.is_of_tuning()
    }

    /// RabbitMQ did not like connection.tune-ok.
    fn is_of_tuning(&self) -> bool {
        self.code == 530 && self.text.contains("negotiate connection parameters")
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RabbitMQ repeats the method in its text.
        write!(f, "{} {}", self.code, Escaped(&self.text))?;
        if self.code == 406 && self.text.contains("unknown delivery tag") {
            f.write_str(" (acknowledged twice, or of a consumer without acknowledgements?)")?;
        }
        Ok(())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// How a loop cannot be used.
#[doc(alias = "ReentrancyError")]
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// `start` waits on its thread, which a runtime needs for other tasks.
    #[error("start() would block the runtime that it is called in: await run() instead")]
    StartInsideRuntime,
    /// The loop's sockets belong to the runtime that `run` was awaited in.
    #[error("this loop is served by run(), whose runtime its sockets belong to: start() cannot go on with them")]
    StartAfterRun,
    /// The loop's sockets belong to the runtime that `start` has made.
    #[error("this loop is served by start(), whose runtime its sockets belong to: run() cannot go on with them")]
    RunAfterStart,
    /// Messages are given to callbacks one by one.
    #[error("start_consuming() in a callback would wait for itself: return from the callback first")]
    StartConsumingInCallback,
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

/// What a [timeout](Error::Timeout) was about.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connecting: the network (`stack_timeout`).
    Dial,
    /// Connecting: the TLS handshake after it (`stack_timeout`, which is for all of them together).
    Tls,
    /// Connecting: the AMQP handshake after that (`stack_timeout`).
    Connect,
    /// A reply to a method (`rpc_timeout`). The channel stays in step.
    Reply,
    /// The broker's answer to Connection.Close.
    Close,
}

impl Stage {
    fn hint(self) -> &'static str {
        match self {
            Self::Dial => " - is the address right, and no firewall in between?",
            Self::Tls => " - is this the TLS port (5671)?",
            Self::Connect => " - is this the AMQP port (5672, or 5671 with TLS)?",
            Self::Reply => " - the broker may be blocked by an alarm",
            Self::Close => "",
        }
    }
}

/// The error that a callback of the program returned.
#[derive(Clone, Debug)]
pub struct CallbackError(Arc<dyn std::error::Error + Send + Sync>);

impl CallbackError {
    /// Returns the error itself.
    pub fn inner(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl PartialEq for CallbackError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error {
    /// Returns what a callback returned, as the loop's error. An [`Error`] stays what it is.
    pub fn from_callback(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::Callback(CallbackError(other.into())),
        }
    }

    /// Returns whether it is an end that this program has asked for.
    #[doc(hidden)]
    pub fn is_deliberate(&self) -> bool {
        matches!(
            self,
            Self::ConnectionClosedByClient { .. } | Self::ChannelClosedByClient { .. } | Self::OpenAborted { .. }
        )
    }

    /// Returns whether there is no connection, or none any more, so that a new one is needed: pika's `AMQPConnectionError`.
    #[doc(alias = "AMQPConnectionError")]
    pub fn is_connection_error(&self) -> bool {
        match self {
            Self::ConnectionClosedByBroker { .. }
            | Self::ConnectionClosedByClient { .. }
            | Self::CannotConnect { .. }
            | Self::IncompatibleProtocol { .. }
            | Self::Tls { .. }
            | Self::AuthenticationRefused { .. }
            | Self::MechanismNotOffered { .. }
            | Self::CredentialsFailed { .. }
            | Self::LoginTooLarge { .. }
            | Self::AccessRefused { .. }
            | Self::OpenAborted { .. }
            | Self::StreamLost { .. }
            | Self::HeartbeatTimeout { .. }
            | Self::BlockedTimeout { .. }
            | Self::Protocol { .. }
            | Self::HeaderTooLarge { .. }
            | Self::AnswersUnread { .. }
            | Self::LoopGone => true,
            // The channel of a reply that is late stays in step.
            Self::Timeout { stage, .. } => *stage != Stage::Reply,
            Self::Panicked { channel } => *channel == 0,
            _ => false,
        }
    }

    /// Whether another endpoint, or another try, would fail in the same way: the broker has refused the login or the
    /// virtual host in so many words, or it is the program that cannot or will not go on.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::AuthenticationRefused { reason, .. } | Self::AccessRefused { reason, .. } => {
                reason.as_ref().is_some_and(|reason| matches!(reason.code, 403 | 530))
            }
            Self::ConnectionClosedByBroker { reason, .. } => reason.is_of_tuning(),
            Self::MechanismNotOffered { .. }
            | Self::CredentialsFailed { .. }
            | Self::LoginTooLarge { .. }
            | Self::Invalid(_)
            | Self::OpenAborted { .. }
            | Self::Panicked { .. }
            | Self::LoopGone => true,
            _ => false,
        }
    }

    /// Returns whether a channel or one of its consumers is over, while the connection stays open: pika's `AMQPChannelError`. A message
    /// that came back or was refused harms no channel.
    #[doc(alias = "AMQPChannelError")]
    pub fn is_channel_error(&self) -> bool {
        match self {
            Self::ChannelClosedByBroker { .. }
            | Self::ChannelClosedByClient { .. }
            | Self::ConsumerCancelled { .. }
            | Self::MessageTooLarge { .. } => true,
            Self::Panicked { channel } => *channel != 0,
            _ => false,
        }
    }

    /// The nearest kind of the operating system's errors.
    pub(crate) fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::StreamLost { cause, .. } => cause.kind,
            Self::AuthenticationRefused { .. } | Self::AccessRefused { .. } => io::ErrorKind::PermissionDenied,
            Self::Protocol { .. }
            | Self::HeaderTooLarge { .. }
            | Self::IncompatibleProtocol { .. }
            | Self::Tls { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        }
    }

    /// Returns the reply code, where the broker gave or was given one.
    pub fn reply_code(&self) -> Option<u16> {
        match self {
            Self::ConnectionClosedByBroker { reason, .. } | Self::ChannelClosedByBroker { reason, .. } => {
                Some(reason.code)
            }
            Self::AuthenticationRefused { reason, .. } | Self::AccessRefused { reason, .. } => {
                reason.as_ref().map(|reason| reason.code)
            }
            Self::ConnectionClosedByClient { code, .. } | Self::ChannelClosedByClient { code, .. } => Some(*code),
            Self::Protocol { violation, .. } => violation.code,
            Self::HeaderTooLarge { .. } => Some(501),
            _ => None,
        }
    }
}

fn from_queue(queue: &Option<Arc<str>>) -> String {
    queue.as_ref().map_or_else(String::new, |queue| format!(" from queue \"{}\"", Escaped(queue)))
}

/// Only where the name of the virtual host may be to blame.
fn vhost_hint(reason: &Option<CloseReason>) -> &'static str {
    let is_of_the_name = |reason: &CloseReason| reason.text.contains("not found") || reason.text.contains("refused");
    if reason.as_ref().is_none_or(is_of_the_name) { " - in a URL the vhost \"/\" is written %2F" } else { "" }
}

fn panicked(channel: u16) -> String {
    if channel == 0 { "the connection".into() } else { format!("channel {channel}") }
}

fn said(reason: &Option<CloseReason>) -> String {
    reason.as_ref().map_or_else(|| ": it hung up without a word".into(), |reason| format!(" ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<str> {
        "rabbit.example:5672".into()
    }

    fn timeout(stage: Stage) -> Error {
        Error::Timeout { stage, what: "it".into(), after: Duration::from_secs(1) }
    }

    #[test]
    fn an_error_of_a_connection_is_none_of_a_channel() {
        let lost = [
            Error::ConnectionClosedByClient { code: 200, text: "Normal shutdown".into() },
            Error::CannotConnect { endpoint: endpoint(), attempts: [].into() },
            Error::StreamLost { endpoint: endpoint(), cause: io::Error::from(io::ErrorKind::ConnectionReset).into() },
            Error::HeartbeatTimeout { endpoint: endpoint(), silence: Duration::from_secs(120) },
            timeout(Stage::Connect),
            Error::LoopGone,
        ];
        assert!(lost.iter().all(|error| error.is_connection_error() && !error.is_channel_error()));
        let channel_over = [
            Error::ChannelClosedByClient { channel: 1, code: 200, text: "Normal shutdown".into() },
            Error::ConsumerCancelled { channel: 1, consumer_tag: "ctag1".into() },
            Error::Panicked { channel: 1 },
        ];
        assert!(channel_over.iter().all(|error| error.is_channel_error() && !error.is_connection_error()));
    }

    #[test]
    fn what_harms_neither_is_an_error_of_neither() {
        let harmless = [
            timeout(Stage::Reply),
            Error::Nacked { channel: 1 },
            Error::NoFreeChannels { endpoint: endpoint(), limit: 2047 },
            Error::StaleDeliveryTag { tag: 1 },
            Error::Invalid(Invalid::NameTooLong(256)),
        ];
        assert!(!harmless.iter().any(|error| error.is_connection_error() || error.is_channel_error()));
    }
}
