//! pika's examples do here what they do there, on a real RabbitMQ, and leave nothing behind.
#![allow(clippy::unwrap_used)]

#[path = "support/programs.rs"]
mod programs;

use pooka::{BlockingChannel, BlockingConnection, ConnectionParameters, Error};
use pooka_testkit::{Issued, Proxy, RabbitNode, broker_url};
use programs::{Running, output};
use std::{fs, net::TcpListener};

fn parameters() -> ConnectionParameters {
    broker_url().unwrap().parse().unwrap()
}

/// A name that no other run has.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn with_channel<R>(run: impl FnOnce(&BlockingChannel) -> R) -> R {
    let connection = BlockingConnection::open(parameters()).unwrap();
    let result = run(&connection.channel().call().unwrap());
    connection.close().call().unwrap();
    result
}

fn queue_exists(queue: &str) -> bool {
    with_channel(|channel| match channel.queue_declare(queue).passive(true).call() {
        Ok(_) => true,
        Err(Error::ChannelClosedByBroker { reason, .. }) if reason.code == 404 => false,
        Err(other) => panic!("{other}"),
    })
}

fn exchange_exists(exchange: &str) -> bool {
    with_channel(|channel| channel.exchange_declare(exchange).passive(true).call().is_ok())
}

#[test]
fn using_urlparameters() {
    let line = format!("{} is RabbitMQ\n", parameters().endpoint());
    assert_eq!(output("pika_using_urlparameters", &[]), line.repeat(2));
}

#[test]
fn callback_passing_style() {
    let said = "queue declared\nreceived \"Hello World!\"\n1 message received\n";
    assert_eq!(output("pika_callback_passing_style", &[]), said);
}

#[test]
fn blocking_basic_get() {
    assert_eq!(output("pika_blocking_basic_get", &[]), "got \"Hello World!\"\nno message returned\n");
}

#[test]
fn comparing_publishing() {
    let count = |name| format!("{name}: 3000 messages were in the queue\n");
    let said = [count("BlockingConnection"), count("SelectConnection")].concat();
    assert_eq!(output("pika_comparing_publishing", &["3000"]), said);
}

#[test]
fn what_the_asynchronous_publisher_publishes_the_asynchronous_consumer_consumes() {
    let queue = unique("pika-async");
    let said = output("pika_asynchronous_publisher", &["7", &queue]);
    assert!(said.ends_with("7 published, 7 acked, 0 nacked\n"), "{said}");
    let said = output("pika_asynchronous_consumer", &["7", &queue]);
    assert_eq!(said.matches("received message # ").count(), 7, "{said}");
    assert!(said.contains("received message # 7: message 7 مفتاح قيمة 键 值 キー 値"), "{said}");
    assert!(said.ends_with("7 messages consumed\n"), "{said}");
    assert!(!queue_exists(&queue) && !exchange_exists(&format!("{queue}-exchange")));
}

#[test]
fn blocking_consumer_generator() {
    let got: String = (1..=10).map(|n| format!("got \"message {n}\"\n")).collect();
    let said = output("pika_blocking_consumer_generator", &[]);
    let rest = said.strip_prefix(&got).unwrap().strip_prefix("requeued ").unwrap();
    let (requeued, more) = rest.split_once(' ').unwrap();
    // Those that had not arrived yet are requeued uncounted.
    assert!(requeued.parse::<u32>().unwrap() <= 5, "{said}");
    assert_eq!(more, "messages\ngot 5 messages more\n");
}

#[test]
fn blocking_consume() {
    let said = "1: \"hello\"\n2: \"how are you?\"\n3: \"goodbye\"\nno consumers left\n";
    assert_eq!(output("pika_blocking_consume", &[]), said);
}

#[test]
fn blocking_delivery_confirmations() {
    let said = "the message was confirmed\nthe message came back: NO_ROUTE\n";
    assert_eq!(output("pika_blocking_delivery_confirmations", &[]), said);
}

#[test]
fn headers() {
    assert_eq!(output("pika_headers", &[]), "received a pdf of 3 pages, draft: true\n");
}

#[test]
fn heartbeat_and_blocked_timeouts() {
    let said = "heartbeat: 600 s\nthe broker tells when it blocks: true\npublished\n";
    assert_eq!(output("pika_heartbeat_and_blocked_timeouts", &[]), said);
}

#[test]
fn direct_reply_to() {
    let server = "RPC server got request: Marco\nRPC server says good bye\n";
    let client = "RPC client got reply: Polo\nRPC client says bye\n";
    assert_eq!(output("pika_direct_reply_to", &[]), format!("{server}{client}"));
}

#[test]
fn tls_mutual_authentication() {
    let node = RabbitNode::start().unwrap();
    let Issued { certificate, key } = node.authority().client("guest").unwrap();
    let file = |name: &str, pem: &str| {
        let path = node.folder().join(name);
        fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("example.pem", &certificate), file("example.key", &key));
    let (port, ca) = (node.tls_port().to_string(), node.ca_file().display().to_string());
    let said = output("pika_tls_mutual_authentication", &["127.0.0.1", &port, &ca, &certificate, &key]);
    assert_eq!(said, "\"Hello, world!\" came back through TLS\n");
}

#[test]
fn basic_consumer_threaded() {
    let said = output("pika_basic_consumer_threaded", &[]);
    // Each worker prints before it acknowledges, and only then comes the next message.
    let worked: String = (1..=5).map(|n| format!("{n} letters in {:?}\n", "x".repeat(n))).collect();
    assert_eq!(said, format!("{worked}5 messages worked on, 0 left\n"));
}

#[test]
fn blocking_consume_recover_multiple_hosts() {
    let queue = unique("pika-recovery");
    let broker = parameters();
    let proxy = Proxy::start(broker.host(), broker.port()).unwrap();
    // A port where nobody listens, and nobody will.
    let nobody = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let nodes = [format!("amqp://{nobody}"), format!("amqp://127.0.0.1:{}", proxy.port())];
    let running = Running::start("pika_blocking_consume_recover_multiple_hosts", &[&queue, &nodes[0], &nodes[1]]);
    let publish = |body: &str| with_channel(|channel| channel.basic_publish("", &queue, body).send().unwrap());
    let connects = || {
        let [connecting, refused, again, consuming] = &running.lines(4)[..] else { unreachable!() };
        assert_eq!([connecting, again, consuming], ["connecting", "connecting", "consuming"]);
        assert!(
            refused.contains("cannot connect to 127.0.0.2") && refused.ends_with("trying the next host"),
            "{refused}"
        );
    };

    connects();
    publish("one");
    assert_eq!(running.line().unwrap(), "got \"one\"");
    proxy.cut();
    let lost = running.line().unwrap();
    assert!(lost.contains(" was lost: ") && lost.ends_with(", trying the next host"), "{lost}");
    publish("stop");
    connects();
    // Its acknowledgement may have been lost with the connection.
    let mut line = running.line().unwrap();
    if line == "got \"one\"" {
        line = running.line().unwrap();
    }
    assert_eq!(line, "got \"stop\"");
    assert_eq!(running.end(), ["stopped"]);
    assert!(!queue_exists(&queue));
}
