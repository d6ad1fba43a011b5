//! `pooka consume`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    message::Shown,
    options::{Common, Consume},
    progress::Progress,
    stdout::{self, Output},
};
use pooka::{Channel, ConnectionHandle, Delivery, Result};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

struct Work {
    options: Consume,
    channel: Option<Channel<App<Self>>>,
    out: Output,
    /// A timer will look what has been read meanwhile.
    looks_again: bool,
    progress: Progress,
    consumed: u64,
    last: Instant,
}

/// Pauses between looks at a reader that takes its time.
pub(crate) const LEAST_PAUSE: Duration = Duration::from_millis(1);
pub(crate) const MOST_PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn run(common: &Common, options: Consume) -> End {
    let progress = Progress::new("consumed", options.count);
    let out = Output::new();
    let work = Work { options, channel: None, out, looks_again: false, progress, consumed: 0, last: Instant::now() };
    adapter::run(common, work, |app, connection| {
        let Consume { queue, no_ack, idle_timeout, .. } = &app.work.options;
        let channel = channel(connection)?;
        let prefetch = app.work.options.wanted();
        let tag = channel.basic_consume(queue.clone()).prefetch(prefetch).no_ack(*no_ack).on_message(on_message);
        tag.then(|app: &mut App<Work>, channel, consuming| {
            app.check(&channel.connection(), consuming);
        });
        channel.add_on_cancel_callback(|app: &mut App<Work>, channel, _| {
            let end = app.work.options.cancelled(&endpoint(channel));
            app.end(&channel.connection(), end);
        });
        if let Some(idle) = *idle_timeout {
            app.work.last = Instant::now();
            until_idle(connection.clone(), idle, idle);
        }
        app.work.channel = Some(channel);
        app.before_end = Some(Work::acknowledge_last);
        end_with_stdout(connection);
        Ok(())
    })
}

impl Consume {
    /// The prefetch: no more are asked for than are wanted, because others may want them.
    pub(crate) fn wanted(&self) -> u16 {
        let wanted = self.count.and_then(|count| u16::try_from(count).ok()).unwrap_or(self.prefetch);
        if self.prefetch == 0 { wanted } else { wanted.min(self.prefetch) }
    }

    pub(crate) fn place(&self, endpoint: &str) -> String {
        format!("queue \"{}\" at {endpoint}", self.queue)
    }

    pub(crate) fn done(&self, consumed: u64, endpoint: &str) -> End {
        End::Done(format!("consumed {consumed} messages of {}", self.place(endpoint)))
    }

    pub(crate) fn idle(&self, consumed: u64, endpoint: &str, idle: Duration) -> End {
        let seconds = idle.as_secs_f64();
        End::Done(format!("consumed {consumed} messages of {}, none for {seconds} s", self.place(endpoint)))
    }

    pub(crate) fn unwritable(&self, error: &io::Error, endpoint: &str) -> End {
        let what = if self.no_ack { "was settled when it was sent, and is lost from" } else { "stays in" };
        let place = self.place(endpoint);
        let line = format!("cannot write to stdout: {error}; what was not read {what} {place}");
        if error.kind() == io::ErrorKind::BrokenPipe { End::Done(line) } else { End::Lost(line) }
    }

    pub(crate) fn cancelled(&self, endpoint: &str) -> End {
        End::Refused(format!("{}: the broker ended the consumer, its queue is gone", self.place(endpoint)))
    }
}

fn endpoint(channel: &Channel<App<Work>>) -> Arc<str> {
    channel.connection().parameters().endpoint()
}

fn on_message(app: &mut App<Work>, channel: &Channel<App<Work>>, delivery: Delivery<'_>) -> Result<()> {
    if app.is_ending() {
        return Ok(()); // it goes back to the queue
    }
    let work = &mut app.work;
    let properties = if work.options.format.json { delivery.properties.to_owned_lossy() } else { Default::default() };
    let shown = Shown {
        exchange: delivery.exchange,
        routing_key: delivery.routing_key,
        delivery_tag: delivery.delivery_tag.number(),
        redelivered: delivery.redelivered,
        properties: &properties,
        body: delivery.body,
    };
    let tag = (!work.options.no_ack).then_some(delivery.delivery_tag);
    if let Err(error) = work.out.show(work.options.format, &shown, tag) {
        let end = work.options.unwritable(&error, &endpoint(channel));
        app.end(&channel.connection(), end);
        return Ok(());
    }
    work.consumed += 1;
    work.last = Instant::now();
    work.progress.is_at(work.consumed);
    if work.options.count == Some(work.consumed) {
        let end = match work.out.check() {
            Ok(()) => work.options.done(work.consumed, &endpoint(channel)),
            Err(error) => work.options.unwritable(&error, &endpoint(channel)),
        };
        app.end(&channel.connection(), end);
        return Ok(());
    }
    acknowledge_read(work, channel, LEAST_PAUSE)
}

/// Acknowledges what has been read of stdout. While something has not, it looks again, less and less often.
fn acknowledge_read(work: &mut Work, channel: &Channel<App<Work>>, mut pause: Duration) -> Result<()> {
    if let Some(tag) = work.out.take_read() {
        channel.basic_ack_multiple(tag)?;
        pause = LEAST_PAUSE;
    }
    if work.out.has_unread() && !std::mem::replace(&mut work.looks_again, true) {
        let again = channel.clone();
        channel.connection().ioloop().add_timeout(pause, move |app: &mut App<Work>| {
            app.work.looks_again = false;
            if app.is_ending() { Ok(()) } else { acknowledge_read(&mut app.work, &again, (pause * 2).min(MOST_PAUSE)) }
        });
    }
    Ok(())
}

impl Work {
    fn acknowledge_last(&mut self) {
        if let (Some(channel), Some(tag)) = (&self.channel, self.out.take_last()) {
            // Where the channel is closed the messages have gone back to the queue.
            let _ = channel.basic_ack_multiple(tag);
        }
    }
}

/// The end of stdout's reader is the command's, even if no message comes.
fn end_with_stdout(connection: &ConnectionHandle<App<Work>>) {
    let connection = connection.clone();
    stdout::when_closed(move || {
        let closing = connection.clone();
        connection.ioloop().post(move |app: &mut App<Work>| {
            let end = app.work.options.unwritable(&stdout::reader_is_gone(), &closing.parameters().endpoint());
            app.end(&closing, end);
        });
    });
}

/// Looks again when the last message will have been long enough ago.
fn until_idle(connection: ConnectionHandle<App<Work>>, idle: Duration, left: Duration) {
    connection.ioloop().add_timeout(left, move |app: &mut App<Work>| {
        let left = idle.saturating_sub(app.work.last.elapsed());
        if !left.is_zero() {
            return until_idle(connection, idle, left);
        }
        let Work { consumed, options, .. } = &app.work;
        let end = options.idle(*consumed, &connection.parameters().endpoint(), idle);
        app.end(&connection, end);
    });
}
