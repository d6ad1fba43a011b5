//! An event loop of one's own, in under a hundred lines: [adapter.rs](adapter.rs) is the adapter, and this uses it.
//!
//!     cargo run --example own_adapter

mod adapter;

use adapter::OwnConnection;
use pooka::{Connection, ConnectionHandle, IoLoop, Result};

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://localhost".into());
    let on_open = |_: &mut (), connection: &ConnectionHandle, opened: Result<()>| -> Result<()> {
        opened?;
        println!("open: {connection:?}");
        let channel = connection.channel().send()?;
        channel.queue_declare("").then(|(), channel, declared| -> Result<()> {
            let queue = declared?.queue;
            channel.basic_publish("", &queue, "Hello, poll").send()?;
            let consume = channel.basic_consume(&queue).no_ack(true);
            let consume = consume.on_message(|(), channel, delivery| {
                println!("got {}", String::from_utf8_lossy(delivery.body));
                channel.connection().close().send()
            });
            consume.send().map(drop)
        });
        Ok(())
    };
    OwnConnection::open(url.parse()?, on_open)?.ioloop().start(&mut ())
}
