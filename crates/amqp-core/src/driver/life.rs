//! How far a connection has come, as its loop sees it.

use crate::{
    error::{Error, Stage},
    protocol::handshake::Handshake,
    session::{op::OnOpen, state::Rest},
};
use std::{sync::Arc, time::Instant};

/// What a connection is doing, with all that it needs for that and for what can come next.
///
/// ```text
/// Opening ──► Open ──► Closing ──► Parting ──► Over
///   │  ▲        └────────────────────┘           │
///   ▼  │ the next endpoint                       │
/// Failed ─────────────────────────────────────►──┘ the last one
/// ```
pub(super) enum Life<S: 'static> {
    /// It has not been open yet; `on_open` is called when it is, or when nothing is left to try.
    Opening { on_open: OnOpen<S>, step: Step, until: Option<Instant> },
    /// The endpoint has failed in a way in which another one, or the next try, may not.
    Failed { on_open: OnOpen<S>, error: Error, words: LastWords },
    /// It is open. `blocked` is when a broker that has stopped reading is given up, and why it stopped.
    Open { blocked: Option<(Instant, Arc<str>)> },
    /// Our connection.close is sent. Until close-ok everything is ignored [§1.4.2.10] but the broker's own close, and the
    /// answers to what was asked for before.
    Closing { until: Option<Instant> },
    /// It is over, and the broker is told first: nothing of the program's is called or woken before the last words had their
    /// chance to be written.
    Parting { words: LastWords, end: Box<End<S>> },
    /// It is over for the program.
    Over(LastWords),
}

/// Why a connection is over, and who is still to hear of it.
pub(super) struct End<S: 'static> {
    pub(super) error: Error,
    /// It has never been open.
    pub(super) on_open: Option<OnOpen<S>>,
    pub(super) rest: Rest<S>,
}

/// What an endpoint is tried with at the moment.
pub(super) enum Step {
    /// Nothing: no endpoint is tried.
    Rest,
    /// The network.
    Dial,
    /// The handshake of TLS, if there is TLS.
    Secure,
    /// The handshake of AMQP.
    Shake(Handshake),
}

/// What an end has left to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWords {
    /// A close or a close-ok, if it can be written until then.
    Unsaid(Option<Instant>),
    /// Nothing.
    Said,
}

impl<S: 'static> Life<S> {
    /// Whether the program can ask for something, or has only just stopped.
    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Closing { .. })
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Closing { .. })
    }

    pub(super) fn is_parting(&self) -> bool {
        matches!(self, Self::Parting { .. })
    }

    /// The last words of a connection, or of an endpoint, that has come to its end.
    pub(super) fn words(&self) -> Option<LastWords> {
        match self {
            Self::Failed { words, .. } | Self::Parting { words, .. } | Self::Over(words) => Some(*words),
            Self::Opening { .. } | Self::Open { .. } | Self::Closing { .. } => None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.words().is_some()
    }

    /// Nothing can be written any more.
    pub(super) fn fall_silent(&mut self) {
        if let Self::Failed { words, .. } | Self::Parting { words, .. } | Self::Over(words) = self {
            *words = LastWords::Said;
        }
    }
}

impl LastWords {
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Unsaid(until) => until,
            Self::Said => None,
        }
    }
}

impl Step {
    /// What takes too long with this endpoint, and for which [`Error::Timeout`].
    pub(super) fn late(&self, endpoint: &str) -> (Stage, String) {
        match self {
            Self::Rest | Self::Dial => (Stage::Dial, format!("connecting to {endpoint}")),
            Self::Secure => (Stage::Tls, format!("the TLS handshake with {endpoint}")),
            Self::Shake(Handshake::Start) => (Stage::Connect, format!("the AMQP greeting of {endpoint}")),
            Self::Shake(_) => (Stage::Connect, format!("opening the connection to {endpoint}")),
        }
    }
}
