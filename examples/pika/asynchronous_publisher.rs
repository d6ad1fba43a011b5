//! pika's asynchronous publisher example, method by method: an exchange, a queue, a binding, confirms, a message every now and
//! then, and an orderly end after so many confirmed messages.
//!
//!     ./run broker -- cargo run --example pika_asynchronous_publisher [MESSAGES [QUEUE]]
//!
//! The messages wait in the queue for `pika_asynchronous_consumer`.

use pooka::{
    BasicProperties, Channel, Connection, ConnectionHandle, Error, IoLoop, Result, SelectConnection,
    message::Confirmation,
    spec::{exchange, queue},
};
use std::{collections::BTreeSet, time::Duration};

const EXCHANGE_TYPE: &str = "topic";
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);
const ROUTING_KEY: &str = "example.text";

#[derive(Default)]
struct ExamplePublisher {
    queue: String,
    exchange: String,
    channel: Option<Channel<Self>>,
    message_number: u64,
    /// Published, and not confirmed yet.
    deliveries: BTreeSet<u64>,
    acked: usize,
    nacked: usize,
    wanted: u64,
    stopping: bool,
}

impl ExamplePublisher {
    fn on_connection_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        println!("connection opened");
        connection.add_on_close_callback(Self::on_connection_closed);
        connection.channel().then(Self::on_channel_open);
        Ok(())
    }

    fn on_connection_closed(&mut self, _: &ConnectionHandle<Self>, reason: &Error) -> Result<()> {
        self.channel = None;
        println!("connection closed: {reason}");
        if self.stopping { Ok(()) } else { Err(reason.clone()) }
    }

    fn on_channel_open(&mut self, channel: &Channel<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        println!("channel opened");
        self.channel = Some(channel.clone());
        channel.add_on_close_callback(Self::on_channel_closed);
        let declare = channel.exchange_declare(&self.exchange).exchange_type(EXCHANGE_TYPE).auto_delete(true);
        declare.then(Self::on_exchange_declareok);
        Ok(())
    }

    fn on_channel_closed(&mut self, channel: &Channel<Self>, reason: &Error) {
        println!("channel closed: {reason}");
        self.channel = None;
        // The connection may be closing, or closed, already.
        let _ = channel.connection().close().send();
    }

    fn on_exchange_declareok(&mut self, channel: &Channel<Self>, ok: Result<exchange::DeclareOk>) -> Result<()> {
        ok?;
        println!("exchange declared");
        channel.queue_declare(&self.queue).then(Self::on_queue_declareok);
        Ok(())
    }

    fn on_queue_declareok(&mut self, channel: &Channel<Self>, ok: Result<queue::DeclareOk>) -> Result<()> {
        ok?;
        println!("binding the exchange to the queue with {ROUTING_KEY}");
        channel.queue_bind(&self.queue, &self.exchange).routing_key(ROUTING_KEY).then(Self::on_bindok);
        Ok(())
    }

    fn on_bindok(&mut self, channel: &Channel<Self>, ok: Result<queue::BindOk>) -> Result<()> {
        ok?;
        self.start_publishing(channel)
    }

    fn start_publishing(&mut self, channel: &Channel<Self>) -> Result<()> {
        channel.confirm_delivery(Self::on_delivery_confirmation).send()?;
        self.schedule_next_message(channel);
        Ok(())
    }

    fn on_delivery_confirmation(&mut self, channel: &Channel<Self>, confirmation: Confirmation) -> Result<()> {
        let Confirmation { delivery_tag, multiple, ack } = confirmation;
        let before = self.deliveries.len();
        self.deliveries.retain(|&tag| if multiple { tag > delivery_tag } else { tag != delivery_tag });
        let count = before - self.deliveries.len();
        if ack {
            self.acked += count;
        } else {
            self.nacked += count;
        }
        let done = self.message_number == self.wanted && self.deliveries.is_empty();
        if done { self.stop(channel) } else { Ok(()) }
    }

    fn schedule_next_message(&self, channel: &Channel<Self>) {
        channel.connection().ioloop().add_timeout(PUBLISH_INTERVAL, Self::publish_message);
    }

    fn publish_message(&mut self) -> Result<()> {
        let Some(channel) = self.channel.clone() else { return Ok(()) };
        if self.message_number == self.wanted {
            return Ok(());
        }
        self.message_number += 1;
        let properties = BasicProperties::new()
            .app_id("example-publisher")
            .content_type("text/plain")
            .header("مفتاح", "قيمة")
            .header("键", "值")
            .header("キー", "値");
        let body = format!("message {} مفتاح قيمة 键 值 キー 値", self.message_number);
        channel.basic_publish(&self.exchange, ROUTING_KEY, &body).properties(&properties).send()?;
        self.deliveries.insert(self.message_number);
        println!("published message # {}", self.message_number);
        self.schedule_next_message(&channel);
        Ok(())
    }

    fn stop(&mut self, channel: &Channel<Self>) -> Result<()> {
        self.stopping = true;
        channel.close().send()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().map_or(Ok(5), |number| number.parse())?;
    let queue = arguments.next().unwrap_or_else(|| "text".into());
    let exchange = format!("{queue}-exchange");
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let mut connection = SelectConnection::open(url.parse()?, ExamplePublisher::on_connection_open)?;
    let mut publisher = ExamplePublisher { queue, exchange, wanted, ..Default::default() };
    connection.ioloop().start(&mut publisher)?;
    println!("{} published, {} acked, {} nacked", publisher.message_number, publisher.acked, publisher.nacked);
    Ok(())
}
