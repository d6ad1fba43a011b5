//! Many smol tasks over one connection: twenty clients ask, three workers answer, each on a channel of its own.
//!
//!     cargo run --example smol_tasks --features smol

use pooka::{BasicProperties, ConnectionHandle, ShortString, SmolConnection};

const CLIENTS: u64 = 20;
const WORKERS: u64 = 3;

/// RabbitMQ's direct reply-to: not a queue, but it is consumed from and published to like one.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    smol::block_on(run())
}

async fn run() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let (connecting, driver) = SmolConnection::pair(url.parse()?);
    let driver = smol::spawn(driver);
    let connection = connecting.await?;
    let requests = connection.channel().await?.queue_declare("").await?.queue;

    let workers: Vec<_> = (0..WORKERS).map(|_| smol::spawn(work(connection.clone(), requests.clone()))).collect();
    let clients: Vec<_> = (1..=CLIENTS).map(|n| smol::spawn(ask(connection.clone(), requests.clone(), n))).collect();
    for (n, client) in (1..).zip(clients) {
        println!("{n} squared is {}", client.await?);
    }
    drop(workers); // their tasks, and with them their consumers

    connection.close().await?;
    driver.await?;
    println!("{CLIENTS} clients were answered");
    Ok(())
}

/// Asks for the square of a number.
async fn ask(connection: ConnectionHandle, requests: ShortString, n: u64) -> Result<u64> {
    let channel = connection.channel().await?;
    let mut replies = channel.basic_consume(REPLY_TO).no_ack(true).capacity(1).await?;
    let properties = BasicProperties::new().reply_to(REPLY_TO);
    channel.basic_publish("", &requests, n.to_string()).properties(&properties).send()?;
    let reply = replies.next().await.ok_or("no reply")??;
    number(&reply.body)
}

/// Squares numbers until its task is dropped.
async fn work(connection: ConnectionHandle, requests: ShortString) -> Result<()> {
    let channel = connection.channel().await?;
    let mut requests = channel.basic_consume(requests).prefetch(1).await?;
    while let Some(request) = requests.next().await {
        let request = request?;
        let n = number(&request.body)?;
        if let Some(reply_to) = request.properties.reply_to {
            channel.basic_publish("", &reply_to, (n * n).to_string()).send()?;
        }
        channel.basic_ack(request.delivery_tag)?;
    }
    Ok(())
}

fn number(body: &[u8]) -> Result<u64> {
    Ok(std::str::from_utf8(body)?.parse()?)
}
