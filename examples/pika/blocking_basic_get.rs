//! pika's "using the blocking connection to get a message": basic_get, which says at once that a queue is empty.
//!
//!     ./run broker -- cargo run --example pika_blocking_basic_get --features blocking

use pooka::{BlockingConnection, Result};

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").exclusive(true).call()?.queue;
    channel.basic_publish("", &queue, "Hello World!").send()?;

    // Once there is a message, and once there is none.
    for _ in 0..2 {
        match channel.basic_get(&queue).call()? {
            Some(message) => {
                println!("got {:?}", String::from_utf8_lossy(&message.body));
                channel.basic_ack(message.delivery_tag)?;
            }
            None => println!("no message returned"),
        }
    }
    connection.close().call()
}
