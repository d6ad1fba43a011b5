//! pika's recipe for Ctrl-C: consume until then, stop the loop, ask for an orderly end, and let the loop go on until it is over.
//!
//!     cargo run --example ctrl_c -- QUEUE
//!
//! Messages are acknowledged ten at a time. What is unacknowledged at the end is back in the queue.

use pooka::{
    Channel, Connection, ConnectionHandle, Delivery, Error, IoLoop, Result, SelectConnection, ShortString, spec::basic,
};

const BATCH: u64 = 10;

#[derive(Default)]
struct App {
    queue: ShortString,
    consumer: Option<(Channel<Self>, ShortString)>,
    consumed: u64,
    acknowledged: u64,
}

impl App {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        connection.add_on_close_callback(Self::on_closed);
        let channel = connection.channel().send()?;
        let consume = channel.basic_consume(&self.queue).prefetch(100).on_message(Self::on_message);
        let consumer_tag = consume.then(Self::on_consuming);
        self.consumer = Some((channel, consumer_tag));
        Ok(())
    }

    fn on_consuming(&mut self, _: &Channel<Self>, ok: Result<basic::ConsumeOk>) -> Result<()> {
        ok?;
        println!("consuming from {}, until Ctrl-C", self.queue);
        Ok(())
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        println!("got {:?}", String::from_utf8_lossy(delivery.body));
        self.consumed += 1;
        if self.consumed % BATCH == 0 {
            channel.basic_ack_multiple(delivery.delivery_tag)?;
            self.acknowledged = self.consumed;
        }
        Ok(())
    }

    /// Ends the consumer, then the connection.
    fn stop(&mut self, connection: &ConnectionHandle<Self>) -> Result<()> {
        match self.consumer.take() {
            Some((channel, consumer_tag)) => channel.basic_cancel(consumer_tag).then(Self::on_cancelled),
            None => connection.close().send()?,
        }
        Ok(())
    }

    fn on_cancelled(&mut self, channel: &Channel<Self>, ok: Result<basic::CancelOk>) -> Result<()> {
        ok?;
        println!("cancelled");
        channel.connection().close().send()
    }

    fn on_closed(&mut self, _: &ConnectionHandle<Self>, reason: &Error) -> Result<()> {
        println!("closed: {reason}");
        match reason {
            Error::ConnectionClosedByClient { .. } => Ok(()),
            _ => Err(reason.clone()),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = std::env::args().nth(1).ok_or("which queue?")?;
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let mut connection = SelectConnection::open(url.parse()?, App::on_open)?;
    let ioloop = connection.ioloop().handle();
    ctrlc::set_handler(move || ioloop.stop())?;

    let mut app = App { queue: queue.into(), ..Default::default() };
    connection.ioloop().start(&mut app)?; // until Ctrl-C
    app.stop(connection.handle())?;
    connection.ioloop().start(&mut app)?; // until the connection is closed
    println!("{} consumed, {} acknowledged", app.consumed, app.acknowledged);
    Ok(())
}
