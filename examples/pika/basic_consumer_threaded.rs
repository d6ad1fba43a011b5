//! pika's "ack messages from other threads": each message is worked on by a thread of its own, which acknowledges it.
//!
//!     ./run broker -- cargo run --example pika_basic_consumer_threaded --features blocking
//!
//! pika's worker sends its ack home with `add_callback_threadsafe`. Here channels are `Sync`: it acknowledges by itself.

use pooka::{BlockingChannel, BlockingConnection, DeliveryTag, Message, Result};
use std::{
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

const MESSAGES: u64 = 5;

/// Takes as long as it likes: the connection answers heartbeats meanwhile.
fn do_work(channel: &BlockingChannel, delivery_tag: DeliveryTag, body: &[u8]) -> Result<()> {
    println!("{} letters in {:?}", body.len(), String::from_utf8_lossy(body));
    channel.basic_ack(delivery_tag)
}

fn on_message(channel: &BlockingChannel, message: Message, threads: &Sender<JoinHandle<Result<()>>>) -> Result<()> {
    let worker = channel.clone();
    let thread = thread::spawn(move || do_work(&worker, message.delivery_tag, &message.body));
    let _ = threads.send(thread);
    if message.delivery_tag.number() == MESSAGES { channel.stop_consuming() } else { Ok(()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue;
    for n in 1..=MESSAGES {
        channel.basic_publish("", &queue, "x".repeat(n as usize)).send()?;
    }

    // The next message comes when the one before has been acknowledged.
    channel.basic_qos(1).call()?;
    let (started, threads) = mpsc::channel();
    channel.basic_consume(&queue).on_message(move |channel, message| on_message(channel, message, &started))?;
    channel.start_consuming()?;
    for thread in threads.try_iter() {
        thread.join().map_err(|_| "a worker panicked")??;
    }

    // What was not acknowledged is back in the queue behind this.
    channel.basic_recover().call()?;
    let left = channel.queue_delete(&queue).call()?.message_count;
    println!("{MESSAGES} messages worked on, {left} left");
    Ok(connection.close().call()?)
}
