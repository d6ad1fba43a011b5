//! pika's "heartbeats and blocked connection timeouts": how long to bear a broker that is silent, or short of memory.
//!
//!     ./run broker -- cargo run --example pika_heartbeat_and_blocked_timeouts --features blocking

use pooka::{BlockingConnection, ConnectionParameters, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let parameters: ConnectionParameters = url.parse()?;
    let parameters = parameters
        .into_builder()
        .heartbeat(Some(600))
        .blocked_connection_timeout(Some(Duration::from_secs(300)))
        .build()?;
    let connection = BlockingConnection::open(parameters)?;
    println!("heartbeat: {} s", connection.handle().heartbeat());
    println!("the broker tells when it blocks: {}", connection.has_capability("connection.blocked"));
    connection.add_on_connection_blocked_callback(|reason| println!("blocked: {reason}"));
    connection.add_on_connection_unblocked_callback(|| println!("unblocked"));

    let channel = connection.channel().call()?;
    let queue = channel.queue_declare("").call()?.queue;
    channel.confirm_select().call()?;
    // While the broker is blocked this waits, for 300 s at most. Then it is Error::BlockedTimeout, as is every later call.
    channel.basic_publish("", &queue, "abc").call()?;
    println!("published");
    connection.close().call()
}
