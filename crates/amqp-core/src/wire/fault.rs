//! What is wrong with octets that arrive, and with values that cannot be sent.

use crate::wire::strings::Escaped;
use std::{fmt, sync::Arc};

/// What a program asked for that cannot be put on the wire.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A short string holds at most 255 octets [§4.2.5.3].
    #[error("a name of {0} octets is longer than 255")]
    NameTooLong(usize),
    /// The properties do not fit into one frame.
    #[error("properties of {length} octets do not fit into a frame, the limit is {limit}")]
    PropertiesTooLarge {
        /// Octets.
        length: usize,
        /// Octets.
        limit: usize,
    },
    /// A method's arguments do not fit into one frame.
    #[error("arguments of {length} octets do not fit into a frame, the limit is {limit}")]
    ArgumentsTooLarge {
        /// Octets.
        length: usize,
        /// Octets.
        limit: usize,
    },
    /// Tables and arrays may be nested 32 levels deep.
    #[error("a table is nested more than 32 levels deep")]
    TooDeep,
    /// A long string, array or table holds less than 2^32 octets.
    #[error("a value of {0} octets does not fit into 32 bits")]
    ValueTooLong(usize),
    /// RabbitMQ has no such thing, and would close the whole connection with 540.
    #[error("RabbitMQ does not implement {0} and would close the connection")]
    NotImplemented(&'static str),
    /// The consumer tag is in use on this channel; the broker would close the whole connection with 530.
    #[error("the consumer tag \"{}\" is in use on this channel", Escaped(.0))]
    DuplicateConsumerTag(Arc<str>),
    /// A publish can only be answered in confirm mode.
    #[error(
        "the outcome of a publish is only known in confirm mode: call confirm_select or confirm_delivery first, or use send()"
    )]
    NotInConfirmMode,
    /// The broker has no publisher confirms, or no basic.nack, and would close the whole connection.
    #[error("the broker does not offer publisher confirms")]
    NoConfirms,
    /// RabbitMQ cannot read infinity or NaN in a table, and would close the whole connection with 541.
    #[error("a table holds a number that is not finite")]
    NotFinite,
    /// The channel number is in use, 0, or over the negotiated limit.
    #[error("channel number {0} is not free")]
    ChannelNumber(u16),
    /// A queue without a name was declared without a reply, which would have said the name that the broker chose.
    #[error("a queue that the broker names is unknown without its reply")]
    UnknownQueueName,
    /// A stream without a bound: it acknowledges nothing, or its prefetch is 0, and it has no capacity.
    #[error("a stream whose broker knows no limit needs a capacity")]
    UnboundedStream,
}

/// A rule of the protocol that the peer broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The reply code to close with; `None` where the specification says to hang up without another word [§4.2.3].
    pub code: Option<u16>,
    /// The rule.
    pub what: &'static str,
}

impl Violation {
    /// Bad frame end: the stream is out of step, nothing more can be said on it.
    pub const fn fatal(what: &'static str) -> Self {
        Self { code: None, what }
    }
    /// 501: a frame that cannot be decoded.
    pub const fn frame(what: &'static str) -> Self {
        Self { code: Some(501), what }
    }
    /// 502: a field with an illegal value.
    pub const fn syntax(what: &'static str) -> Self {
        Self { code: Some(502), what }
    }
    /// 503: a method out of turn.
    pub const fn command(what: &'static str) -> Self {
        Self { code: Some(503), what }
    }
    /// 504: a channel that is not open.
    pub const fn channel(what: &'static str) -> Self {
        Self { code: Some(504), what }
    }
    /// 505: a frame out of turn.
    pub const fn unexpected(what: &'static str) -> Self {
        Self { code: Some(505), what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({code})", self.what),
            None => f.write_str(self.what),
        }
    }
}
