//! `pooka declare`, `delete`, `purge` and `bind`

use crate::{
    adapter,
    app::{App, channel},
    end::End,
    options::{Bind, Common, Declare, Delete, Purge, table},
};
use pooka::{
    Channel, Result,
    request::Request,
    spec::{exchange, queue},
};

/// Ends the command with the line that describes the answer.
fn end_with<W: 'static>(app: &mut App<W>, channel: &Channel<App<W>>, line: Result<String>) {
    let connection = channel.connection();
    let endpoint = connection.parameters().endpoint();
    if let Some(line) = app.check(&connection, line) {
        app.end(&connection, End::Done(format!("{line} at {endpoint}")));
    }
}

// Each command's request, for both kinds of channel, and the line that describes the answer.

impl Declare {
    pub(crate) fn exchange<H>(&self, request: Request<exchange::Declare, H>) -> Request<exchange::Declare, H> {
        let request = request.exchange_type(self.exchange_type.clone()).durable(!self.transient);
        request.auto_delete(self.auto_delete).passive(self.passive).arguments(table(self.arguments.clone()))
    }

    pub(crate) fn exchange_line(&self, name: &str) -> String {
        format!("{} {} exchange \"{name}\"", self.verb(), self.exchange_type)
    }

    pub(crate) fn queue<H>(&self, name: &str, request: Request<queue::Declare, H>) -> Request<queue::Declare, H> {
        let exclusive = self.exclusive || name.is_empty();
        let request = request.durable(!self.transient && !exclusive).exclusive(exclusive);
        request.auto_delete(self.auto_delete).passive(self.passive).arguments(table(self.arguments.clone()))
    }

    pub(crate) fn queue_line(&self, ok: &queue::DeclareOk) -> String {
        let (messages, consumers) = (ok.message_count, ok.consumer_count);
        format!("{} queue \"{}\" ({messages} messages, {consumers} consumers)", self.verb(), ok.queue)
    }

    fn verb(&self) -> &'static str {
        if self.passive { "found" } else { "declared" }
    }
}

impl Delete {
    pub(crate) fn exchange_line(name: &str) -> String {
        format!("deleted exchange \"{name}\"")
    }

    pub(crate) fn queue_line(name: &str, ok: &queue::DeleteOk) -> String {
        format!("deleted queue \"{name}\" and {} messages", ok.message_count)
    }
}

impl Purge {
    pub(crate) fn line(&self, ok: &queue::PurgeOk) -> String {
        format!("dropped {} messages of queue \"{}\"", ok.message_count, self.queue)
    }
}

impl Bind {
    pub(crate) fn request<H>(&self, request: Request<queue::Bind, H>) -> Request<queue::Bind, H> {
        request.routing_key(self.routing_key.clone()).arguments(table(self.arguments.clone()))
    }

    pub(crate) fn line(&self) -> String {
        let Self { queue, exchange, routing_key, .. } = self;
        format!("bound queue \"{queue}\" to exchange \"{exchange}\" with key \"{routing_key}\"")
    }
}

pub(crate) fn declare(common: &Common, options: Declare) -> End {
    adapter::run(common, options, |app, connection| {
        let channel = channel(connection)?;
        let options = &app.work;
        if let Some(exchange) = options.exchange.clone() {
            let request = options.exchange(channel.exchange_declare(exchange.clone()));
            request.then(move |app: &mut App<Declare>, channel, declared| {
                let line = declared.map(|_| app.work.exchange_line(&exchange));
                end_with(app, channel, line);
            });
        } else if let Some(queue) = &options.queue {
            let request = options.queue(queue, channel.queue_declare(queue.as_str()));
            request.then(|app: &mut App<Declare>, channel, declared| {
                let line = declared.map(|ok| app.work.queue_line(&ok));
                end_with(app, channel, line);
            });
        }
        Ok(())
    })
}

pub(crate) fn delete(common: &Common, options: Delete) -> End {
    adapter::run(common, options, |app, connection| {
        let channel = channel(connection)?;
        let Delete { queue, exchange, if_unused, if_empty } = &app.work;
        if let Some(exchange) = exchange.clone() {
            let request = channel.exchange_delete(exchange.as_str()).if_unused(*if_unused);
            request.then(move |app: &mut App<_>, channel, deleted| {
                end_with(app, channel, deleted.map(|_| Delete::exchange_line(&exchange)));
            });
        } else if let Some(queue) = queue.clone() {
            let request = channel.queue_delete(queue.as_str()).if_unused(*if_unused).if_empty(*if_empty);
            request.then(move |app: &mut App<_>, channel, deleted| {
                end_with(app, channel, deleted.map(|ok| Delete::queue_line(&queue, &ok)));
            });
        }
        Ok(())
    })
}

pub(crate) fn purge(common: &Common, options: Purge) -> End {
    adapter::run(common, options, |app, connection| {
        let request = channel(connection)?.queue_purge(app.work.queue.as_str());
        request.then(|app: &mut App<Purge>, channel, purged| {
            let line = purged.map(|ok| app.work.line(&ok));
            end_with(app, channel, line);
        });
        Ok(())
    })
}

pub(crate) fn bind(common: &Common, options: Bind) -> End {
    adapter::run(common, options, |app, connection| {
        let Bind { queue, exchange, .. } = &app.work;
        let request = app.work.request(channel(connection)?.queue_bind(queue.as_str(), exchange.as_str()));
        request.then(|app: &mut App<Bind>, channel, bound| {
            let line = bound.map(|_| app.work.line());
            end_with(app, channel, line);
        });
        Ok(())
    })
}
