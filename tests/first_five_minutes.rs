//! What a new user is told when something is wrong: what happened, where, and what to do about it.
#![allow(clippy::unwrap_used)]

use pooka::{
    Channel, Connection, ConnectionHandle, ConnectionParameters, Delivery, Error, IoLoop, Result, SelectConnection,
    config::{ParametersBuilder, PlainCredentials, uri::redacted},
    request::Outcome,
};
use pooka_testkit::{RabbitNode, Watchdog, broker_url};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

#[derive(Default)]
struct App {
    log: Vec<String>,
    node: Option<RabbitNode>,
}

fn at_broker() -> ParametersBuilder {
    broker_url().unwrap().parse::<ConnectionParameters>().unwrap().into_builder()
}

fn at(address: SocketAddr) -> ParametersBuilder {
    ConnectionParameters::builder().host(address.ip().to_string()).port(address.port())
}

/// Runs a connection to its end; nothing may hang.
fn run<R: Outcome>(
    parameters: ParametersBuilder,
    mut app: App,
    on_open: impl FnOnce(&mut App, &ConnectionHandle<App>, Result<()>) -> R + Send + 'static,
) -> Vec<String> {
    let mut connection = SelectConnection::open(parameters.build().unwrap(), on_open).unwrap();
    connection.handle().add_on_close_callback(|app: &mut App, _, error| app.log.push(format!("closed: {error}")));
    let hangs = |app: &mut App| format!("hangs after {:?}", app.log);
    let _watchdog = Watchdog::new(connection.ioloop().handle(), Duration::from_secs(60), hangs);
    connection.ioloop().start(&mut app).unwrap();
    app.log
}

/// What the open callback is told, which is the only one that is called.
fn refusal(parameters: ParametersBuilder) -> Error {
    let (told, hear) = std::sync::mpsc::channel();
    let log = run(parameters, App::default(), move |_, _, opened| told.send(opened.unwrap_err()).unwrap());
    assert_eq!(log, [""; 0]);
    hear.recv().unwrap()
}

/// A peer that reads the protocol header, says this, and hangs up.
fn saying(words: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 8]).unwrap();
        socket.write_all(words).unwrap();
    });
    (address, peer)
}

fn closed_port(ip: &str) -> Option<SocketAddr> {
    TcpListener::bind((ip, 0)).ok().map(|listener| listener.local_addr().unwrap())
}

/// E2
#[test]
fn nothing_listens() {
    let address = closed_port("127.0.0.1").unwrap();
    assert_eq!(
        refusal(at(address)).to_string(),
        format!(
            "cannot connect to {address} (1 address tried): Connection refused (os error 111) - is RabbitMQ running \
             there? Start one with rabbitmq-server, or docker run -p 5672:5672 rabbitmq"
        )
    );
    let twice = refusal(at(address).connection_attempts(2).retry_delay(Duration::ZERO)).to_string();
    assert!(twice.starts_with(&format!("cannot connect to {address} (1 address tried, 2 attempts): ")), "{twice}");
}

#[test]
fn the_name_does_not_exist() {
    let error = refusal(ConnectionParameters::builder().host("no-such-host.invalid")).to_string();
    let (begin, end) = ("cannot connect to no-such-host.invalid:5672 (no address found): ", " - is the name right?");
    assert!(error.starts_with(begin) && error.ends_with(end), "{error}");
}

/// A5, E2. Of A5 different: the broker's own words, because it is asked for them by the capability
/// authentication_failure_close.
#[test]
fn the_password_is_wrong() {
    let (user, password) = ("guest", "hunter2");
    let parameters = at_broker().credentials(PlainCredentials::new(user, password));
    let endpoint = parameters.clone().build().unwrap().endpoint();
    let error = refusal(parameters);
    assert_eq!(error.reply_code(), Some(403));
    assert_eq!(
        error.to_string(),
        format!(
            "login refused for user \"guest\" with PLAIN at {endpoint} (403 ACCESS_REFUSED - Login was refused using \
             authentication mechanism PLAIN. For details see the broker logfile.) - check user and password (guest may \
             log in from localhost only)"
        )
    );
}

/// A6
#[test]
fn the_vhost_does_not_exist() {
    let parameters = at_broker().virtual_host("nope");
    let endpoint = parameters.clone().build().unwrap().endpoint();
    let error = refusal(parameters);
    assert_eq!(error.reply_code(), Some(530));
    assert_eq!(
        error.to_string(),
        format!(
            "access to vhost \"nope\" at {endpoint} refused (530 NOT_ALLOWED - vhost nope not found) - in a URL the \
             vhost \"/\" is written %2F"
        )
    );
}

/// Never without it instead.
#[test]
fn amqps_needs_tls() {
    let parsed = "amqps://guest:hunter2@localhost".parse::<ConnectionParameters>();
    if cfg!(any(feature = "rustls", feature = "native-tls")) {
        assert!(parsed.unwrap().tls().is_some());
        return;
    }
    assert_eq!(
        parsed.unwrap_err().to_string(),
        "scheme: amqps is not possible: TLS comes with a cargo feature, rustls or native-tls, that this build lacks"
    );
}

/// Faults 12
#[test]
fn the_port_is_not_an_amqp_port() {
    let hint = "is this the AMQP port (5672, or 5671 with TLS)?";
    for (words, what) in [
        (&b""[..], format!("closed the connection before an AMQP greeting; {hint}")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", format!("does not speak AMQP; {hint}")),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: connect with amqps:// instead of amqp://".into()),
        (b"AMQP\x03\x01\x00\x00", "speaks AMQP 1-0-0, not 0-9-1".into()),
    ] {
        let (address, peer) = saying(words);
        assert_eq!(refusal(at(address)).to_string(), format!("{address} {what}"));
        peer.join().unwrap();
    }
}

/// Faults 13
#[test]
fn the_peer_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begun = Instant::now();
    assert_eq!(
        refusal(at(address).stack_timeout(Duration::from_millis(300))).to_string(),
        format!(
            "the AMQP greeting of {address} took longer than 0.3 s - is this the AMQP port (5672, or 5671 with TLS)?"
        )
    );
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(15));
}

/// P9: its queue is full, and nobody answers the SYN, as behind a firewall.
#[cfg(target_os = "linux")]
#[test]
fn nobody_accepts_the_connection() {
    use socket2::{Domain, Socket, Type};
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(
        refusal(at(address).stack_timeout(Duration::from_millis(300))).to_string(),
        format!("connecting to {address} took longer than 0.3 s - is the address right, and no firewall in between?")
    );
    let socket_timeout = refusal(at(address).socket_timeout(Duration::from_millis(300))).to_string();
    assert_eq!(socket_timeout, format!("cannot connect to {address} (1 address tried): timed out after 0.3 s"));
}

#[test]
fn a_queue_is_missing_and_the_channel_is_used_on() {
    let log = run(at_broker(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let channel = connection.channel().send()?;
        channel.queue_declare("missing").passive(true).then(|app: &mut App, channel, declared| {
            app.log.push(declared.unwrap_err().to_string());
            app.log.push(channel.queue_declare("other").send().unwrap_err().to_string());
            app.log.push(channel.basic_publish("", "other", "x").send().unwrap_err().to_string());
            channel.connection().close().send()
        });
        Ok(())
    });
    let text = "channel 1 was closed by the broker: 404 NOT_FOUND - no queue 'missing' in vhost '/'";
    assert_eq!(log[..3], [text; 3]);
}

#[test]
fn an_exchange_is_missing_and_nobody_waits_for_confirms() {
    let log = run(at_broker(), App::default(), |_, connection, opened| -> Result<()> {
        opened?;
        let channel = connection.channel().send()?;
        channel.add_on_close_callback(|app: &mut App, channel, error| -> Result<()> {
            app.log.push(error.to_string());
            app.log.push(channel.basic_publish("missing", "", "2").send().unwrap_err().to_string());
            channel.connection().channel().send()?.queue_declare("").then(|app: &mut App, channel, declared| {
                app.log.push(format!("unharmed: {}", declared.is_ok()));
                channel.connection().close().send()
            });
            Ok(())
        });
        channel.basic_publish("missing", "", "1").send()
    });
    let text = "channel 1 was closed by the broker: 404 NOT_FOUND - no exchange 'missing' in vhost '/'";
    assert_eq!(log[..3], [text, text, "unharmed: true"]);
}

/// E2
#[test]
fn the_broker_is_killed_while_consuming() {
    let node = RabbitNode::start().unwrap();
    let endpoint = format!("127.0.0.1:{}", node.port());
    let parameters = node.url().parse::<ConnectionParameters>().unwrap().into_builder();
    let app = App { node: Some(node), ..App::default() };
    let log = run(parameters, app, |_, connection, opened| -> Result<()> {
        opened?;
        let channel = connection.channel().send()?;
        channel.add_on_close_callback(|app: &mut App, _, error| app.log.push(format!("channel: {error}")));
        channel.queue_declare("").then(|_, channel, declared| -> Result<()> {
            let queue = declared?.queue;
            channel.basic_publish("", &queue, "x").send()?;
            let kill = |app: &mut App, _: &Channel<App>, _: Delivery<'_>| app.node.as_mut().unwrap().kill_9();
            channel.basic_consume(queue).on_message(kill).send().map(drop)
        });
        Ok(())
    });
    assert_eq!(log.len(), 2, "{log:?}");
    for (line, who) in log.iter().zip(["channel", "closed"]) {
        let lost = format!("{who}: the connection to {endpoint} was lost: ");
        let why = line.strip_prefix(&lost).unwrap_or_else(|| panic!("{line}"));
        assert!(
            ["the peer closed it without a word", "Connection reset by peer (os error 104)"].contains(&why),
            "{why}"
        );
    }
}

#[test]
fn an_ipv6_address_is_itself() {
    let parameters: ConnectionParameters = "amqp://[::1]/".parse().unwrap();
    assert_eq!((parameters.host(), parameters.virtual_host()), ("::1", "/"));
    // Whether or not this machine has IPv6.
    let address = closed_port("::1").unwrap_or_else(|| "[::1]:1".parse().unwrap());
    let error = refusal(at(address)).to_string();
    assert!(error.starts_with(&format!("cannot connect to {address} (1 address tried): ")), "{error}");
}

/// Faults 15
#[test]
fn secrets_are_in_nothing_that_is_shown() {
    let url = "amqp://alice:hunter2@127.0.0.1:1/v";
    let parameters: ConnectionParameters = url.parse().unwrap();
    let connection = SelectConnection::<()>::open(parameters.clone(), |_, _, _| ()).unwrap();
    let mut shown = vec![
        format!("{parameters:?} {:?}", parameters.clone().into_builder()),
        format!("{:?}", parameters.credentials()),
        format!("{connection:?} {:?}", connection.handle()),
        redacted(url).into(),
    ];
    let listener = closed_port("127.0.0.1").unwrap();
    let (hangs_up, peer) = saying(b"");
    for error in [
        refusal(at_broker().credentials(PlainCredentials::new("alice", "hunter2"))),
        refusal(at_broker().credentials(PlainCredentials::new("alice", "hunter2")).virtual_host("v")),
        refusal(at(listener).credentials(PlainCredentials::new("alice", "hunter2"))),
        refusal(at(hangs_up).credentials(PlainCredentials::new("alice", "hunter2"))),
    ] {
        shown.push(format!("{error} {error:?}"));
    }
    for bad in
        ["amqp://a:hunter2@h h", "amqp://a:hunter2/x@h", "amqp://a:hunter2@h:x", "amqp://a:hunter2%@h", "hunter2"]
    {
        let error = bad.parse::<ConnectionParameters>().unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    peer.join().unwrap();
    for shown in shown {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
