//! One program, and every adapter: it publishes with confirms, consumes its own messages, and says what happened.
//!
//!     cargo run --example every_adapter --features mio,smol,tokio -- --adapter mio

use pooka::{
    Channel, Connection, ConnectionHandle, ConnectionParameters, Delivery, Error, IoLoop, MioConnection,
    PublishOutcome, Result, SelectConnection, SmolConnection, TokioConnection, queue,
};

const MESSAGES: u32 = 10;

#[derive(Default)]
struct App {
    confirmed: u32,
    consumed: u32,
}

impl App {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        println!("connected");
        connection.add_on_close_callback(Self::on_closed);
        let channel = connection.channel().send()?;
        channel.confirm_select().send()?;
        channel.queue_declare("").then(Self::on_declared);
        Ok(())
    }

    fn on_declared(&mut self, channel: &Channel<Self>, declared: Result<queue::DeclareOk>) -> Result<()> {
        let queue = declared?.queue;
        channel.basic_consume(&queue).on_message(Self::on_message).send()?;
        for n in 1..=MESSAGES {
            let body = format!("message {n}");
            channel.basic_publish("", &queue, &body).mandatory(true).then(Self::on_outcome);
        }
        Ok(())
    }

    fn on_outcome(&mut self, channel: &Channel<Self>, outcome: Result<PublishOutcome>) -> Result<()> {
        match outcome? {
            PublishOutcome::Acked => self.confirmed += 1,
            other => println!("not taken: {other:?}"),
        }
        self.close_when_done(channel)
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        println!("got {:?}", String::from_utf8_lossy(delivery.body));
        self.consumed += 1;
        channel.basic_ack(delivery.delivery_tag)?;
        self.close_when_done(channel)
    }

    fn close_when_done(&self, channel: &Channel<Self>) -> Result<()> {
        if self.is_done() {
            channel.connection().close().send()?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        (self.confirmed, self.consumed) == (MESSAGES, MESSAGES)
    }

    fn on_closed(&mut self, _: &ConnectionHandle<Self>, reason: &Error) -> Result<()> {
        if self.is_done() { Ok(()) } else { Err(reason.clone()) }
    }
}

/// The program does not know its adapter.
fn run<C: Connection<App>>(parameters: ConnectionParameters) -> Result<App> {
    let mut connection = C::open(parameters, App::on_open)?;
    let mut app = App::default();
    connection.ioloop().start(&mut app)?;
    Ok(app)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let adapter = std::env::args().skip_while(|argument| argument != "--adapter").nth(1);
    let run = match adapter.as_deref().unwrap_or("select") {
        "select" => run::<SelectConnection<_>>,
        "mio" => run::<MioConnection<_>>,
        "tokio" => run::<TokioConnection<_>>,
        "smol" => run::<SmolConnection<_>>,
        other => return Err(format!("{other} is not one of: select mio tokio smol").into()),
    };
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let app = run(url.parse()?)?;
    println!("{} published and confirmed, {} consumed and acknowledged", app.confirmed, app.consumed);
    Ok(())
}
