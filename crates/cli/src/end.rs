//! How the command ended: one line, and an exit code.

use pooka::Error;
use std::io::{self, Write};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// Everything was done that was asked for.
    Done(String),
    /// The queue to get from was empty.
    Empty(String),
    /// The options do not make sense, or stdin cannot be read.
    Usage(String),
    /// There is no connection, or stdout cannot be written to.
    Lost(String),
    /// The broker refused a request or a message.
    Refused(String),
    /// The broker took too long.
    Timeout(String),
    /// Ctrl-C, and the connection was closed in order.
    Interrupted(String),
}

impl End {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Done(_) => 0,
            Self::Empty(_) => 1,
            Self::Usage(_) => 2,
            Self::Lost(_) => 3,
            Self::Refused(_) => 4,
            Self::Timeout(_) => 5,
            Self::Interrupted(_) => 130,
        }
    }

    /// Prints the one line that a command leaves on stderr.
    pub(crate) fn print(&self) {
        let (Self::Done(line)
        | Self::Empty(line)
        | Self::Usage(line)
        | Self::Lost(line)
        | Self::Refused(line)
        | Self::Timeout(line)
        | Self::Interrupted(line)) = self;
        if !line.is_empty() {
            // Where nothing reads it, the exit code has to do.
            let _ = writeln!(io::stderr(), "pooka: {line}");
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        let line = error.to_string();
        match error {
            Error::ChannelClosedByBroker { .. }
            | Error::ConsumerCancelled { .. }
            | Error::MessageTooLarge { .. }
            | Error::Nacked { .. }
            | Error::Unroutable(_) => Self::Refused(line),
            Error::Timeout { .. } | Error::BlockedTimeout { .. } => Self::Timeout(line),
            Error::Invalid(_) | Error::BadParameter { .. } | Error::NoSuchPoller { .. } => Self::Usage(line),
            _ => Self::Lost(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_code() {
        let endpoint = || "localhost:5672".into();
        assert_eq!(End::from(Error::NoFreeChannels { endpoint: endpoint(), limit: 1 }).code(), 3);
        assert_eq!(End::from(Error::ConsumerCancelled { channel: 1, consumer_tag: "c".into() }).code(), 4);
        assert_eq!(End::from(Error::Nacked { channel: 1 }).code(), 4);
        assert_eq!(End::from(Error::BadParameter { name: "port", problem: "0".into() }).code(), 2);
        let after = std::time::Duration::from_secs(1);
        assert_eq!(End::from(Error::BlockedTimeout { endpoint: endpoint(), reason: "low".into(), after }).code(), 5);
    }
}
