//! The command without a broker.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};
use support::{pooka, pooka_with};

#[test]
fn what_cannot_be_meant_is_usage() {
    for arguments in [
        &["frobnicate"][..],
        &["consume"],
        &["publish", "--lines", "-b", "x"],
        &["declare"],
        &["declare", "-q", "q", "-e", "e"],
        &["consume", "-q", "q", "-c", "0"],
        &["publish", "-H", "novalue"],
        &["--poller", "iocp", "ping"],
        &["--timeout", "-1", "ping"],
        &["--timeout", "soon", "ping"],
        &["--url", "http://localhost", "ping"],
        &["--url", "amqp://localhost?hearbeat=3", "ping"],
        &["--cacert", "ca.pem", "ping"],
        &["--url", "amqps://localhost", "--cert", "client.pem", "ping"],
        &["--url", "amqps://localhost", "--cacert", "/no/such/ca.pem", "ping"],
    ] {
        let ended = pooka(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty());
    }
    assert_eq!(pooka(&["--help"]).code, 0);
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for adapter in ["select", "mio", "tokio", "tokio-mt", "smol", "blocking"] {
        let ended =
            pooka_with(&["--adapter", adapter, "--url", &format!("amqp://{address}"), "publish", "-b", "x"], b"");
        ended.is(3, &format!("cannot connect to {address}")).is(3, "is RabbitMQ running there?");
    }
}

#[test]
fn a_silent_peer_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    let begun = Instant::now();
    pooka(&["--url", &url, "--timeout", "0.5", "ping"]).is(5, "took longer than 0.5 s");
    assert!(begun.elapsed() < Duration::from_secs(10));
}
