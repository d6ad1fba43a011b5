//! Credentials, limits and endpoints with a real broker.
#![allow(clippy::unwrap_used)]

use pooka::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, Result, SelectConnection, Table,
    config::{
        AmqplainCredentials, ConnectionOrder, Credentials, Exchange, Failure, ParametersBuilder, PlainCredentials,
        Secret, TcpOptions,
    },
};
use pooka_testkit::{RabbitNode, Watchdog, broker_url};
use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

fn at_broker() -> ParametersBuilder {
    broker_url().unwrap().parse::<ConnectionParameters>().unwrap().into_builder()
}

/// The endpoint that it was opened at, after which it is closed again.
fn opened(parameters: ParametersBuilder) -> Result<String> {
    with_open(parameters, |_, connection| connection.close().send())
}

fn with_open(
    parameters: ParametersBuilder,
    then: impl FnOnce(&mut Seen, &ConnectionHandle<Seen>) -> Result<()> + Send + 'static,
) -> Result<String> {
    let open = move |seen: &mut Seen, connection: &ConnectionHandle<Seen>, opened: Result<()>| {
        seen.opened = Some(opened.clone().map(|()| connection.endpoint().to_string()));
        if opened.is_ok() { then(seen, connection) } else { Ok(()) }
    };
    let mut connection = SelectConnection::open(parameters.build().unwrap(), open).unwrap();
    let ioloop = connection.ioloop().handle();
    let _watchdog = Watchdog::new(ioloop, Duration::from_secs(60), |_: &mut Seen| "hangs".into());
    let mut seen = Seen::default();
    connection.ioloop().start(&mut seen).unwrap();
    seen.opened.unwrap()
}

#[derive(Default)]
struct Seen {
    opened: Option<Result<String>>,
}

fn closed_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A7.
#[test]
fn amqplain_logs_in_and_a_wrong_password_does_not() {
    opened(at_broker().credentials(AmqplainCredentials::new("guest", "guest"))).unwrap();
    let refused = opened(at_broker().credentials(AmqplainCredentials::new("guest", "hunter2"))).unwrap_err();
    assert!(
        matches!(&refused, Error::AuthenticationRefused { mechanism, .. } if &**mechanism == "AMQPLAIN"),
        "{refused}"
    );
    let url =
        format!("{}?auth_mechanism=external&auth_mechanism=amqplain", broker_url().unwrap().trim_end_matches('/'));
    opened(url.parse::<ConnectionParameters>().unwrap().into_builder()).unwrap();
}

/// RabbitMQ's demonstration of a challenge.
#[derive(Debug)]
struct CrDemo(&'static str);

impl Credentials for CrDemo {
    fn mechanism(&self) -> &str {
        "RABBIT-CR-DEMO"
    }

    fn user(&self) -> &str {
        "guest"
    }

    fn response(&self) -> Secret {
        self.user().into()
    }

    fn begin(&self) -> Result<Exchange, Failure> {
        let answer = format!("My password is {}", self.0);
        Ok(Exchange::of(self.response()).on_challenge(move |challenge| match challenge {
            b"Please tell me your password" => Ok(answer.as_str().into()),
            _ => Err("not the question that was expected".into()),
        }))
    }
}

/// A4, A7: rounds of connection.secure, which RabbitMQ has in one mechanism, that is off unless it is named.
#[test]
fn a_mechanism_with_challenges_logs_in() {
    let node = RabbitNode::start().unwrap();
    let at = |credentials| {
        node.url().parse::<ConnectionParameters>().unwrap().into_builder().credentials(CrDemo(credentials))
    };
    let error = opened(at("guest")).unwrap_err();
    assert!(matches!(error, Error::MechanismNotOffered { .. }), "{error}");
    let mechanisms = "application:set_env(rabbit, auth_mechanisms, ['PLAIN', 'RABBIT-CR-DEMO']).";
    node.ctl(&["eval", mechanisms]).unwrap();
    opened(at("guest")).unwrap();
    let error = opened(at("hunter2")).unwrap_err();
    assert_eq!(error.reply_code(), Some(403), "{error}");
}

/// A5: the largest login that we let through is one that the broker takes, and one octet more is told at once.
#[test]
fn the_largest_login_is_taken_and_a_larger_one_is_told_at_once() {
    let with =
        |padding: usize| opened(at_broker().client_properties(Table::new().with("padding", "x".repeat(padding))));
    let begun = Instant::now();
    let Err(Error::LoginTooLarge { length, limit, .. }) = with(8192) else { panic!() };
    assert!(begun.elapsed() < Duration::from_secs(2), "and not by three seconds of silence");
    let most = 8192 - (length - limit);
    with(most).unwrap();
    let error = with(most + 1).unwrap_err().to_string();
    assert!(
        error.contains(&format!("needs a frame of {} octets, and the broker takes {limit} at most", limit + 1)),
        "{error}"
    );
}

/// A2, P2.
#[test]
fn an_erased_password_opens_one_connection() {
    let credentials = PlainCredentials::new("guest", "guest").erase_on_connect(true);
    opened(at_broker().credentials(credentials.clone())).unwrap();
    assert!(credentials.is_erased());
    let error = opened(at_broker().credentials(credentials)).unwrap_err().to_string();
    assert!(error.contains("the password was erased"), "{error}");
}

/// P1, P7, P8: nodes of a cluster that are not there are passed by, and all are named if none is there.
#[test]
fn the_first_endpoint_that_is_there_is_connected_to() {
    let (one, other) = (closed_port(), closed_port());
    let broker = at_broker().build().unwrap();
    let cluster = |order| {
        at_broker()
            .endpoints([])
            .endpoint("127.0.0.1", one)
            .endpoint("no-such-host.invalid", 5672)
            .endpoint(broker.host(), broker.port())
            .connection_order(order)
    };
    for order in [ConnectionOrder::Listed, ConnectionOrder::Random] {
        assert_eq!(opened(cluster(order)).unwrap(), *broker.endpoint());
    }
    let nobody = at_broker().endpoints([]).endpoint("127.0.0.1", one).endpoint("127.0.0.1", other);
    let error = opened(nobody.connection_attempts(2).retry_delay(Duration::ZERO)).unwrap_err().to_string();
    let begins = format!("cannot connect to 127.0.0.1:{one}, 127.0.0.1:{other} (2 addresses tried, 4 attempts): ");
    assert!(error.starts_with(&begins), "{error}");
    for port in [one, other] {
        assert_eq!(error.matches(&format!("127.0.0.1:{port}: Connection refused")).count(), 2, "{error}");
    }
}

/// P9, P10, P12.
#[test]
fn the_broker_takes_any_locale_and_the_system_its_options() {
    let tcp = TcpOptions { keep_idle: Some(Duration::from_secs(60)), keep_count: Some(3), ..TcpOptions::default() };
    opened(at_broker().locale("fr_FR").tcp_options(tcp).socket_timeout(Duration::from_secs(5))).unwrap();
}

/// F21: the broker takes the secret of a user that it knows itself.
#[test]
fn a_secret_can_be_updated() {
    with_open(at_broker(), |_, connection| {
        connection.update_secret("guest", "it expires").then(|_, connection, updated| {
            updated.unwrap();
            connection.close().send()
        });
        Ok(())
    })
    .unwrap();
}
