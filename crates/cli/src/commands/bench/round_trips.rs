//! One message at a time: the next begins when the last is done.

use super::{BenchChannel, BenchConnection, DROP, KEY, Run, declare_drop, finish};
use crate::app::{App, channel};
use pooka::{Channel, Delivery, Error, PublishOutcome, Result};

pub(super) fn confirms(_: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    declare_drop(&channel)?;
    channel.confirm_select().then(|app: &mut App<Run>, channel, selected| {
        selected?;
        app.work.begin();
        confirm(app, channel);
        Ok::<_, Error>(())
    });
    Ok(())
}

fn confirm(app: &mut App<Run>, channel: &BenchChannel) {
    app.work.latencies.begin();
    channel.basic_publish(DROP, KEY, &app.work.body).then(|app: &mut App<Run>, channel, outcome| {
        if outcome? != PublishOutcome::Acked {
            return Err(Error::Nacked { channel: channel.channel_number() });
        }
        if through(app, channel) {
            confirm(app, channel);
        }
        Ok(())
    });
}

/// Counts a message that is done, and returns whether another one is to follow.
fn through(app: &mut App<Run>, channel: &BenchChannel) -> bool {
    let run = &mut app.work;
    run.latencies.end();
    run.done += 1;
    let more = run.done < run.options.messages;
    if !more {
        finish(app, &channel.connection(), &[]);
    }
    more
}

pub(super) fn gets(app: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    app.work.begin();
    get(app, &channel);
    Ok(())
}

fn get(app: &mut App<Run>, channel: &BenchChannel) {
    app.work.latencies.begin();
    channel.basic_get(app.work.queue.clone()).no_ack(true).then(|app: &mut App<Run>, channel, got| {
        if got?.is_none() {
            return Err(format!("queue \"{}\" ran empty after {} messages", app.work.queue, app.work.done).into());
        }
        if through(app, channel) {
            get(app, channel);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
}

pub(super) fn pings(_: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    let pong = |app: &mut App<Run>, channel: &Channel<App<Run>>, _: Delivery<'_>| -> Result<()> {
        if through(app, channel) { ping(app, channel) } else { Ok(()) }
    };
    channel.queue_declare("").then(move |app: &mut App<Run>, channel, declared| {
        app.work.queue = declared?.queue.to_string();
        let consume = channel.basic_consume(&app.work.queue).no_ack(true).on_message(pong);
        consume.then(|app: &mut App<Run>, channel, consuming| {
            consuming?;
            app.work.begin();
            ping(app, channel)
        });
        Ok::<_, Error>(())
    });
    Ok(())
}

fn ping(app: &mut App<Run>, channel: &BenchChannel) -> Result<()> {
    app.work.latencies.begin();
    channel.basic_publish("", &app.work.queue, &app.work.body).send()
}
