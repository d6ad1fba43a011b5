//! pika's "connecting with callback-passing style": each function asks for something and names the one that goes on.
//!
//!     ./run broker -- cargo run --example pika_callback_passing_style

use pooka::{Channel, Connection, ConnectionHandle, Delivery, IoLoop, Result, SelectConnection, spec::queue};

/// What pika's example keeps in globals: it is lent to every callback.
#[derive(Default)]
struct Globals {
    received: u32,
}

/// Step 2: the connection is open.
fn on_connected(_: &mut Globals, connection: &ConnectionHandle<Globals>, opened: Result<()>) -> Result<()> {
    opened?;
    connection.channel().then(on_channel_open);
    Ok(())
}

/// Step 3: the channel is open.
fn on_channel_open(_: &mut Globals, channel: &Channel<Globals>, opened: Result<()>) -> Result<()> {
    opened?;
    channel.queue_declare("").exclusive(true).then(on_queue_declared);
    Ok(())
}

/// Step 4: the broker has made a queue, and a name for it.
fn on_queue_declared(_: &mut Globals, channel: &Channel<Globals>, ok: Result<queue::DeclareOk>) -> Result<()> {
    let queue = ok?.queue;
    println!("queue declared");
    channel.basic_consume(&queue).on_message(handle_delivery).send()?;
    channel.basic_publish("", &queue, "Hello World!").send()
}

/// Step 5: a message.
fn handle_delivery(globals: &mut Globals, channel: &Channel<Globals>, delivery: Delivery<'_>) -> Result<()> {
    println!("received {:?}", String::from_utf8_lossy(delivery.body));
    globals.received += 1;
    channel.basic_ack(delivery.delivery_tag)?;
    channel.connection().close().send()
}

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    // Step 1: connect, and let the loop run until the connection is closed.
    let mut connection = SelectConnection::open(url.parse()?, on_connected)?;
    let mut globals = Globals::default();
    connection.ioloop().start(&mut globals)?;
    println!("{} message received", globals.received);
    Ok(())
}
