//! Two connections on one loop: what one publishes the other consumes, with one state and no lock.

use pooka::{
    Channel, ConnectionHandle, ConnectionParameters, Delivery, IoLoop, PollerKind, Result, SelectLoop, ShortString,
    spec::queue,
};

const MESSAGES: usize = 5;

#[derive(Default)]
struct App {
    publisher: Option<ConnectionHandle<Self>>,
    consumed: usize,
}

impl App {
    fn on_consumer_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        connection.channel().send()?.queue_declare("").then(Self::on_declared);
        Ok(())
    }

    fn on_declared(&mut self, channel: &Channel<Self>, declared: Result<queue::DeclareOk>) -> Result<()> {
        let queue = declared?.queue;
        channel.basic_consume(&queue).on_message(Self::on_message).send()?;
        let parameters = channel.connection().parameters().clone();
        let publish = move |_: &mut Self, connection: &ConnectionHandle<Self>, opened: Result<()>| {
            opened?;
            Self::publish(connection, &queue)
        };
        self.publisher = Some(channel.connection().ioloop().connect(parameters).then(publish));
        Ok(())
    }

    fn publish(connection: &ConnectionHandle<Self>, queue: &ShortString) -> Result<()> {
        let channel = connection.channel().send()?;
        (1..=MESSAGES).try_for_each(|n| channel.basic_publish("", queue, format!("message {n}")).send())
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        self.consumed += 1;
        channel.basic_ack(delivery.delivery_tag)?;
        if self.consumed == MESSAGES {
            channel.connection().close().send()?;
            self.publisher.take().map_or(Ok(()), |publisher| publisher.close().send())?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let parameters: ConnectionParameters = url.parse()?;
    let mut ioloop = SelectLoop::new(PollerKind::Auto)?;
    ioloop.handle().connect(parameters).then(App::on_consumer_open);
    let mut app = App::default();
    ioloop.start(&mut app)?; // ends with the last connection
    println!("{} messages went from one connection to the other", app.consumed);
    Ok(())
}
