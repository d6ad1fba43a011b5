//! pika's "connection recovery with multiple hosts": consume, and begin again at the next host when the connection is lost.
//!
//!     cargo run --example pika_blocking_consume_recover_multiple_hosts --features blocking -- QUEUE URL...
//!
//! It ends, and deletes the queue, with a message that says `stop`.

use pooka::{BlockingChannel, BlockingConnection, ConnectionParameters, Error, Message, Result};
use std::{thread, time::Duration};

fn on_message(channel: &BlockingChannel, message: Message) -> Result<()> {
    println!("got {:?}", String::from_utf8_lossy(&message.body));
    channel.basic_ack(message.delivery_tag)?;
    if message.body == "stop" { channel.stop_consuming() } else { Ok(()) }
}

fn consume(queue: &str, parameters: ConnectionParameters) -> Result<()> {
    println!("connecting");
    let connection = BlockingConnection::open(parameters)?;
    let channel = connection.channel().call()?;
    channel.basic_qos(1).call()?;
    // A queue that survives its consumer's connection: messages wait there meanwhile.
    channel.queue_declare(queue).call()?;
    channel.basic_consume(queue).on_message(on_message)?;
    println!("consuming");
    channel.start_consuming()?;
    channel.queue_delete(queue).call()?;
    connection.close().call()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let queue = arguments.next().unwrap_or_else(|| "recovery-example".into());
    let mut nodes = arguments.map(|url| url.parse()).collect::<Result<Vec<ConnectionParameters>>>()?;
    if nodes.is_empty() {
        nodes.push(ConnectionParameters::default());
    }
    for parameters in nodes.into_iter().cycle() {
        match consume(&queue, parameters) {
            Ok(()) => break,
            // Do not recover if the broker, or rather its administrator, closed the connection.
            Err(error @ Error::ConnectionClosedByBroker { .. }) => return Err(error),
            // Do not recover on channel errors.
            Err(error) if error.is_channel_error() => return Err(error),
            // Recover on all other connection errors.
            Err(error) if error.is_connection_error() => println!("{error}, trying the next host"),
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(200));
    }
    println!("stopped");
    Ok(())
}
