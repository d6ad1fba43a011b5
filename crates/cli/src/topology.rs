//! `pooka declare`, `delete`, `purge` and `bind`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    options::{Bind, Common, Declare, Delete, Purge, table},
};
use pooka::{Channel, Result};

/// What is answered with one line.
fn told<W: 'static>(app: &mut App<W>, channel: &Channel<App<W>>, line: Result<String>) {
    let connection = channel.connection();
    let endpoint = connection.parameters().endpoint();
    if let Some(line) = app.check(&connection, line) {
        app.end(&connection, End::Done(format!("{line} at {endpoint}")));
    }
}

pub(crate) fn declare(common: &Common, options: Declare) -> End {
    adapter::run(common, Some(options), |app, connection| {
        let channel = channel(connection)?;
        let Some(options) = app.work.take() else { return Ok(()) };
        let Declare { queue, exchange, exchange_type, transient, exclusive, auto_delete, passive, arguments } = options;
        let verb = if passive { "found" } else { "declared" };
        if let Some(exchange) = exchange {
            let named = exchange.clone();
            let request = channel.exchange_declare(exchange).exchange_type(exchange_type.clone());
            let request = request.durable(!transient).auto_delete(auto_delete).passive(passive);
            request.arguments(table(arguments)).then(move |app: &mut App<_>, channel, declared| {
                told(app, channel, declared.map(|_| format!("{verb} {exchange_type} exchange \"{named}\"")));
            });
        } else if let Some(queue) = queue {
            let exclusive = exclusive || queue.is_empty();
            let request = channel.queue_declare(queue).durable(!transient && !exclusive).exclusive(exclusive);
            let request = request.auto_delete(auto_delete).passive(passive).arguments(table(arguments));
            request.then(move |app: &mut App<_>, channel, declared| {
                let line = declared.map(|ok| {
                    let (messages, consumers) = (ok.message_count, ok.consumer_count);
                    format!("{verb} queue \"{}\" ({messages} messages, {consumers} consumers)", ok.queue)
                });
                told(app, channel, line);
            });
        }
        Ok(())
    })
}

pub(crate) fn delete(common: &Common, options: Delete) -> End {
    adapter::run(common, Some(options), |app, connection| {
        let channel = channel(connection)?;
        let Some(Delete { queue, exchange, if_unused, if_empty }) = app.work.take() else { return Ok(()) };
        if let Some(exchange) = exchange {
            let named = exchange.clone();
            channel.exchange_delete(exchange).if_unused(if_unused).then(move |app: &mut App<_>, channel, deleted| {
                told(app, channel, deleted.map(|_| format!("deleted exchange \"{named}\"")));
            });
        } else if let Some(queue) = queue {
            let named = queue.clone();
            let request = channel.queue_delete(queue).if_unused(if_unused).if_empty(if_empty);
            request.then(move |app: &mut App<_>, channel, deleted| {
                let line = deleted.map(|ok| format!("deleted queue \"{named}\" and {} messages", ok.message_count));
                told(app, channel, line);
            });
        }
        Ok(())
    })
}

pub(crate) fn purge(common: &Common, options: Purge) -> End {
    adapter::run(common, options, |app, connection| {
        let queue = app.work.queue.clone();
        channel(connection)?.queue_purge(queue.clone()).then(move |app: &mut App<_>, channel, purged| {
            told(app, channel, purged.map(|ok| format!("dropped {} messages of queue \"{queue}\"", ok.message_count)));
        });
        Ok(())
    })
}

pub(crate) fn bind(common: &Common, options: Bind) -> End {
    adapter::run(common, Some(options), |app, connection| {
        let channel = channel(connection)?;
        let Some(Bind { queue, exchange, routing_key, arguments }) = app.work.take() else { return Ok(()) };
        let line = format!("bound queue \"{queue}\" to exchange \"{exchange}\" with key \"{routing_key}\"");
        let request = channel.queue_bind(queue, exchange).routing_key(routing_key).arguments(table(arguments));
        request.then(move |app: &mut App<_>, channel, bound| told(app, channel, bound.map(|_| line)));
        Ok(())
    })
}
