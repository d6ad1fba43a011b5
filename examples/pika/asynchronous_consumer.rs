//! pika's asynchronous consumer example, method by method: an exchange, a queue, a binding, a prefetch of one, a consumer,
//! and an orderly end after so many messages.
//!
//!     ./run broker -- cargo run --example pika_asynchronous_consumer [MESSAGES [QUEUE]]
//!
//! Unlike pika's it deletes the queue in the end, and the exchange goes with the queue.

use pooka::{
    Channel, Connection, ConnectionHandle, Delivery, Error, IoLoop, Result, SelectConnection, ShortString,
    spec::{basic, exchange, queue},
};

const EXCHANGE_TYPE: &str = "topic";
const ROUTING_KEY: &str = "example.text";

struct ExampleConsumer {
    queue: String,
    exchange: String,
    channel: Option<Channel<Self>>,
    consumer_tag: Option<ShortString>,
    closing: bool,
    consumed: u32,
    wanted: u32,
}

impl ExampleConsumer {
    fn on_connection_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        println!("connection opened");
        connection.add_on_close_callback(Self::on_connection_closed);
        self.open_channel(connection);
        Ok(())
    }

    fn on_connection_closed(&mut self, _: &ConnectionHandle<Self>, reason: &Error) -> Result<()> {
        self.channel = None;
        println!("connection closed: {reason}");
        if self.closing { Ok(()) } else { Err(reason.clone()) }
    }

    fn open_channel(&self, connection: &ConnectionHandle<Self>) {
        connection.channel().then(Self::on_channel_open);
    }

    fn on_channel_open(&mut self, channel: &Channel<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        println!("channel opened");
        self.channel = Some(channel.clone());
        channel.add_on_close_callback(Self::on_channel_closed);
        self.setup_exchange(channel);
        Ok(())
    }

    fn on_channel_closed(&mut self, channel: &Channel<Self>, reason: &Error) {
        println!("channel closed: {reason}");
        // The connection may be closing, or closed, already.
        let _ = channel.connection().close().send();
    }

    fn setup_exchange(&self, channel: &Channel<Self>) {
        let declare = channel.exchange_declare(&self.exchange).exchange_type(EXCHANGE_TYPE).auto_delete(true);
        declare.then(Self::on_exchange_declareok);
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
        channel.basic_qos(1).then(Self::on_basic_qos_ok);
        Ok(())
    }

    fn on_basic_qos_ok(&mut self, channel: &Channel<Self>, ok: Result<basic::QosOk>) -> Result<()> {
        ok?;
        channel.add_on_cancel_callback(Self::on_consumer_cancelled);
        self.consumer_tag = Some(channel.basic_consume(&self.queue).on_message(Self::on_message).send()?);
        println!("consuming");
        Ok(())
    }

    fn on_consumer_cancelled(&mut self, channel: &Channel<Self>, tag: &ShortString) -> Result<()> {
        println!("the broker cancelled the consumer {tag}");
        channel.close().send()
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        self.consumed += 1;
        println!("received message # {}: {}", delivery.delivery_tag, String::from_utf8_lossy(delivery.body));
        channel.basic_ack(delivery.delivery_tag)?;
        if self.consumed == self.wanted {
            self.stop();
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.closing = true;
        if let (Some(channel), Some(tag)) = (&self.channel, &self.consumer_tag) {
            channel.basic_cancel(tag).then(Self::on_cancelok);
        }
    }

    fn on_cancelok(&mut self, channel: &Channel<Self>, ok: Result<basic::CancelOk>) -> Result<()> {
        ok?;
        println!("the broker acknowledged the end of the consumer");
        channel.queue_delete(&self.queue).send()?;
        channel.close().send()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().map_or(Ok(5), |number| number.parse())?;
    let queue = arguments.next().unwrap_or_else(|| "text".into());
    let exchange = format!("{queue}-exchange");
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let mut connection = SelectConnection::open(url.parse()?, ExampleConsumer::on_connection_open)?;
    let mut consumer =
        ExampleConsumer { queue, exchange, channel: None, consumer_tag: None, closing: false, consumed: 0, wanted };
    connection.ioloop().start(&mut consumer)?;
    println!("{} messages consumed", consumer.consumed);
    Ok(())
}
