//! `pooka get`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    options::{Common, Get},
    output::{self, Shown},
};
use pooka::Message;
use std::io;

pub(crate) fn run(common: &Common, options: Get) -> End {
    adapter::run(common, options, |app, connection| {
        let queue = app.work.queue.clone();
        channel(connection)?.basic_get(queue).then(|app: &mut App<Get>, channel, got| {
            let connection = channel.connection();
            let place = format!("queue \"{}\" at {}", app.work.queue, connection.parameters().endpoint());
            match app.check(&connection, got) {
                Some(None) => app.end(&connection, End::Empty(format!("{place} is empty"))),
                Some(Some(message)) => {
                    let end = match show(&message, app.work.format) {
                        Ok(()) => match channel.basic_ack(message.delivery_tag) {
                            Ok(()) => End::Done(format!(
                                "got a message of {place}, {} are left",
                                message.message_count.unwrap_or(0)
                            )),
                            Err(error) => error.into(),
                        },
                        Err(error) => {
                            End::Lost(format!("cannot write to stdout: {error}; the message stays in {place}"))
                        }
                    };
                    app.end(&connection, end);
                }
                None => {}
            }
        });
        Ok(())
    })
}

fn show(message: &Message, format: crate::options::Format) -> io::Result<()> {
    let shown = Shown {
        exchange: message.exchange.as_short_str(),
        routing_key: message.routing_key.as_short_str(),
        delivery_tag: message.delivery_tag.number(),
        redelivered: message.redelivered,
        properties: &message.properties,
        body: &message.body,
    };
    output::write(&mut io::stdout().lock(), format, &shown)
}
