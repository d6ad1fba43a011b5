//! Addresses that could not be connected to, and how a failed connect is worded.

use crate::{error::Error, wire::strings::Escaped};
use std::{collections::BTreeSet, fmt, io, net::SocketAddr, sync::Arc};

/// An address that could not be connected to.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// `host:port` of the endpoint that it is an address of.
    pub endpoint: Arc<str>,
    /// `address:port`, or `host:port` where the name could not be resolved or the address is not to blame.
    pub address: Arc<str>,
    /// What the operating system said, or the words of the `error`.
    pub cause: IoError,
    /// What happened after the network was up, in TLS or AMQP, or that it took too long. `None` where it was the network itself.
    pub error: Option<Arc<Error>>,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error}"),
            None if self.endpoint == self.address => write!(f, "{}: {}", self.address, self.cause),
            None => write!(f, "{} ({}): {}", self.endpoint, self.address, self.cause),
        }
    }
}

/// Kind and words of an [`io::Error`], which itself can be neither cloned nor compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoError {
    /// The kind.
    pub kind: io::ErrorKind,
    /// The words.
    pub text: Arc<str>,
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        Self { kind: error.kind(), text: error.to_string().into() }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.text).fmt(f)
    }
}

pub(super) fn tried(attempts: &[Attempt]) -> String {
    let tried = match addresses(attempts) {
        0 => "no address found".into(),
        1 => "1 address tried".into(),
        n => format!("{n} addresses tried"),
    };
    if attempts.len() > addresses(attempts).max(1) { format!("{tried}, {} attempts", attempts.len()) } else { tried }
}

pub(super) fn causes(attempts: &[Attempt]) -> String {
    let mut causes: Vec<_> = match attempts {
        [] => vec!["the name has no addresses".into()],
        [only] => vec![only.cause.to_string()],
        _ => attempts.iter().map(ToString::to_string).collect(),
    };
    causes.dedup();
    let mut text = causes.join("; ");
    if attempts.iter().any(|attempt| attempt.cause.kind == io::ErrorKind::ConnectionRefused) {
        text.push_str(
            " - is RabbitMQ running there? Start one with rabbitmq-server, or docker run -p 5672:5672 rabbitmq",
        );
    } else if addresses(attempts) == 0 {
        text.push_str(" - is the name right?");
    }
    text
}

/// Different addresses among the attempts; a name that was not resolved is none.
fn addresses(attempts: &[Attempt]) -> usize {
    let is_address = |attempt: &&Attempt| attempt.address.parse::<SocketAddr>().is_ok();
    attempts.iter().filter(is_address).map(|attempt| &attempt.address).collect::<BTreeSet<_>>().len()
}
