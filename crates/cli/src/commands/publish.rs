//! `pooka publish`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    options::{Common, Publish, table},
    progress::Progress,
    stdin::{Input, Next},
};
use pooka::{BasicProperties, Channel, ConnectionHandle, PublishOutcome, Result, message::Returned};
use std::{io, sync::Arc, time::Duration};

struct Work {
    options: Publish,
    properties: BasicProperties,
    timeout: Duration,
    input: Option<Input>,
    progress: Progress,
    published: u64,
    settled: u64,
    /// The input is at its end, and everything has been published.
    over: bool,
    /// A later turn of the loop will go on publishing.
    scheduled: bool,
    /// The broker does not read fast enough.
    pressed: bool,
}

/// How many publishes may wait for their confirms.
const WINDOW: u64 = 1000;

/// How many publishes a turn makes, so that the loop can write between turns.
const BATCH: usize = 1000;

pub(crate) fn run(common: &Common, mut options: Publish) -> End {
    let properties = options.properties();
    let parameters = match adapter::parameters(common) {
        Ok(parameters) => parameters,
        Err(error) => return error.into(),
    };
    let total = (!options.lines).then_some(options.count);
    let work = Work {
        properties,
        timeout: parameters.rpc_timeout().unwrap_or(Duration::MAX),
        input: None,
        progress: Progress::new("published", total),
        published: 0,
        settled: 0,
        over: false,
        scheduled: false,
        pressed: false,
        options,
    };
    adapter::run(common, work, |app, connection| {
        let channel = channel(connection)?;
        if app.work.options.no_confirm {
            channel.add_on_return_callback(|app: &mut App<Work>, channel, returned| {
                let end = app.work.options.returned(returned, &endpoint(channel));
                app.end(&channel.connection(), end);
            });
        } else {
            channel.confirm_select().send()?;
            watch_confirms(connection.clone(), app);
        }
        let pressed = channel.clone();
        connection.add_backpressure_callback(move |app: &mut App<Work>, _, held| {
            app.work.pressed = held > 0;
            pump(app, &pressed)
        });
        let (ioloop, ringing) = (connection.ioloop(), channel.clone());
        let ring = move || {
            let channel = ringing.clone();
            ioloop.post(move |app: &mut App<Work>| pump(app, &channel));
        };
        app.work.input = Some(Input::new(&app.work.options, ring));
        pump(app, &channel)
    })
}

/// Publishes what the input has, as far as that is possible now.
fn pump(app: &mut App<Work>, channel: &Channel<App<Work>>) -> Result<()> {
    for _ in 0..BATCH {
        let ending = app.is_ending();
        let work = &mut app.work;
        let full = work.pressed || !work.options.no_confirm && work.published - work.settled >= WINDOW;
        if ending || work.over || full {
            return Ok(());
        }
        let Some(input) = &mut work.input else { return Ok(()) };
        match input.next() {
            Next::Later => return Ok(()),
            Next::Over => {
                work.over = true;
                finish_when_settled(app, channel);
                return Ok(());
            }
            Next::Failed(error) => {
                app.end(&channel.connection(), Publish::unreadable(&error));
                return Ok(());
            }
            Next::Body(body) => work.publish(channel, &body)?,
        }
    }
    if !std::mem::replace(&mut app.work.scheduled, true) {
        let again = channel.clone();
        channel.connection().ioloop().post(move |app: &mut App<Work>| {
            app.work.scheduled = false;
            pump(app, &again)
        });
    }
    Ok(())
}

impl Work {
    fn publish(&mut self, channel: &Channel<App<Self>>, body: &[u8]) -> Result<()> {
        let Publish { exchange, routing_key, no_mandatory, no_confirm, .. } = &self.options;
        let publish = channel.basic_publish(exchange, routing_key, body);
        let publish = publish.properties(&self.properties).mandatory(!*no_mandatory);
        if *no_confirm {
            publish.send()?;
            self.progress.is_at(self.published);
        } else {
            publish.then(on_outcome);
        }
        self.published += 1;
        Ok(())
    }
}

impl Publish {
    pub(crate) fn properties(&mut self) -> BasicProperties {
        let mut properties = BasicProperties::new();
        if self.persistent {
            properties = properties.persistent();
        }
        let headers = std::mem::take(&mut self.headers);
        if !headers.is_empty() {
            properties.headers = Some(table(headers));
        }
        properties
    }

    /// `exchange "e" with key "k" at host:port`
    fn place(&self, endpoint: &str) -> String {
        let Self { exchange, routing_key, .. } = self;
        format!("exchange \"{exchange}\" with key \"{routing_key}\" at {endpoint}")
    }

    pub(crate) fn returned(&self, returned: &Returned, endpoint: &str) -> End {
        let (code, text, place) = (returned.reply_code, &returned.reply_text, self.place(endpoint));
        End::Refused(format!(
            "returned from {place}: {code} {text} - declare the queue and bind it first, or allow it with --no-mandatory"
        ))
    }

    pub(crate) fn nacked(&self, endpoint: &str) -> End {
        End::Refused(format!("{} refused a message (nack): its queue is full or failed", self.place(endpoint)))
    }

    pub(crate) fn done(&self, published: u64, endpoint: &str) -> End {
        let how = if self.no_confirm { "unconfirmed" } else { "all confirmed" };
        let messages = if published == 1 { "message" } else { "messages" };
        End::Done(format!("published {published} {messages} to {}, {how}", self.place(endpoint)))
    }

    pub(crate) fn unconfirmed(missing: u64, endpoint: &str, timeout: Duration) -> End {
        let seconds = timeout.as_secs_f64();
        End::Timeout(format!("{endpoint} did not confirm {missing} messages within {seconds} s"))
    }

    pub(crate) fn unreadable(error: &io::Error) -> End {
        End::Usage(format!("cannot read stdin: {error}"))
    }
}

fn endpoint(channel: &Channel<App<Work>>) -> Arc<str> {
    channel.connection().parameters().endpoint()
}

fn on_outcome(app: &mut App<Work>, channel: &Channel<App<Work>>, outcome: Result<PublishOutcome>) -> Result<()> {
    let connection = channel.connection();
    let work = &mut app.work;
    work.settled += 1;
    work.progress.is_at(work.settled);
    let end = match outcome {
        Ok(PublishOutcome::Acked) => {
            finish_when_settled(app, channel);
            return pump(app, channel);
        }
        Ok(PublishOutcome::Returned(returned)) => work.options.returned(&returned, &endpoint(channel)),
        Ok(PublishOutcome::Nacked) => work.options.nacked(&endpoint(channel)),
        Err(error) => error.into(),
    };
    app.end(&connection, end);
    Ok(())
}

fn finish_when_settled(app: &mut App<Work>, channel: &Channel<App<Work>>) {
    let work = &app.work;
    if !work.over || !work.options.no_confirm && work.settled < work.published {
        return;
    }
    // The broker answers when it has taken everything, or says what was wrong.
    channel.close().then(|app: &mut App<Work>, channel, closed| {
        let connection = channel.connection();
        if app.check(&connection, closed).is_some() {
            let end = app.work.options.done(app.work.published, &endpoint(channel));
            app.end(&connection, end);
        }
    });
}

/// Ends the command when confirms are missing and none has come within the timeout.
fn watch_confirms(connection: ConnectionHandle<App<Work>>, app: &App<Work>) {
    let (before, timeout) = (app.work.settled, app.work.timeout);
    let waited = app.work.published > before;
    connection.ioloop().add_timeout(timeout, move |app: &mut App<Work>| {
        let Work { published, settled, .. } = app.work;
        if waited && settled == before && published > settled {
            let endpoint = connection.parameters().endpoint();
            app.end(&connection, Publish::unconfirmed(published - settled, &endpoint, timeout));
        } else {
            watch_confirms(connection, app);
        }
    });
}
