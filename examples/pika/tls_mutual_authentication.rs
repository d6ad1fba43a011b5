//! pika's "TLS parameters" with mutual authentication: both sides show a certificate, and a message goes round.
//!
//!     cargo run --example pika_tls_mutual_authentication --features blocking,rustls -- HOST PORT CA CERTIFICATE KEY

use pooka::{BlockingConnection, ConnectionParameters, Result, TlsOptions};

fn round_trip(parameters: ConnectionParameters) -> Result<()> {
    let connection = BlockingConnection::open(parameters)?;
    let channel = connection.channel().call()?;
    let exchange = format!("pika-tls-{}", std::process::id());
    channel.exchange_declare(&exchange).auto_delete(true).call()?;
    let queue = channel.queue_declare("").call()?.queue;
    channel.queue_bind(&queue, &exchange).routing_key("foobar").call()?;
    channel.basic_publish(&exchange, "foobar", "Hello, world!").send()?;
    if let Some(message) = channel.basic_get(&queue).call()? {
        println!("{:?} came back through TLS", String::from_utf8_lossy(&message.body));
        channel.basic_ack(message.delivery_tag)?;
    }
    connection.close().call()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, ca, certificate, key] = &arguments[..] else {
        return Err("HOST PORT CA CERTIFICATE KEY".into());
    };
    // pika's ssl.create_default_context(cafile=…), load_cert_chain(…), and SSLOptions(context, server_hostname).
    let tls = TlsOptions::new().ca_file(ca).client_certificate_files(certificate, key).server_name("localhost");
    let parameters = ConnectionParameters::builder().host(host).port(port.parse()?).tls(tls).build()?;
    Ok(round_trip(parameters)?)
}
