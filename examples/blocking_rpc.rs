//! Calls over a queue with direct reply-to, by threads that wait: a server that computes Fibonacci numbers, and a client.
//!
//!     cargo run --example blocking_rpc --features blocking

use pooka::{BasicProperties, BlockingChannel, BlockingConnection, ConnectionParameters, Message, Result};
use std::{sync::mpsc, thread, time::Duration};

/// RabbitMQ's name for the answers to whoever consumes from it, on the channel that it asks on.
const REPLIES: &str = "amq.rabbitmq.reply-to";

fn fibonacci(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// Answers until it is told to stop.
fn serve(parameters: ConnectionParameters, ready: mpsc::Sender<String>) -> Result<u32> {
    let connection = BlockingConnection::open(parameters)?;
    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue.to_string();
    // One at a time: other servers of the same queue would have the rest.
    channel.basic_qos(1).call()?;
    let mut requests = channel.consume(&queue).call()?;
    let _ = ready.send(queue);
    let mut answered = 0;
    for request in &mut requests {
        let request = request?;
        channel.basic_ack(request.delivery_tag)?;
        let Message { properties: BasicProperties { reply_to: Some(reply_to), correlation_id, .. }, body, .. } =
            request
        else {
            break; // nobody waits for an answer: it is the end
        };
        let n = String::from_utf8_lossy(&body).parse().unwrap_or(0);
        let properties = BasicProperties { correlation_id, ..Default::default() };
        channel.basic_publish("", &reply_to, fibonacci(n).to_string()).properties(&properties).send()?;
        answered += 1;
    }
    requests.cancel()?;
    connection.close().call()?;
    Ok(answered)
}

/// Asks, and waits for the answer with the same number.
fn call(
    channel: &BlockingChannel,
    replies: &mut pooka::request::BlockingConsumer,
    queue: &str,
    n: u64,
) -> Result<Option<String>> {
    let properties = BasicProperties::new().reply_to(REPLIES).correlation_id(n.to_string());
    channel.basic_publish("", queue, n.to_string()).properties(&properties).mandatory(true).call()?;
    while let Some(reply) = replies.next_within(Duration::from_secs(10))? {
        if reply.properties.correlation_id.is_some_and(|id| id == *n.to_string()) {
            return Ok(Some(String::from_utf8_lossy(&reply.body).into_owned()));
        }
    }
    Ok(None)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let parameters: ConnectionParameters = url.parse()?;
    let (ready, queue) = mpsc::channel();
    let served = parameters.clone();
    let server = thread::spawn(move || serve(served, ready));
    let queue = queue.recv()?;

    let connection = BlockingConnection::open(parameters)?;
    let channel = connection.channel().call()?;
    let mut replies = channel.consume(REPLIES).no_ack(true).capacity(100).call()?;
    for n in [1, 10, 30, 90] {
        match call(&channel, &mut replies, &queue, n)? {
            Some(answer) => println!("fibonacci({n}) = {answer}"),
            None => println!("fibonacci({n}) was not answered"),
        }
    }
    channel.basic_publish("", &queue, "stop").send()?;
    let answered = server.join().map_err(|_| "the server panicked")??;
    println!("{answered} calls answered");
    connection.close().call()?;
    Ok(())
}
