//! `pooka get`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    options::{Common, Get},
    stdout::Output,
};
use pooka::{DeliveryTag, Message, Result};

pub(crate) fn run(common: &Common, options: Get) -> End {
    adapter::run(common, options, |app, connection| {
        let queue = app.work.queue.clone();
        channel(connection)?.basic_get(queue).then(|app: &mut App<Get>, channel, got| {
            let connection = channel.connection();
            if let Some(got) = app.check(&connection, got) {
                let end = got_one(&app.work, &connection.parameters().endpoint(), got, |tag| channel.basic_ack(tag));
                app.end(&connection, end);
            }
        });
        Ok(())
    })
}

/// Shows the message and acknowledges it, or says that there is none.
pub(crate) fn got_one(
    options: &Get,
    endpoint: &str,
    got: Option<Message>,
    ack: impl FnOnce(DeliveryTag) -> Result<()>,
) -> End {
    let place = format!("queue \"{}\" at {endpoint}", options.queue);
    let Some(message) = got else { return End::Empty(format!("{place} is empty")) };
    let mut out = Output::new();
    let shown = out.show(options.format, &(&message).into(), Some(message.delivery_tag));
    if let Err(error) = shown.and_then(|()| out.check()) {
        return End::Lost(format!("cannot write to stdout: {error}; the message stays in {place}"));
    }
    match ack(message.delivery_tag) {
        Ok(()) => End::Done(format!("got a message of {place}, {} are left", message.message_count.unwrap_or(0))),
        Err(error) => error.into(),
    }
}
