//! docs/broker-differences.md says what this broker does.
//!
//! Where it does not, the failure shows what was measured, in the form of the table.
#![allow(clippy::unwrap_used)]

use pooka::{
    BlockingChannel, BlockingConnection, ConnectionParameters, Error, Result, Table, config::ParametersBuilder,
    error::CloseReason,
};
use pooka_testkit::RabbitNode;
use std::{
    io::{Read, Write},
    net::TcpStream,
    ops::Deref,
    time::Duration,
};

/// With every deprecated feature denied where that can be done.
#[test]
fn what_the_table_says_of_a_broker_is_what_it_does() {
    let node = RabbitNode::start().unwrap();
    let version = version(&node);
    let told = told(&version);
    let name = format!("{}@localhost", node.folder().file_name().unwrap().to_string_lossy());
    let measure =
        |(row, measure): &(&str, fn(&RabbitNode) -> String)| ((*row).to_owned(), measure(&node).replace(&name, "NODE"));
    let measured: Vec<_> = ROWS.iter().map(measure).collect();
    let shown: String = measured.iter().map(|(row, reply)| format!("| {row} | {reply} |\n")).collect();
    assert!(told == measured, "RabbitMQ {version} does this:\n{shown}but the table says:\n{told:#?}");
}

/// A deprecated feature is denied to a node of RabbitMQ 4 unless it is permitted.
#[test]
fn a_permitted_feature_can_be_asked_for() {
    let permit = "deprecated_features.permit.global_qos = true\n";
    let is_4 = RabbitNode::start().unwrap().major() >= 4;
    let node = RabbitNode::start_with(if is_4 { permit } else { "" }).unwrap();
    assert_eq!(under_qos(&node), 1);
}

/// Says what the broker answered.
type Measure = fn(&RabbitNode) -> String;

/// What is measured, on a node whose guest may do everything.
const ROWS: &[(&str, Measure)] = &[
    ("connection.tune: channels, octets of a frame, heartbeat", tune),
    ("a frame_max of 4096 in connection.tune-ok", |node| {
        said(opened(&node.url(), |builder| builder.frame_max(4096)).map(|connection| connection.close().call()))
    }),
    ("connection.start-ok in a frame of 4104 octets", |node| start_ok(node, 4104)),
    ("connection.start-ok in a frame of 4105 octets", |node| start_ok(node, 4105)),
    ("a wrong password", |node| said(opened(&node.url().replace("guest:guest", "guest:wrong"), |builder| builder))),
    ("a virtual host that is not there", |node| said(opened(&node.url().replace("%2F", "nowhere"), |builder| builder))),
    ("a virtual host that the user may not enter", |node| {
        node.ctl(&["add_vhost", "closed"]).unwrap();
        said(opened(&node.url().replace("%2F", "closed"), |builder| builder))
    }),
    ("one connection more than the virtual host may have", |node| {
        node.ctl(&["add_vhost", "full"]).unwrap();
        node.ctl(&["set_permissions", "-p", "full", "guest", ".*", ".*", ".*"]).unwrap();
        node.ctl(&["set_vhost_limits", "-p", "full", r#"{"max-connections": 0}"#]).unwrap();
        said(opened(&node.url().replace("%2F", "full"), |builder| builder))
    }),
    ("one queue more than the virtual host may have", |node| {
        node.ctl(&["add_vhost", "small"]).unwrap();
        node.ctl(&["set_permissions", "-p", "small", "guest", ".*", ".*", ".*"]).unwrap();
        node.ctl(&["set_vhost_limits", "-p", "small", r#"{"max-queues": 0}"#]).unwrap();
        let connection = opened(&node.url().replace("%2F", "small"), |builder| builder).unwrap();
        said(connection.channel().call().unwrap().queue_declare("q").call())
    }),
    ("one connection more than the user may have", |node| {
        limited(node, "lonely", r#"{"max-connections": 0}"#);
        said(opened(&as_user(node, "lonely"), |builder| builder))
    }),
    ("one channel more than the user may have", |node| {
        limited(node, "quiet", r#"{"max-channels": 1}"#);
        let connection = opened(&as_user(node, "quiet"), |builder| builder).unwrap();
        let _first = connection.channel().call().unwrap();
        said(connection.channel().call())
    }),
    ("a declare without the permission to configure", |node| {
        limited(node, "reader", "{}");
        node.ctl(&["set_permissions", "reader", "", "", ".*"]).unwrap();
        let connection = opened(&as_user(node, "reader"), |builder| builder).unwrap();
        said(connection.channel().call().unwrap().queue_declare("q").call())
    }),
    ("queue.declare, passive, of one that is not there", |node| {
        said(channel(node).queue_declare("none").passive(true).call())
    }),
    ("queue.declare with another auto_delete than it has", |node| {
        let channel = channel(node);
        channel.queue_declare("kept").call().unwrap();
        said(channel.queue_declare("kept").auto_delete(true).call())
    }),
    ("queue.declare of one that is neither durable nor exclusive", |node| {
        said(channel(node).queue_declare("transient").durable(false).call())
    }),
    ("queue.declare with `x-queue-master-locator`", |node| {
        let arguments = Table::new().with("x-queue-master-locator", "client-local");
        said(channel(node).queue_declare("located").arguments(arguments).call())
    }),
    ("queue.declare with an `x-queue-type` that is not there", |node| {
        let arguments = Table::new().with("x-queue-type", "heap");
        said(channel(node).queue_declare("heap").arguments(arguments).call())
    }),
    ("queue.declare of a quorum queue that is not durable", |node| {
        let arguments = Table::new().with("x-queue-type", "quorum");
        said(channel(node).queue_declare("quick").durable(false).arguments(arguments).call())
    }),
    ("queue.declare with a negative `x-message-ttl`", |node| {
        let arguments = Table::new().with("x-message-ttl", -1);
        said(channel(node).queue_declare("past").arguments(arguments).call())
    }),
    ("queue.declare of another connection's exclusive queue", |node| {
        let owner = channel(node);
        owner.queue_declare("mine").exclusive(true).durable(false).call().unwrap();
        said(channel(node).queue_declare("mine").exclusive(true).durable(false).call())
    }),
    ("queue.delete of one that is not there", |node| said(channel(node).queue_delete("none").call())),
    ("queue.bind of one that is not there", |node| said(channel(node).queue_bind("none", "amq.direct").call())),
    ("exchange.declare of a type that is not there", |node| {
        said(channel(node).exchange_declare("e").exchange_type("x-none").call())
    }),
    ("exchange.declare, passive, of one that is not there", |node| {
        said(channel(node).exchange_declare("none").passive(true).call())
    }),
    ("basic.publish to an exchange that is not there", |node| {
        let channel = channel(node);
        channel.confirm_select().call().unwrap();
        said(channel.basic_publish("none", "key", "").call())
    }),
    ("basic.publish of 16 MiB and an octet", |node| {
        let channel = channel(node);
        channel.confirm_select().call().unwrap();
        said(channel.basic_publish("", "none", vec![0; (16 << 20) + 1]).call())
    }),
    ("basic.publish of 128 MiB and an octet", |node| {
        let channel = channel(node);
        channel.confirm_select().call().unwrap();
        said(channel.basic_publish("", "none", vec![0; (128 << 20) + 1]).call())
    }),
    ("messages that two consumers have after basic.qos of 1 for all of the channel", |node| {
        under_qos(node).to_string()
    }),
    ("basic.get of a queue that is not there", |node| said(channel(node).basic_get("none").call())),
    ("basic.consume of a queue that is not there", |node| said(channel(node).consume("none").call())),
    ("basic.consume of a queue that has an exclusive consumer", |node| {
        let channel = channel(node);
        channel.queue_declare("taken").call().unwrap();
        let _consumer = channel.consume("taken").exclusive(true).call().unwrap();
        said(channel.consume("taken").call())
    }),
    ("basic.ack of what was acknowledged before", |node| {
        let channel = channel(node);
        let queue = channel.queue_declare("").call().unwrap().queue;
        channel.basic_publish("", &queue, "").send().unwrap();
        let message = channel.basic_get(&queue).call().unwrap().unwrap();
        channel.basic_ack(message.delivery_tag).unwrap();
        channel.basic_ack(message.delivery_tag).unwrap();
        said(channel.queue_declare("").call())
    }),
    ("a quorum queue's message that is always requeued", |node| requeued(node, "again", Table::new())),
    ("the same with an `x-delivery-limit` of -1", |node| {
        requeued(node, "for ever", Table::new().with("x-delivery-limit", -1))
    }),
    ("headers of a quorum queue's message that comes the second time", second_headers),
    ("`rabbitmqctl close_all_connections carrots`", |node| {
        let connection = opened(&node.url(), |builder| builder).unwrap();
        node.ctl(&["close_all_connections", "carrots"]).unwrap();
        while connection.is_open() {
            let _ = connection.process_data_events(Duration::from_secs(1));
        }
        said::<()>(Err(connection.close_reason().unwrap()))
    }),
    ("capabilities", capabilities),
];

/// The rows of the tables for a version: those that differ have a column for each version, the others one for all.
fn told(version: &str) -> Vec<(String, String)> {
    let text = include_str!("../docs/broker-differences.md");
    let mut column = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !line.starts_with('|') || cells[0].starts_with("--") {
            continue;
        }
        if cells[0] == "What" {
            let is_ours = |cell: &&str| *cell == "all" || *cell == version;
            column = Some(cells.iter().position(is_ours).unwrap_or_else(|| panic!("no column for RabbitMQ {version}")));
        } else {
            rows.push((cells[0].to_owned(), cells[column.unwrap()].to_owned()));
        }
    }
    // As they are measured.
    rows.sort_by_key(|(row, _)| ROWS.iter().position(|(measured, _)| measured == row));
    rows
}

/// "4.0" of "4.0.5".
fn version(node: &RabbitNode) -> String {
    let connection = opened(&node.url(), |builder| builder).unwrap();
    let version = connection.server_properties().unwrap().get("version").unwrap().as_str().unwrap().to_owned();
    let (minor, _) = version.rsplit_once('.').unwrap();
    minor.to_owned()
}

fn opened(url: &str, with: impl FnOnce(ParametersBuilder) -> ParametersBuilder) -> Result<BlockingConnection> {
    BlockingConnection::open(with(url.parse::<ConnectionParameters>()?.into_builder()).build()?)
}

/// A channel on a connection of its own.
struct Channel {
    channel: BlockingChannel,
    _connection: BlockingConnection,
}

impl Deref for Channel {
    type Target = BlockingChannel;

    fn deref(&self) -> &BlockingChannel {
        &self.channel
    }
}

fn channel(node: &RabbitNode) -> Channel {
    let connection = opened(&node.url(), |builder| builder).unwrap();
    Channel { channel: connection.channel().call().unwrap(), _connection: connection }
}

/// Makes a user with these limits, who may do everything.
fn limited(node: &RabbitNode, user: &str, limits: &str) {
    node.ctl(&["add_user", user, "password"]).unwrap();
    node.ctl(&["set_permissions", user, ".*", ".*", ".*"]).unwrap();
    node.ctl(&["set_user_limits", user, limits]).unwrap();
}

fn as_user(node: &RabbitNode, user: &str) -> String {
    node.url().replace("guest:guest", &format!("{user}:password"))
}

/// What the broker said, and what it closed with that.
fn said<T>(outcome: Result<T>) -> String {
    let (what, reason) = match outcome {
        Ok(_) => return "done".to_owned(),
        Err(Error::ConnectionClosedByBroker { reason, .. }) => ("connection", Some(reason)),
        Err(Error::ChannelClosedByBroker { reason, .. }) => ("channel", Some(reason)),
        Err(Error::AuthenticationRefused { reason, .. } | Error::AccessRefused { reason, .. }) => {
            ("connection", reason)
        }
        Err(error) => panic!("not by the broker: {error}"),
    };
    match reason {
        Some(CloseReason { code, text, .. }) => {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            // It quotes names as Markdown does.
            let quote = if text.contains('`') { "``" } else { "`" };
            format!("{what}: {quote}{code} {text}{quote}")
        }
        None => format!("{what}: hung up"),
    }
}

fn tune(node: &RabbitNode) -> String {
    let mut socket = greeted(node);
    send_start_ok(&mut socket, 100);
    let tune = method(&mut socket).unwrap();
    let number = |octets: &[u8]| octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet));
    format!("{}, {}, {}", number(&tune[4..6]), number(&tune[6..10]), number(&tune[10..12]))
}

fn start_ok(node: &RabbitNode, octets: usize) -> String {
    let mut socket = greeted(node);
    send_start_ok(&mut socket, octets);
    match method(&mut socket) {
        Some(method) if method[..4] == [0, 10, 0, 30] => "done".to_owned(),
        other => other.map_or("hung up".to_owned(), |method| format!("{method:?}")),
    }
}

/// A connection that has been greeted, by hand: the client sends no login that is too large.
fn greeted(node: &RabbitNode) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    method(&mut socket).unwrap();
    socket
}

/// A login in a frame of so many octets.
fn send_start_ok(socket: &mut TcpStream, octets: usize) {
    let rest = b"\x05PLAIN\x00\x00\x00\x0c\x00guest\x00guest\x05en_US";
    let padding = octets - 8 - 4 - 4 - (1 + 1 + 1 + 4) - rest.len();
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut frame = [&[1, 0, 0][..], &length(octets - 8), &[0, 10, 0, 11], &length(7 + padding), b"\x01pS"].concat();
    frame.extend_from_slice(&length(padding));
    frame.resize(frame.len() + padding, b'x');
    frame.extend_from_slice(rest);
    frame.push(0xce);
    assert_eq!(frame.len(), octets);
    socket.write_all(&frame).unwrap();
}

/// The next method; `None` when the broker hangs up.
fn method(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 7];
    socket.read_exact(&mut header).ok()?;
    let mut payload = vec![0; u32::from_be_bytes(header[3..].try_into().unwrap()) as usize + 1];
    socket.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// A channel, and a quorum queue that has a message.
fn quorum(node: &RabbitNode, queue: &str, arguments: Table) -> Result<Channel> {
    let channel = channel(node);
    channel.queue_declare(queue).arguments(arguments.with("x-queue-type", "quorum")).call()?;
    channel.confirm_select().call()?;
    channel.basic_publish("", queue, "again").call()?;
    Ok(channel)
}

fn requeued(node: &RabbitNode, queue: &str, arguments: Table) -> String {
    const MANY: usize = 50;
    let channel = match quorum(node, queue, arguments) {
        Ok(channel) => channel,
        refused => return said(refused),
    };
    let mut messages = channel.consume(queue).inactivity_timeout(Duration::from_secs(2)).call().unwrap();
    for deliveries in 0..MANY {
        match messages.next() {
            Some(message) => channel.basic_reject(message.unwrap().delivery_tag, true).unwrap(),
            None => return format!("is dropped after delivery {deliveries}"),
        }
    }
    format!("comes {MANY} times and more")
}

/// How many messages two consumers hold that may have one together.
fn under_qos(node: &RabbitNode) -> u32 {
    let channel = channel(node);
    channel.basic_qos(1).global(true).call().unwrap();
    channel.confirm_select().call().unwrap();
    let held = ["one", "two"].map(|_| {
        let queue = channel.queue_declare("").call().unwrap().queue;
        channel.basic_publish("", &queue, "").call().unwrap();
        channel.basic_consume(&queue).on_message(|_, _| Ok::<_, Error>(())).unwrap();
        // A queue delivers what it may before it answers.
        1 - channel.queue_declare(queue).passive(true).call().unwrap().message_count
    });
    held.iter().sum()
}

fn second_headers(node: &RabbitNode) -> String {
    let channel = quorum(node, "twice", Table::new()).unwrap();
    let mut messages = channel.consume("twice").call().unwrap();
    channel.basic_reject(messages.next().unwrap().unwrap().delivery_tag, true).unwrap();
    let message = messages.next().unwrap().unwrap();
    let headers = message.properties.headers.as_ref().unwrap();
    headers.iter().map(|(name, value)| format!("`{name}` {}", value.as_i64().unwrap())).collect::<Vec<_>>().join(", ")
}

fn capabilities(node: &RabbitNode) -> String {
    let connection = opened(&node.url(), |builder| builder).unwrap();
    let capabilities = connection.server_properties().unwrap().get("capabilities").unwrap().as_table().unwrap().clone();
    let mut names: Vec<_> = capabilities.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.sort();
    names.join(", ")
}
