//! What is said between this program and one peer.

use crate::{
    driver::deadlines::ReplyDeadlines,
    error::attempt::IoError,
    protocol::{Protocol, heartbeat::Heartbeat},
    trace::frames::FrameLog,
    wire::{inbox::Inbox, outbox::Outbox},
};
use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// Both directions of one stream, and what is known of its peer only. It is made anew for each endpoint that is tried, so
/// that nothing of one is left for the next.
pub(super) struct Conversation {
    pub(super) protocol: Protocol,
    pub(super) inbox: Inbox,
    frame_log: FrameLog,
    /// What has been taken out of the shared outbox and is not yet written.
    pub(super) writing: Outbox,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) replies: ReplyDeadlines,
    /// Nothing can be written any more.
    pub(super) broken: Option<Broken>,
    /// The program was called about back-pressure, and not yet about its end.
    pub(super) pressed: bool,
    pub(super) octets_sent: u64,
    /// Octets have moved since the buffers were last looked at.
    moved: bool,
    /// Buffers are given back, if nothing has moved by then.
    pub(super) tidy_at: Option<Instant>,
    /// Nothing had, and the buffers were given back.
    tidied: bool,
}

/// Why nothing can be written, and how long what the broker said before is still waited for.
pub(super) struct Broken {
    pub(super) cause: IoError,
    pub(super) until: Option<Instant>,
}

/// A connection on which nothing has moved for this long needs no large buffers.
const QUIET: Duration = Duration::from_secs(1);

impl Conversation {
    pub(super) fn new(max_message_size: u64) -> Self {
        Self {
            protocol: Protocol::new(max_message_size),
            inbox: Inbox::default(),
            frame_log: FrameLog::default(),
            writing: Outbox::default(),
            heartbeat: None,
            replies: ReplyDeadlines::default(),
            broken: None,
            pressed: false,
            octets_sent: 0,
            moved: false,
            tidy_at: None,
            tidied: false,
        }
    }

    /// `n` octets have been read into the inbox.
    pub(super) fn received(&mut self, n: usize, now: Instant) {
        self.inbox.filled(n);
        self.moved = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received(now);
        }
    }

    /// What has been read is handled by nobody.
    pub(super) fn discard(&mut self) {
        let unread = self.inbox.unread().len();
        self.inbox.take(unread);
    }

    /// What has been read is told to `tracing`, if somebody listens.
    #[inline]
    pub(super) fn tap(&mut self, endpoint: impl FnOnce() -> Arc<str>) {
        self.frame_log.received(endpoint, self.inbox.unread(), self.protocol.begun());
    }

    /// What has been handled need not be shown again.
    pub(super) fn taken(&mut self) {
        let taken = self.protocol.taken();
        self.frame_log.taken(taken);
        self.inbox.take(taken);
    }

    /// `n` octets have been written.
    pub(super) fn wrote(&mut self, n: usize, now: Instant) {
        self.octets_sent += n as u64;
        self.moved = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.sent(now);
        }
    }

    /// Nothing is to be done now: large buffers are given back if it stays like that.
    pub(super) fn rest(&mut self, grown: bool, now: Instant) {
        if self.tidy_at.is_none() && (grown || self.inbox.is_grown() || self.writing.is_grown()) {
            self.tidy_at = now.checked_add(QUIET);
        }
    }

    /// Gives buffers back, unless octets have moved; says whether it did.
    pub(super) fn tidy(&mut self) -> bool {
        self.tidy_at = None;
        if mem::take(&mut self.moved) {
            return false;
        }
        self.tidied = true;
        self.inbox.shrink();
        self.writing.shrink();
        true
    }

    /// Whether buffers have been given back since the last call, so that others may be.
    pub(super) fn tidied(&mut self) -> bool {
        mem::take(&mut self.tidied)
    }
}
