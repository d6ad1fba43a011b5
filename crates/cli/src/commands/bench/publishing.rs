//! Publishes as fast as possible, unconfirmed or with a window of confirms.

use super::{BenchChannel, BenchConnection, DROP, KEY, Run, SYNC, declare_drop, finish};
use crate::app::{App, channel};
use pooka::{Error, PublishOutcome, Result};

/// How many publishes a turn makes, so that the loop can write between turns.
const BATCH: u64 = 1000;

pub(super) fn unconfirmed(_: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    declare_drop(&channel)?;
    let publishing = channel.clone();
    connection.add_backpressure_callback(move |app: &mut App<Run>, _, held| {
        app.work.pressed = held > 0;
        if app.work.pressed { Ok(()) } else { publish(app, &publishing) }
    });
    channel.queue_declare(SYNC).then(|app: &mut App<Run>, channel, ready| {
        ready?;
        app.work.begin();
        publish(app, channel)
    });
    Ok(())
}

fn publish(app: &mut App<Run>, channel: &BenchChannel) -> Result<()> {
    let run = &mut app.work;
    let until = run.options.messages.min(run.begun + BATCH);
    while run.begun < until {
        channel.basic_publish(DROP, KEY, &run.body).send()?;
        run.begun += 1;
    }
    if run.begun == run.options.messages {
        if run.done == 0 {
            run.done = run.begun;
            channel.queue_declare(SYNC).then(|app: &mut App<Run>, channel, synced| {
                let count = f64::from(synced?.message_count);
                finish(app, &channel.connection(), &[("server_count", count)]);
                Ok::<_, Error>(())
            });
        }
        return Ok(());
    }
    if !run.pressed {
        let again = channel.clone();
        channel.connection().ioloop().post(
            move |app: &mut App<Run>| {
                if app.work.pressed { Ok(()) } else { publish(app, &again) }
            },
        );
    }
    Ok(())
}

pub(super) fn confirmed(_: &mut App<Run>, connection: &BenchConnection) -> Result<()> {
    let channel = channel(connection)?;
    declare_drop(&channel)?;
    channel.confirm_select().then(|app: &mut App<Run>, channel, selected| {
        selected?;
        app.work.begin();
        let window = app.work.options.window;
        publish_confirmed(app, channel, window);
        Ok::<_, Error>(())
    });
    Ok(())
}

fn publish_confirmed(app: &mut App<Run>, channel: &BenchChannel, window: u64) {
    let run = &mut app.work;
    while run.begun < run.options.messages.min(run.done + window) {
        run.begun += 1;
        channel.basic_publish(DROP, KEY, &run.body).then(|app: &mut App<Run>, channel, outcome| {
            if outcome? != PublishOutcome::Acked {
                return Err(Error::Nacked { channel: channel.channel_number() });
            }
            app.work.done += 1;
            let (messages, window) = (app.work.options.messages, app.work.options.window);
            if app.work.done == messages {
                finish(app, &channel.connection(), &[]);
            } else {
                publish_confirmed(app, channel, window);
            }
            Ok(())
        });
    }
}
