//! Many tasks and threads on one connection of a real broker.
#![allow(clippy::unwrap_used)]

use futures_lite::future::block_on;
use pooka::{
    BlockingConnection, Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, MioConnection,
    SelectConnection, SmolConnection, TokioConnection,
};
use pooka_testkit::broker_url;
use std::{
    future::IntoFuture,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// A wake-up that is lost is one that never comes; a slow machine may take a while.
const AT_LAST: Duration = Duration::from_secs(120);

/// Runs `program` with a connection whose loop has a thread of its own.
fn with<C: Connection>(parameters: ConnectionParameters, program: impl FnOnce(&ConnectionHandle)) {
    let (opened, connection) = channel();
    let served = thread::spawn(move || {
        let on_open = move |(): &mut (), connection: &ConnectionHandle, result: pooka::Result<()>| {
            connection.add_on_close_callback(|(): &mut (), _, _| ());
            opened.send(result.map(|()| connection.clone())).unwrap();
        };
        C::open(parameters, on_open).unwrap().ioloop().start(&mut ()).unwrap();
    });
    let connection = connection.recv().unwrap().unwrap();
    program(&connection);
    connection.close().send().unwrap();
    served.join().unwrap();
}

fn marks() -> impl Iterator<Item = ConnectionParameters> {
    [64 << 10, 1 << 20, 4 << 20].into_iter().map(|mark| {
        let parameters: ConnectionParameters = broker_url().unwrap().parse().unwrap();
        parameters.into_builder().outbound_high_water(mark).build().unwrap()
    })
}

/// Trial T1: of 300 tasks that waited for room, up to 263 were never woken again.
#[test]
fn every_task_that_waits_for_room_is_woken() {
    for parameters in marks() {
        for awaits_confirms in [false, true] {
            with::<TokioConnection<()>>(parameters.clone(), |connection| {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
                let tasks: Vec<_> = (0..300)
                    .map(|_| {
                        let connection = connection.clone();
                        runtime.spawn(async move {
                            let channel = connection.channel().await.unwrap();
                            if awaits_confirms {
                                channel.confirm_select().await.unwrap();
                            }
                            for _ in 0..10 {
                                // Nothing is bound for it: the broker drops it.
                                let publish = channel.basic_publish("", "no such queue", &[0; 60_000]);
                                if awaits_confirms {
                                    publish.await.unwrap();
                                } else {
                                    connection.writable().await.unwrap();
                                    publish.send().unwrap();
                                }
                            }
                            channel.close().await.unwrap();
                        })
                    })
                    .collect();
                runtime.block_on(async {
                    for task in tasks {
                        tokio::time::timeout(AT_LAST, task).await.expect("it waits for ever").unwrap();
                    }
                });
            });
        }
    }
}

/// Trial T1, of threads that call.
#[test]
fn every_thread_that_waits_for_room_is_woken() {
    for parameters in marks() {
        let connection = BlockingConnection::open(parameters).unwrap();
        let (done, finished) = channel();
        let threads: Vec<_> = (0..32)
            .map(|_| {
                let channel = connection.channel().call().unwrap();
                let done = done.clone();
                thread::spawn(move || {
                    for _ in 0..50 {
                        channel.basic_publish("", "no such queue", &[0; 60_000]).send().unwrap();
                    }
                    done.send(()).unwrap();
                })
            })
            .collect();
        for thread in threads {
            assert_ne!(finished.recv_timeout(AT_LAST), Err(RecvTimeoutError::Timeout), "it waits for ever");
            thread.join().unwrap();
        }
        connection.close().call().unwrap();
    }
}

/// Trial T5: while the broker closes a channel another thread goes on using it; the connection goes on.
fn a_channel_that_is_closed_while_it_is_used_takes_nothing_along<C: Connection>() {
    with::<C>(broker_url().unwrap().parse().unwrap(), |connection| {
        for round in 0..200 {
            let channel = block_on(connection.channel().into_future()).unwrap();
            channel.add_on_close_callback(|(): &mut (), _, _| ());
            let user = channel.clone();
            let user = thread::spawn(move || {
                loop {
                    if let Err(error) = user.basic_publish("", "no such queue", "body").send() {
                        return error;
                    }
                }
            });
            let missing = block_on(channel.queue_declare("no such queue").passive(true).into_future());
            assert!(matches!(missing, Err(Error::ChannelClosedByBroker { .. })), "round {round}: {missing:?}");
            let refused = user.join().unwrap();
            assert!(matches!(refused, Error::ChannelClosedByBroker { .. }), "round {round}: {refused:?}");
        }
        block_on(connection.channel().into_future()).unwrap();
    });
}

macro_rules! on_every_adapter {
    ($($adapter:ident $Connection:ident)*) => { $(
        #[test]
        fn $adapter() {
            a_channel_that_is_closed_while_it_is_used_takes_nothing_along::<$Connection<()>>();
        }
    )* };
}

mod a_channel_that_is_closed_while_it_is_used {
    use super::*;

    on_every_adapter! { select SelectConnection mio MioConnection tokio TokioConnection smol SmolConnection }

    /// The calls that wait, likewise.
    #[test]
    fn blocking() {
        let connection = BlockingConnection::open(broker_url().unwrap().parse().unwrap()).unwrap();
        for round in 0..200 {
            let channel = connection.channel().call().unwrap();
            let user = channel.clone();
            let user = thread::spawn(move || {
                loop {
                    if let Err(error) = user.basic_publish("", "no such queue", "body").send() {
                        return error;
                    }
                }
            });
            let missing = channel.queue_declare("no such queue").passive(true).call();
            assert!(matches!(missing, Err(Error::ChannelClosedByBroker { .. })), "round {round}: {missing:?}");
            assert!(matches!(user.join().unwrap(), Error::ChannelClosedByBroker { .. }), "round {round}");
        }
        connection.channel().call().unwrap();
        connection.close().call().unwrap();
    }
}
