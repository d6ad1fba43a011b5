//! Publisher confirms in bulk, with a real RabbitMQ.
#![allow(clippy::unwrap_used)]

use pooka::{Channel, PublishOutcome, Result, TokioConnection, request::Publishing};
use pooka_testkit::broker_url;
use std::{
    collections::VecDeque,
    future::{IntoFuture, poll_fn},
    pin::Pin,
    task::Poll,
};

const EACH: usize = 25_000;
const WINDOW: usize = 250;

enum Publish<'a> {
    Sent(Pin<Box<Publishing<'a>>>),
    Over(Result<PublishOutcome>),
}

/// Publishes with a window; every tenth is mandatory and nothing is bound for it.
async fn publisher(channel: Channel, task: u8) -> [usize; 2] {
    let bodies: Vec<[u8; 4]> = (0..EACH).map(|n| [task, (n >> 16) as u8, (n >> 8) as u8, n as u8]).collect();
    let mut seen = [0; 2];
    let mut waiting = VecDeque::new();
    for n in 0..EACH + WINDOW {
        if n >= WINDOW {
            let publish: Publish<'_> = waiting.pop_front().unwrap();
            let outcome = match publish {
                Publish::Sent(outcome) => outcome.await,
                Publish::Over(outcome) => outcome,
            };
            let n = n - WINDOW;
            match outcome.unwrap() {
                PublishOutcome::Acked if n % 10 != 0 => seen[0] += 1,
                PublishOutcome::Returned(message) if n % 10 == 0 => {
                    assert_eq!(message.body[..], bodies[n]);
                    seen[1] += 1;
                }
                other => panic!("{n}: {other:?}"),
            }
        }
        if let Some(body) = bodies.get(n) {
            let key = if n % 10 == 0 { "no such queue" } else { "" };
            let exchange = if n % 10 == 0 { "" } else { "amq.fanout" };
            let publish = channel.basic_publish(exchange, key, body).mandatory(n % 10 == 0);
            let mut publish = Box::pin(publish.into_future());
            // Sent, and its outcome is waited for later.
            waiting.push_back(match poll_fn(|context| Poll::Ready(publish.as_mut().poll(context))).await {
                Poll::Pending => Publish::Sent(publish),
                Poll::Ready(outcome) => Publish::Over(outcome), // the loop has a thread of its own, and was faster
            });
        }
    }
    seen
}

#[test]
fn a_hundred_thousand_publishes_of_four_tasks_on_one_channel_have_their_own_outcomes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let connection = TokioConnection::connect(broker_url().unwrap().parse().unwrap()).await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        let tasks: Vec<_> = (0..4).map(|task| tokio::spawn(publisher(channel.clone(), task))).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), [EACH * 9 / 10, EACH / 10]);
        }
        assert_eq!(channel.unconfirmed(), 0);
        connection.close().await.unwrap();
    });
}
