//! pika's "using delivery confirmations with the BlockingConnection" and "ensuring delivery with the mandatory flag".
//!
//!     ./run broker -- cargo run --example pika_blocking_delivery_confirmations --features blocking

use pooka::{BasicProperties, BlockingConnection, Error, Result};

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue.to_string();

    // pika's confirm_delivery(): from now on .call() waits for the broker's confirm, while .send() would not.
    channel.confirm_select().call()?;

    let properties = BasicProperties::new().content_type("text/plain").persistent();
    for routing_key in [&queue, "no such queue"] {
        let publish = channel.basic_publish("", routing_key, "Hello World!").properties(&properties);
        match publish.mandatory(true).call() {
            Ok(()) => println!("the message was confirmed"),
            Err(Error::Unroutable(message)) => println!("the message came back: {}", message.reply_text),
            Err(Error::Nacked { .. }) => println!("the broker refused the message"),
            Err(other) => return Err(other), // nobody knows whether the broker has it
        }
    }
    connection.close().call()
}
