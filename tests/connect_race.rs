//! Connections that open and close on a runtime with several threads, where the socket's news come from another one.
#![allow(clippy::unwrap_used)]

use pooka::{ConnectionParameters, SmolConnection, TokioConnection};
use pooka_testkit::broker_url;
use std::{future::IntoFuture, time::Duration};
use tokio::{runtime::Builder, time::timeout};

const ROUNDS: usize = 10;
const AT_ONCE: usize = 40;
/// Shorter than `stack_timeout` and `close_timeout`, which would hide what hangs.
const SOON: Duration = Duration::from_secs(9);

fn parameters() -> ConnectionParameters {
    let broker: ConnectionParameters = broker_url().unwrap().parse().unwrap();
    broker.into_builder().stack_timeout(Duration::from_secs(60)).build().unwrap()
}

#[test]
fn four_hundred_connections_on_a_multi_thread_runtime_open_and_close() {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap().block_on(async {
        for round in 0..ROUNDS {
            let tasks: Vec<_> = (0..AT_ONCE)
                .map(|n| {
                    tokio::spawn(async move {
                        let connecting = TokioConnection::connect(parameters());
                        let connection = timeout(SOON, connecting).await.expect("opening hangs").unwrap();
                        // Some at once, some when their loop sleeps again.
                        if n % 2 == 0 {
                            let channel = timeout(SOON, connection.channel().into_future()).await;
                            drop(channel.expect("channel.open hangs").unwrap());
                        }
                        timeout(SOON, connection.close().into_future()).await.expect("closing hangs").unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        }
    });
}

#[test]
fn four_hundred_connections_beside_a_reactor_thread_open_and_close() {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap().block_on(async {
        for round in 0..ROUNDS {
            let tasks: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    tokio::spawn(async {
                        let (connecting, driver) = SmolConnection::pair(parameters());
                        let driver = tokio::spawn(driver);
                        let connection = timeout(SOON, connecting).await.expect("opening hangs").unwrap();
                        timeout(SOON, connection.close().into_future()).await.expect("closing hangs").unwrap();
                        timeout(SOON, driver).await.expect("the loop hangs").unwrap().unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        }
    });
}
