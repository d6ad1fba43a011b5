//! `pooka --adapter blocking consume`

use crate::{
    commands::consume::{LEAST_PAUSE, MOST_PAUSE},
    end::End,
    options::Consume,
    progress::Progress,
    stdout::{self, Output},
};
use pooka::{BlockingChannel, BlockingConnection, Error, Message, Result};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

struct Consuming<'a> {
    options: &'a Consume,
    out: Output,
    /// Until it looks again what has been read meanwhile.
    pause: Duration,
    progress: Progress,
    consumed: u64,
    last: Instant,
}

/// Messages that may wait here where the broker knows no limit.
const CAPACITY: usize = 1000;

pub(super) fn run(
    connection: &Arc<BlockingConnection>,
    channel: &BlockingChannel,
    options: &Consume,
    endpoint: &str,
) -> Result<End> {
    let messages = channel.consume(options.queue.as_str()).prefetch(options.wanted()).no_ack(options.no_ack);
    let mut messages = messages.capacity(CAPACITY).call()?;
    let reader_is_gone = end_with_stdout(connection);
    let mut consuming = Consuming::new(options);
    let end = loop {
        let next = match consuming.patience() {
            Some(limit) => messages.next_within(limit),
            None => messages.next().transpose(),
        };
        let written = match next {
            Ok(Some(message)) => consuming.show(&message),
            // Nothing came in time; or Ctrl-C has closed the connection, after which a consumer just ends.
            Ok(None) => match connection.close_reason() {
                Some(closed) => return Err(closed),
                None => Ok(()),
            },
            Err(Error::ConsumerCancelled { .. }) => break options.cancelled(endpoint),
            Err(_) if reader_is_gone.load(Ordering::Relaxed) => Err(stdout::reader_is_gone()),
            Err(error) => return Err(error),
        };
        let over = written.and_then(|()| consuming.over(endpoint));
        match over {
            Ok(None) => consuming.acknowledge_read(channel)?,
            Ok(Some(end)) => break end,
            Err(error) => break options.unwritable(&error, endpoint),
        }
    };
    if let Some(tag) = consuming.out.take_last() {
        channel.basic_ack_multiple(tag)?;
    }
    Ok(end)
}

impl<'a> Consuming<'a> {
    fn new(options: &'a Consume) -> Self {
        let progress = Progress::new("consumed", options.count);
        Self { options, out: Output::new(), pause: LEAST_PAUSE, progress, consumed: 0, last: Instant::now() }
    }

    /// How long it may wait for a message; for ever if `None`.
    fn patience(&self) -> Option<Duration> {
        let idle = self.options.idle_timeout.map(|idle| idle.saturating_sub(self.last.elapsed()));
        let pause = self.out.has_unread().then_some(self.pause);
        idle.into_iter().chain(pause).min()
    }

    fn show(&mut self, message: &Message) -> io::Result<()> {
        let tag = (!self.options.no_ack).then_some(message.delivery_tag);
        self.out.show(self.options.format, &message.into(), tag)?;
        self.consumed += 1;
        self.progress.is_at(self.consumed);
        (self.last, self.pause) = (Instant::now(), LEAST_PAUSE);
        Ok(())
    }

    /// The end, if it has come.
    fn over(&mut self, endpoint: &str) -> io::Result<Option<End>> {
        if self.options.count == Some(self.consumed) {
            self.out.check()?;
            return Ok(Some(self.options.done(self.consumed, endpoint)));
        }
        let idle = self.options.idle_timeout.filter(|idle| self.last.elapsed() >= *idle);
        Ok(idle.map(|idle| self.options.idle(self.consumed, endpoint, idle)))
    }

    /// Acknowledges what has been read of stdout; the pause is for what has not.
    fn acknowledge_read(&mut self, channel: &BlockingChannel) -> Result<()> {
        match self.out.take_read() {
            Some(tag) => {
                self.pause = LEAST_PAUSE;
                channel.basic_ack_multiple(tag)
            }
            None => {
                self.pause = (self.pause * 2).min(MOST_PAUSE);
                Ok(())
            }
        }
    }
}

/// Has the wait for a message end with an error when stdout's reader is gone; it is true before that.
fn end_with_stdout(connection: &Arc<BlockingConnection>) -> Arc<AtomicBool> {
    let is_gone = Arc::new(AtomicBool::new(false));
    let (gone, waiting) = (is_gone.clone(), Arc::downgrade(connection));
    stdout::when_closed(move || {
        gone.store(true, Ordering::Relaxed);
        if let Some(connection) = waiting.upgrade() {
            connection.add_callback_threadsafe(|| Err(stdout::reader_is_gone()));
        }
    });
    is_gone
}
