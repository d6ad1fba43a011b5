//! `pooka consume`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    message::{self, Shown},
    options::{Common, Consume},
    progress::Progress,
};
use pooka::{Channel, ConnectionHandle, Delivery, Result};
use std::{
    io::{self, BufWriter, Stdout},
    sync::Arc,
    time::{Duration, Instant},
};

struct Work {
    options: Consume,
    out: BufWriter<Stdout>,
    progress: Progress,
    consumed: u64,
    last: Instant,
}

pub(crate) fn run(common: &Common, options: Consume) -> End {
    let progress = Progress::new("consumed", options.count);
    let out = BufWriter::new(io::stdout());
    let work = Work { options, out, progress, consumed: 0, last: Instant::now() };
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
        let line = format!("cannot write to stdout: {error}; the message stays in {}", self.place(endpoint));
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
    if let Err(error) = message::write(&mut work.out, work.options.format, &shown) {
        let end = work.options.unwritable(&error, &endpoint(channel));
        app.end(&channel.connection(), end);
        return Ok(());
    }
    work.consumed += 1;
    work.last = Instant::now();
    work.progress.is_at(work.consumed);
    if !work.options.no_ack {
        channel.basic_ack(delivery.delivery_tag)?;
    }
    if work.options.count == Some(work.consumed) {
        let end = work.options.done(work.consumed, &endpoint(channel));
        app.end(&channel.connection(), end);
    }
    Ok(())
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
