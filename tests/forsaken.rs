//! A connection that nobody can call any more closes itself, on every adapter.
#![allow(clippy::unwrap_used)]

#[path = "support/peer.rs"]
mod peer;

use futures_lite::future::block_on;
use peer::Peer;
use pooka::{
    BlockingConnection, ConnectionHandle, ConnectionParameters, Error, IoLoop, MioLoop, PollerKind, Result, SelectLoop,
    SmolConnection, TokioConnection,
    spec::{Method, basic, channel, connection, queue},
};
use std::{future::IntoFuture, net::TcpListener, thread};

/// A program that gives up in the middle of its set-up.
async fn fails(connection: Result<ConnectionHandle>) -> Result<()> {
    let connection = connection?;
    let channel = connection.channel().await?;
    channel.queue_declare("q").send()?;
    let mut messages = channel.basic_consume("q").await?;
    drop((connection, channel));
    messages.next().await.unwrap()?; // which its stream kept
    Err(Error::NotOpen)
}

fn fails_on_tokio(runtime: &mut tokio::runtime::Builder, parameters: ConnectionParameters) {
    runtime.enable_all().build().unwrap().block_on(async {
        let (connecting, driver) = TokioConnection::pair(parameters);
        let driver = tokio::spawn(driver);
        assert_eq!(fails(connecting.await).await, Err(Error::NotOpen));
        driver.await.unwrap().unwrap();
    });
}

fn fails_on_smol(parameters: ConnectionParameters) {
    let (connecting, driver) = SmolConnection::pair(parameters);
    let driver = smol::spawn(driver);
    smol::block_on(async {
        assert_eq!(fails(connecting.await).await, Err(Error::NotOpen));
        driver.await.unwrap();
    });
}

fn fails_beside<L: IoLoop<()> + Send + 'static>(mut ioloop: L, parameters: ConnectionParameters) {
    let connecting = ioloop.handle().connect(parameters).into_future();
    let serving = thread::spawn(move || ioloop.start(&mut ()));
    assert_eq!(block_on(async { fails(connecting.await).await }), Err(Error::NotOpen));
    serving.join().unwrap().unwrap();
}

fn fails_by_blocking(parameters: ConnectionParameters) {
    let connection = BlockingConnection::open(parameters).unwrap();
    let outcome: Result<()> = (|| {
        let channel = connection.channel().call()?;
        channel.queue_declare("q").send()?;
        channel.consume("q").call()?.next().unwrap()?;
        Err(Error::NotOpen)
    })();
    assert_eq!(outcome, Err(Error::NotOpen));
}

/// What a client says to a broker that gives it a message, from its first channel to its end.
fn said_by(client: impl FnOnce(ConnectionParameters)) -> Vec<&'static str> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = thread::spawn(move || {
        let mut peer = Peer::accept(&listener, 60);
        let mut said = vec![];
        while let Some((n, method)) = peer.hear() {
            said.push(method.name());
            match method {
                Method::Channel(channel::Method::Open(_)) => peer.say(n, channel::OpenOk::default()),
                Method::Channel(channel::Method::Close(_)) => peer.say(n, channel::CloseOk {}),
                Method::Queue(queue::Method::Declare(queue::Declare { nowait: false, .. })) => {
                    peer.say(n, queue::DeclareOk::default());
                }
                Method::Basic(basic::Method::Qos(_)) => peer.say(n, basic::QosOk {}),
                Method::Basic(basic::Method::Consume(basic::Consume { consumer_tag, .. })) => {
                    peer.say(n, basic::ConsumeOk { consumer_tag: consumer_tag.clone() });
                    peer.deliver(n, basic::Deliver { consumer_tag, delivery_tag: 1, ..Default::default() });
                }
                Method::Basic(basic::Method::Cancel(basic::Cancel { consumer_tag, nowait: false })) => {
                    peer.say(n, basic::CancelOk { consumer_tag });
                }
                Method::Connection(connection::Method::Close(_)) => peer.say(0, connection::CloseOk {}),
                _ => {}
            }
        }
        said
    });
    client(ConnectionParameters::builder().host("127.0.0.1").port(port).build().unwrap());
    let mut said = broker.join().unwrap();
    said.retain(|name| !name.starts_with("basic.") && *name != "queue.declare");
    said
}

/// Trial T9: in order, when its stream is dropped as well.
#[test]
fn a_connection_without_handles_closes_itself() {
    let orderly = ["channel.open", "channel.close", "connection.close"];
    assert_eq!(said_by(|at| fails_on_tokio(&mut tokio::runtime::Builder::new_current_thread(), at)), orderly);
    assert_eq!(said_by(|at| fails_on_tokio(&mut tokio::runtime::Builder::new_multi_thread(), at)), orderly);
    assert_eq!(said_by(fails_on_smol), orderly);
    for &kind in PollerKind::available() {
        assert_eq!(said_by(|at| fails_beside(SelectLoop::new(kind).unwrap(), at)), orderly, "{kind}");
    }
    assert_eq!(said_by(|at| fails_beside(MioLoop::new().unwrap(), at)), orderly);
    assert_eq!(said_by(fails_by_blocking).last(), Some(&"connection.close"));
}

/// Trial T9: what somebody still waits for comes first.
#[test]
fn a_connection_without_handles_brings_the_answers_that_are_awaited() {
    let said = said_by(|at| {
        block_on(async {
            let (connecting, driver) = SmolConnection::pair(at);
            let driver = smol::spawn(driver);
            let connection = connecting.await.unwrap();
            let channel = connection.channel().await.unwrap();
            let declared = channel.queue_declare("q").into_future();
            drop((connection, channel));
            declared.await.unwrap();
            driver.await.unwrap();
        });
    });
    assert_eq!(said, ["channel.open", "channel.close", "connection.close"]);
}
