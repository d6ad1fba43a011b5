//! pika's "using the BlockingChannel.consume generator": messages in a `for` loop, and what was not taken back in the queue.
//!
//!     ./run broker -- cargo run --example pika_blocking_consumer_generator --features blocking

use pooka::{BlockingConnection, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue;
    for n in 1..=15 {
        channel.basic_publish("", &queue, format!("message {n}")).send()?;
    }

    // Get ten messages and break out.
    let mut messages = channel.consume(&queue).call()?;
    for message in &mut messages {
        let message = message?;
        println!("got {:?}", String::from_utf8_lossy(&message.body));
        channel.basic_ack(message.delivery_tag)?;
        if message.delivery_tag.number() == 10 {
            break;
        }
    }
    // Cancel the consumer and give the rest back.
    println!("requeued {} messages", messages.cancel()?);

    // With an inactivity timeout the loop ends when the queue has been empty for so long.
    let mut left = 0;
    for message in channel.consume(&queue).inactivity_timeout(Duration::from_millis(500)) {
        channel.basic_ack(message?.delivery_tag)?;
        left += 1;
    }
    println!("got {left} messages more");
    connection.close().call()
}
