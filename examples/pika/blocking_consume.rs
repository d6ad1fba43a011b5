//! pika's "using the BlockingConnection to consume messages": basic_consume with a callback, and start_consuming.
//!
//!     ./run broker -- cargo run --example pika_blocking_consume --features blocking

use pooka::{BlockingChannel, BlockingConnection, Message, Result};

fn on_message(channel: &BlockingChannel, message: Message) -> Result<()> {
    println!("{}: {:?}", message.delivery_tag, String::from_utf8_lossy(&message.body));
    channel.basic_ack(message.delivery_tag)?;
    if message.body == "goodbye" { channel.stop_consuming() } else { Ok(()) }
}

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue;
    for body in ["hello", "how are you?", "goodbye"] {
        channel.basic_publish("", &queue, body).send()?;
    }
    channel.basic_consume(&queue).on_message(on_message)?;
    channel.start_consuming()?;
    println!("no consumers left");
    connection.close().call()
}
