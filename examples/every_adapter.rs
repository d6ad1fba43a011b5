//! One program, and every adapter: it publishes with confirms, consumes its own messages, and says what happened.
//!
//!     cargo run --example every_adapter --features blocking,mio,smol,tokio -- --adapter mio
//!
//! It is awaited, which all adapters can; `asynchronous_consumer` is a program of callbacks, for any adapter but `blocking`.

use pooka::{
    BlockingConnection, ConnectionHandle, ConnectionParameters, IoLoop, MioLoop, PublishOutcome, Result, SelectLoop,
    SmolConnection, TokioConnection,
};
use std::thread;

const MESSAGES: u32 = 10;

/// The program does not know its adapter.
async fn program(connection: ConnectionHandle) -> Result<()> {
    println!("connected");
    let channel = connection.channel().await?;
    channel.confirm_select().await?;
    let queue = channel.queue_declare("").await?.queue;
    let mut messages = channel.basic_consume(&queue).await?;

    let mut confirmed = 0;
    for n in 1..=MESSAGES {
        let body = format!("message {n}");
        match channel.basic_publish("", &queue, &body).mandatory(true).await? {
            PublishOutcome::Acked => confirmed += 1,
            other => println!("not taken: {other:?}"),
        }
    }
    let mut consumed = 0;
    while consumed < confirmed {
        let Some(message) = messages.next().await else { break };
        let message = message?;
        println!("got {:?}", String::from_utf8_lossy(&message.body));
        channel.basic_ack(message.delivery_tag)?;
        consumed += 1;
    }
    println!("{confirmed} published and confirmed, {consumed} consumed and acknowledged");
    connection.close().await
}

/// A loop on a thread of its own, and the program on this one.
fn beside(
    mut ioloop: impl IoLoop<()> + Send + 'static,
    connecting: impl IntoFuture<Output = Result<ConnectionHandle>>,
) -> Result<()> {
    thread::spawn(move || ioloop.start(&mut ()));
    smol::block_on(async { program(connecting.await?).await })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let parameters: ConnectionParameters = url.parse()?;
    let adapter = std::env::args().skip_while(|argument| argument != "--adapter").nth(1);
    match adapter.as_deref().unwrap_or("select") {
        "select" => {
            let ioloop = SelectLoop::new(Default::default())?;
            let connecting = ioloop.handle().connect(parameters);
            beside(ioloop, connecting)?;
        }
        "mio" => {
            let ioloop = MioLoop::new()?;
            let connecting = ioloop.handle().connect(parameters);
            beside(ioloop, connecting)?;
        }
        "tokio" => tokio::runtime::Runtime::new()?
            .block_on(async { program(TokioConnection::connect(parameters).await?).await })?,
        "smol" => smol::block_on(async {
            let (connecting, driver) = SmolConnection::pair(parameters);
            smol::spawn(driver).detach();
            program(connecting.await?).await
        })?,
        "blocking" => {
            let connection = BlockingConnection::open(parameters)?;
            connection.block_on(program(connection.handle().clone()))??;
        }
        other => return Err(format!("{other} is not one of: select mio tokio smol blocking").into()),
    }
    Ok(())
}
