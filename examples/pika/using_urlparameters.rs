//! pika's examples for connecting: `URLParameters`, and `ConnectionParameters` field by field.
//!
//!     ./run broker -- cargo run --example pika_using_urlparameters --features blocking

use pooka::{BlockingConnection, ConnectionParameters, Result, Value, config::PlainCredentials};

fn connect(parameters: ConnectionParameters) -> Result<()> {
    let endpoint = parameters.endpoint();
    let connection = BlockingConnection::open(parameters)?;
    let product = connection.server_properties().and_then(|properties| properties.get("product"));
    println!("{endpoint} is {}", product.and_then(Value::as_str).unwrap_or("a broker"));
    connection.close().call()
}

fn main() -> Result<()> {
    // As pika.URLParameters. The vhost "/" is written %2F, or left out.
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let from_url: ConnectionParameters = url.parse()?;
    connect(from_url.clone())?;

    // As pika.ConnectionParameters, with keyword arguments for whatever differs from the defaults.
    let by_hand = ConnectionParameters::builder()
        .host(from_url.host())
        .port(from_url.port())
        .virtual_host("/")
        .credentials(PlainCredentials::new("guest", "guest"))
        .heartbeat(Some(600))
        .build()?;
    connect(by_hand)
}
