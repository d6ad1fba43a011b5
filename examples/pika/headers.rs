//! pika's example of headers: a headers exchange, messages with headers, and a consumer that reads them.
//!
//!     ./run broker -- cargo run --example pika_headers --features blocking

use pooka::{BasicProperties, BlockingConnection, Result, Table, Value};
use std::time::Duration;

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let connection = BlockingConnection::open(url.parse()?)?;
    let channel = connection.channel().call()?;

    // It goes with the queue that is bound to it, and that with the connection.
    let exchange = format!("pika-headers-{}", std::process::id());
    channel.exchange_declare(&exchange).exchange_type("headers").auto_delete(true).call()?;
    let queue = channel.queue_declare("").call()?.queue;
    let wanted = Table::new().with("x-match", "all").with("format", "pdf").with("pages", 3);
    channel.queue_bind(&queue, &exchange).routing_key("").arguments(wanted).call()?;

    for (format, pages) in [("pdf", 3), ("pdf", 4), ("zip", 3)] {
        let properties = BasicProperties::new().header("format", format).header("pages", pages).header("draft", true);
        channel.basic_publish(&exchange, "", "a report").properties(&properties).send()?;
    }

    for message in channel.consume(&queue).inactivity_timeout(Duration::from_millis(500)) {
        let message = message?;
        let headers = message.properties.headers.unwrap_or_default();
        let format = headers.get("format").and_then(Value::as_str);
        let pages = headers.get("pages").and_then(Value::as_i64);
        let draft = headers.get("draft").and_then(Value::as_bool);
        println!(
            "received a {} of {} pages, draft: {}",
            format.unwrap_or("?"),
            pages.unwrap_or(0),
            draft == Some(true)
        );
        channel.basic_ack(message.delivery_tag)?;
    }
    connection.close().call()
}
