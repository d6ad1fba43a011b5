//! pika's "direct reply-to": a server and a client of RabbitMQ's pseudo-queue for answers, on one channel.
//!
//!     ./run broker -- cargo run --example pika_direct_reply_to --features blocking

use pooka::{BasicProperties, BlockingChannel, BlockingConnection, Message, Result};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The server: answers to where the request says.
fn on_server_rx_rpc_request(channel: &BlockingChannel, request: Message) -> Result<()> {
    println!("RPC server got request: {}", String::from_utf8_lossy(&request.body));
    let reply_to = request.properties.reply_to.unwrap_or_default();
    channel.basic_publish("", &reply_to, "Polo").send()?;
    channel.basic_ack(request.delivery_tag)?;
    println!("RPC server says good bye");
    Ok(())
}

/// The client: has its answer.
fn on_client_rx_reply_from_server(channel: &BlockingChannel, reply: Message) -> Result<()> {
    println!("RPC client got reply: {}", String::from_utf8_lossy(&reply.body));
    println!("RPC client says bye");
    channel.close().call().map(drop)
}

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;

    let server_queue = channel.queue_declare("").exclusive(true).auto_delete(true).call()?.queue;
    channel.basic_consume(&server_queue).on_message(on_server_rx_rpc_request)?;

    // Answers can only be consumed on the channel that asks, and without acknowledgements.
    channel.basic_consume(REPLY_TO).no_ack(true).on_message(on_client_rx_reply_from_server)?;
    let properties = BasicProperties::new().reply_to(REPLY_TO);
    channel.basic_publish("", &server_queue, "Marco").properties(&properties).send()?;

    channel.start_consuming()?; // until the client has closed the channel
    connection.close().call()
}
