//! Declares a queue, publishes ten messages into it, consumes them again, and says so.
//!
//!     cargo run --example quickstart -- --poller epoll

use pooka::{
    Channel, Connection, ConnectionHandle, Delivery, IoLoop, PollerKind, PublishOutcome, Result, SelectConnection,
    spec::queue,
};

const MESSAGES: u32 = 10;

#[derive(Default)]
struct Quickstart {
    confirmed: u32,
    consumed: u32,
}

impl Quickstart {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        let product = connection.server_properties().and_then(|properties| properties.get("product")?.as_str());
        println!("connected to {} ({connection:?})", product.unwrap_or("a broker"));
        connection.channel().then(Self::on_channel);
        Ok(())
    }

    fn on_channel(&mut self, channel: &Channel<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        channel.confirm_delivery(|_, _, _| ()).send()?;
        channel.queue_declare("").then(Self::on_declared);
        Ok(())
    }

    fn on_declared(&mut self, channel: &Channel<Self>, declared: Result<queue::DeclareOk>) -> Result<()> {
        let queue = declared?.queue;
        println!("declared the queue {queue}");
        channel.basic_consume(&queue).on_message(Self::on_message).send()?;
        for n in 1..=MESSAGES {
            let body = format!("message {n}");
            channel.basic_publish("", &queue, &body).mandatory(true).then(Self::on_outcome);
        }
        Ok(())
    }

    fn on_outcome(&mut self, channel: &Channel<Self>, outcome: Result<PublishOutcome>) -> Result<()> {
        assert_eq!(outcome?, PublishOutcome::Acked);
        self.confirmed += 1;
        self.close_when_done(channel)
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        self.consumed += 1;
        println!("got {:?}", String::from_utf8_lossy(delivery.body));
        channel.basic_ack(delivery.delivery_tag)?;
        self.close_when_done(channel)
    }

    fn close_when_done(&self, channel: &Channel<Self>) -> Result<()> {
        if (self.confirmed, self.consumed) == (MESSAGES, MESSAGES) {
            channel.connection().close().send()?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--poller").skip(1);
    let poller = arguments.next().map_or(Ok(PollerKind::Auto), |name| name.parse())?;
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());

    let mut connection = SelectConnection::open_with(poller, url.parse()?, Quickstart::on_open)?;
    println!("waiting with {}", connection.ioloop().poller());
    let mut state = Quickstart::default();
    connection.ioloop().start(&mut state)?;
    println!("{} published and confirmed, {} consumed and acknowledged", state.confirmed, state.consumed);
    Ok(())
}
