//! `.await` on tokio: several tasks publish over one connection and await their confirms, another takes a stream of messages.
//!
//!     cargo run --example tokio_stream --features tokio

use futures_lite::StreamExt;
use pooka::{ConnectionHandle, Consumer, PublishOutcome, ShortString, TokioConnection};
use tokio::task::JoinSet;

const PUBLISHERS: usize = 4;
const MESSAGES: usize = 25;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = TokioConnection::connect(url.parse()?).await?;
    let channel = connection.channel().await?;
    let queue = channel.queue_declare("").await?.queue;
    let consumer = channel.basic_consume(&queue).prefetch(20).await?;

    let consuming = tokio::spawn(consume(consumer));
    let publishing: JoinSet<_> =
        (1..=PUBLISHERS).map(|name| publish(connection.clone(), queue.clone(), name)).collect();
    for confirmed in publishing.join_all().await {
        println!("{} messages confirmed", confirmed?);
    }
    println!("{} messages consumed", consuming.await??);

    connection.close().await?;
    Ok(())
}

/// Publishes on a channel of its own, and gives the number of messages that the broker has taken.
async fn publish(connection: ConnectionHandle, queue: ShortString, name: usize) -> Result<usize> {
    let channel = connection.channel().await?;
    channel.confirm_select().await?;
    for n in 1..=MESSAGES {
        let body = format!("message {n} of publisher {name}");
        match channel.basic_publish("", &queue, &body).mandatory(true).await? {
            PublishOutcome::Acked => {}
            other => return Err(format!("{body} was not taken: {other:?}").into()),
        }
    }
    Ok(MESSAGES)
}

/// Takes all that is published. The consumer ends when it is dropped.
async fn consume(consumer: Consumer) -> Result<usize> {
    let channel = consumer.channel().clone();
    let mut messages = consumer.take(PUBLISHERS * MESSAGES);
    let mut consumed = 0;
    while let Some(message) = messages.try_next().await? {
        println!("got {:?}", String::from_utf8_lossy(&message.body));
        channel.basic_ack(message.delivery_tag)?;
        consumed += 1;
    }
    Ok(consumed)
}
