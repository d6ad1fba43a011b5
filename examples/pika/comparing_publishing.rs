//! pika's "comparing message publishing with BlockingConnection and SelectConnection": the same messages by both.
//!
//!     ./run broker -- cargo run --release --example pika_comparing_publishing --features blocking [MESSAGES]

use pooka::{
    BasicProperties, BlockingConnection, Channel, Connection, ConnectionHandle, ConnectionParameters, IoLoop, Result,
    SelectConnection, spec::queue,
};
use std::time::Instant;

const BODY: &str = "Hello World!";

fn properties() -> BasicProperties {
    BasicProperties::new().content_type("text/plain").delivery_mode(1)
}

/// One call behind the other.
fn blocking(parameters: ConnectionParameters, messages: u32) -> Result<u32> {
    let connection = BlockingConnection::open(parameters)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue;
    let properties = properties();
    for _ in 0..messages {
        channel.basic_publish("", &queue, BODY).properties(&properties).send()?;
    }
    // Behind everything that was published; a declare would overtake it in the broker.
    let count = channel.queue_purge(&queue).call()?.message_count;
    connection.close().call()?;
    Ok(count)
}

/// One callback behind the other.
#[derive(Default)]
struct Publisher {
    messages: u32,
    count: u32,
}

impl Publisher {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        connection.channel().then(Self::on_channel_open);
        Ok(())
    }

    fn on_channel_open(&mut self, channel: &Channel<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        channel.queue_declare("").then(Self::on_queue_declared);
        Ok(())
    }

    fn on_queue_declared(&mut self, channel: &Channel<Self>, ok: Result<queue::DeclareOk>) -> Result<()> {
        let queue = ok?.queue;
        let properties = properties();
        for _ in 0..self.messages {
            channel.basic_publish("", &queue, BODY).properties(&properties).send()?;
        }
        channel.queue_purge(&queue).then(Self::on_queue_purged);
        Ok(())
    }

    fn on_queue_purged(&mut self, channel: &Channel<Self>, ok: Result<queue::PurgeOk>) -> Result<()> {
        self.count = ok?.message_count;
        channel.connection().close().send()
    }
}

fn select(parameters: ConnectionParameters, messages: u32) -> Result<u32> {
    let mut connection = SelectConnection::open(parameters, Publisher::on_open)?;
    let mut publisher = Publisher { messages, count: 0 };
    connection.ioloop().start(&mut publisher)?;
    Ok(publisher.count)
}

fn timed(name: &str, publish: impl FnOnce() -> Result<u32>) -> Result<()> {
    let begun = Instant::now();
    println!("{name}: {} messages were in the queue", publish()?);
    eprintln!("{name}: {:.3} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages = std::env::args().nth(1).map_or(Ok(10_000), |number| number.parse())?;
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let parameters: ConnectionParameters = url.parse()?;
    timed("BlockingConnection", || blocking(parameters.clone(), messages))?;
    timed("SelectConnection", || select(parameters.clone(), messages))?;
    Ok(())
}
