//! `.await` on every adapter with a real RabbitMQ: bodies written once, to be polled beside each adapter's loop.
#![allow(clippy::unwrap_used)]

#[path = "support/forms.rs"]
mod forms;
#[path = "support/rows.rs"]
mod rows;

use pooka::{
    Channel, ConnectionHandle, ConnectionParameters, Consumer, Error, Message, MioConnection, PublishOutcome,
    SelectConnection, SmolConnection, Table, TokioConnection,
};
use pooka_testkit::{Proxy, RabbitNode, Way};
use rows::{Link, Row, soon};
use std::{
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

macro_rules! rows {
    ($($module:ident: $Row:ty;)*) => { $(
        mod $module {
            #[allow(unused_imports, reason = "some adapters have forms of ours")]
            use super::*;
            cases!($Row);
        }
    )* };
}

macro_rules! cases {
    ($Row:ty) => {
        cases!($Row:
            from_open_to_close_everything_is_awaited
            a_get_brings_a_message_or_nothing
            what_was_asked_before_a_close_is_answered
            each_publish_has_its_outcome
            a_stream_ends_with_the_reason_of_its_end
            a_stream_tells_that_an_operator_closed_the_connection
            two_hundred_tasks_share_a_connection_and_lose_nothing
            eight_threads_open_and_close_eight_hundred_channels
            whatever_is_dropped_early_leaves_the_channel_in_step
            a_cancel_right_behind_its_consume_costs_nothing
            a_stream_dropped_half_way_gives_back_what_nobody_took
            a_consumer_of_a_stream_queue_may_be_left_early
            a_loop_that_is_dropped_answers_everybody
            a_connection_that_is_cut_answers_everybody
            a_panicking_callback_costs_its_channel_and_no_other
            a_program_that_keeps_its_thread_keeps_its_connection_if_the_loop_has_another
            a_silent_peer_is_given_up_with_a_write_pending
            a_broker_that_does_not_read_is_still_heard_and_costs_no_memory
            a_stream_that_nobody_takes_from_is_bounded_and_stops_no_answer
            channels_that_are_dropped_while_the_connection_closes_fail_nothing
        );
    };
    ($Row:ty: $($case:ident)*) => { $(
        #[test]
        fn $case() {
            super::$case::<$Row>();
        }
    )* };
}

rows! {
    by_select: rows::OnItsThread<forms::BySelect<()>>;
    by_poll: rows::OnItsThread<forms::ByPoll<()>>;
    by_epoll_or_kqueue: rows::OnItsThread<SelectConnection>;
    mio: rows::OnItsThread<MioConnection>;
    tokio_current_thread: rows::OnTokio<0>;
    tokio_multi_thread: rows::OnTokio<2>;
    on_smol: rows::OnSmol;
    // The other rows are told over TLS by the conformance suite, which blocking is not in: it lends no state to callbacks.
    blocking: rows::OnBlocking<0>;
    blocking_over_rustls: rows::OnBlocking<1>;
    blocking_over_native_tls: rows::OnBlocking<2>;
}

fn run<R: Row, F: Future<Output = ()> + Send + 'static>(body: impl FnOnce(Link) -> F + Send + 'static) {
    R::run(R::parameters(), body);
}

async fn channel(connection: &ConnectionHandle) -> Channel {
    soon("channel.open", connection.channel()).await.unwrap()
}

async fn close(connection: &ConnectionHandle) {
    soon("connection.close", connection.close()).await.unwrap();
}

/// A queue of this connection's own.
async fn queue(channel: &Channel) -> String {
    soon("queue.declare", channel.queue_declare("")).await.unwrap().queue.to_string()
}

/// Publishes and waits for the broker's word.
async fn publish(channel: &Channel, queue: &str, body: &[u8]) {
    let outcome = soon("a publish", channel.basic_publish("", queue, body)).await;
    assert_eq!(outcome.unwrap(), PublishOutcome::Acked);
}

async fn next(consumer: &mut Consumer) -> Message {
    soon("a message", consumer.next()).await.unwrap().unwrap()
}

async fn end(consumer: &mut Consumer) -> Error {
    let error = soon("the end", consumer.next()).await.unwrap().unwrap_err();
    assert!(soon("the end", consumer.next()).await.is_none(), "one reason, then nothing");
    error
}

/// Asks until it is so.
async fn until(channel: &Channel, queue: &str, is: impl Fn(u32, u32) -> bool) {
    let mut seen = (0, 0);
    for _ in 0..2000 {
        let ok = soon("a look", channel.queue_declare(queue).passive(true)).await.unwrap();
        seen = (ok.message_count, ok.consumer_count);
        if is(seen.0, seen.1) {
            return;
        }
    }
    panic!("{seen:?} messages and consumers");
}

/// The channel's replies still belong to its requests.
async fn assert_in_step(channel: &Channel, queue: &str) {
    let declared = soon("a declare", channel.queue_declare(queue).passive(true)).await.unwrap();
    assert_eq!(declared.queue.to_string(), queue);
    soon("a qos", channel.basic_qos(0)).await.unwrap();
}

/// T3
fn from_open_to_close_everything_is_awaited<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        assert!(connection.is_open());
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let queue = queue(&channel).await;
        for body in ["one", "two", "three"] {
            publish(&channel, &queue, body.as_bytes()).await;
        }
        let got = soon("a get", channel.basic_get(&*queue)).await.unwrap().unwrap();
        assert_eq!((&got.body[..], got.message_count), (&b"one"[..], Some(2)));
        channel.basic_ack(got.delivery_tag).unwrap();
        let mut consumer = soon("basic.consume", channel.basic_consume(&*queue)).await.unwrap();
        for body in ["two", "three"] {
            let message = next(&mut consumer).await;
            assert_eq!(message.body, body);
            channel.basic_ack(message.delivery_tag).unwrap();
        }
        soon("basic.cancel", consumer.cancel()).await.unwrap();
        assert!(soon("the end", consumer.next()).await.is_none());
        assert_eq!(soon("queue.delete", channel.queue_delete(&*queue)).await.unwrap().message_count, 0);
        soon("channel.close", channel.close()).await.unwrap();
        close(&connection).await;
        assert!(connection.is_closed());
        let late = soon("a late call", connection.channel()).await.unwrap_err();
        assert!(matches!(late, Error::ConnectionClosedByClient { code: 200, .. }), "{late}");
    });
}

/// Trial T17: on their way when the connection is closed.
fn what_was_asked_before_a_close_is_answered<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let queue = queue(&channel).await;
        let declares: Vec<_> = (0..99).map(|_| channel.queue_declare(&*queue).passive(true).into_future()).collect();
        close(&connection).await;
        for declared in declares {
            assert_eq!(soon("a declare", declared).await.unwrap().queue, *queue);
        }
    });
}

fn a_get_brings_a_message_or_nothing<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let queue = queue(&channel).await;
        assert_eq!(soon("a get", channel.basic_get(&*queue)).await.unwrap(), None);
        channel.basic_publish("", &queue, "body").send().unwrap();
        let got = soon("a get", channel.basic_get(&*queue).no_ack(true)).await.unwrap().unwrap();
        assert_eq!(got.body, "body");
        assert_eq!(soon("a get", channel.basic_get(&*queue)).await.unwrap(), None);
        close(&connection).await;
    });
}

fn each_publish_has_its_outcome<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let queue = queue(&channel).await;
        for n in 0..60 {
            let (key, is_routed) = if n % 3 == 0 { ("nowhere", false) } else { (&*queue, true) };
            match soon("a publish", channel.basic_publish("", key, &[n]).mandatory(true)).await.unwrap() {
                PublishOutcome::Acked => assert!(is_routed),
                PublishOutcome::Returned(returned) => {
                    assert!(!is_routed);
                    assert_eq!((returned.reply_code, &returned.body[..]), (312, &[n][..]));
                }
                PublishOutcome::Nacked => panic!("nacked"),
            }
        }
        // One whose channel does not live to see it.
        let lost = soon("a publish", channel.basic_publish("no.such.exchange", "", "")).await.unwrap_err();
        assert_eq!(lost.reply_code(), Some(404), "{lost}");
        close(&connection).await;
    });
}

/// N7
fn a_stream_ends_with_the_reason_of_its_end<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let owner = channel(&connection).await;
        let queue = queue(&owner).await;

        let other = channel(&connection).await;
        let mut consumer = soon("basic.consume", other.basic_consume(&*queue)).await.unwrap();
        let refused = soon("a declare", other.queue_declare("no.such.queue").passive(true)).await.unwrap_err();
        assert_eq!(refused.reply_code(), Some(404));
        assert_eq!(end(&mut consumer).await, refused);

        let other = channel(&connection).await;
        let mut consumer = soon("basic.consume", other.basic_consume(&*queue)).await.unwrap();
        owner.basic_publish("", &queue, "body").send().unwrap();
        let tag = next(&mut consumer).await.delivery_tag;
        other.basic_ack(tag).unwrap();
        other.basic_ack(tag).unwrap();
        assert_eq!(end(&mut consumer).await.reply_code(), Some(406));

        let mut consumer = soon("basic.consume", owner.basic_consume(&*queue)).await.unwrap();
        soon("queue.delete", owner.queue_delete(&*queue)).await.unwrap();
        assert!(matches!(end(&mut consumer).await, Error::ConsumerCancelled { .. }));

        let queue = self::queue(&owner).await;
        let mut consumer = soon("basic.consume", owner.basic_consume(&*queue)).await.unwrap();
        close(&connection).await;
        // Trial T23: a deliberate end is none with an error.
        assert!(soon("the end", consumer.next()).await.is_none());
        close(&connection).await;
        soon("a second channel.close", owner.close()).await.unwrap();
        connection.close().send().unwrap();
    });
}

/// Trial T9: whatever goes wrong in a set-up, `?` drops its handles.
#[test]
fn thirty_failed_set_ups_leave_no_connection_at_the_broker() {
    async fn set_up(connection: pooka::Result<ConnectionHandle>) {
        let channel = connection.unwrap().channel().await.unwrap();
        assert_eq!(channel.queue_declare("missing").passive(true).await.unwrap_err().reply_code(), Some(404));
    }
    let parameters = node().url().parse::<ConnectionParameters>().unwrap().into_builder();
    let parameters = parameters.connection_name("a set-up that fails").build().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..30 {
        runtime.block_on(async { set_up(TokioConnection::connect(parameters.clone()).await).await });
        let (connecting, driver) = SmolConnection::pair(parameters.clone());
        smol::spawn(driver).detach();
        smol::block_on(async { set_up(connecting.await).await });
    }
    let begun = Instant::now();
    while node().ctl(&["-q", "list_connections", "client_properties"]).unwrap().contains("a set-up that fails") {
        assert!(begun.elapsed() < Duration::from_secs(25), "connections are left");
    }
}

/// A node whose operator we are; it ends with this process.
fn node() -> &'static RabbitNode {
    static NODE: OnceLock<RabbitNode> = OnceLock::new();
    NODE.get_or_init(|| RabbitNode::start().unwrap())
}

/// A node that knows limits of a channel as a whole, which RabbitMQ 4 takes for each consumer's where they are not permitted.
fn with_global_qos() -> &'static RabbitNode {
    static NODE: OnceLock<RabbitNode> = OnceLock::new();
    let permit = "deprecated_features.permit.global_qos = true\n";
    NODE.get_or_init(|| RabbitNode::start_with(if node().major() >= 4 { permit } else { "" }).unwrap())
}

fn a_stream_tells_that_an_operator_closed_the_connection<R: Row>() {
    let name = std::any::type_name::<R>();
    let parameters = R::parameters_of(node()).into_builder().connection_name(name).build().unwrap();
    R::run(parameters, move |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let queue = queue(&channel).await;
        let mut consumer = soon("basic.consume", channel.basic_consume(&*queue)).await.unwrap();
        let operator = smol::unblock(move || {
            let connections = node().ctl(&["list_connections", "pid", "client_properties"]).unwrap();
            let ours = connections.lines().find(|line| line.contains(name)).unwrap();
            let pid = ours.split_whitespace().next().unwrap();
            node().ctl(&["close_connection", pid, "maintenance"]).unwrap();
        });
        soon("the operator", operator).await;
        let error = end(&mut consumer).await;
        assert!(error.to_string().contains("320 CONNECTION_FORCED - maintenance"), "{error}");
        assert!(connection.is_closed());
    });
}

/// A hundred publish to one queue, and a hundred consume from it until they are told to stop.
fn two_hundred_tasks_share_a_connection_and_lose_nothing<R: Row>() {
    const TASKS: u32 = 100;
    const EACH: u32 = 25;
    const STOP: u32 = u32::MAX;
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let owner = channel(&connection).await;
        soon("confirm.select", owner.confirm_select()).await.unwrap();
        let queue: Arc<str> = queue(&owner).await.into();
        let taken: Arc<[AtomicU32]> = (0..TASKS * EACH).map(|_| AtomicU32::new(0)).collect();
        let (mut publishers, mut consumers) = (vec![], vec![]);
        for task in 0..TASKS {
            let (its, name, taken) = (connection.clone(), queue.clone(), taken.clone());
            consumers.push(R::spawn(async move {
                let channel = channel(&its).await;
                let consuming = channel.basic_consume(&*name).prefetch(5);
                let mut consumer = soon("basic.consume", consuming).await.unwrap();
                loop {
                    let message = next(&mut consumer).await;
                    channel.basic_ack(message.delivery_tag).unwrap();
                    match u32::from_be_bytes(message.body[..].try_into().unwrap()) {
                        // Stops of others that are on their way to us go back to the queue.
                        STOP => return,
                        id => drop(taken[id as usize].fetch_add(1, Ordering::Relaxed)),
                    }
                }
            }));
            let (its, name) = (connection.clone(), queue.clone());
            publishers.push(R::spawn(async move {
                let channel = channel(&its).await;
                soon("confirm.select", channel.confirm_select()).await.unwrap();
                for n in 0..EACH {
                    publish(&channel, &name, &(task * EACH + n).to_be_bytes()).await;
                }
            }));
        }
        for publisher in publishers {
            publisher.await;
        }
        for _ in 0..TASKS {
            publish(&owner, &queue, &STOP.to_be_bytes()).await;
        }
        for consumer in consumers {
            consumer.await;
        }
        assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 1), "each message once");
        until(&owner, &queue, |messages, consumers| (messages, consumers) == (0, 0)).await;
        close(&connection).await;
    });
}

/// PR14
fn eight_threads_open_and_close_eight_hundred_channels<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let connection = connection.clone();
                let storm = async move {
                    for n in 0..100 {
                        let channel = channel(&connection).await;
                        let queue = queue(&channel).await;
                        soon("confirm.select", channel.confirm_select()).await.unwrap();
                        publish(&channel, &queue, &[thread, n]).await;
                        soon("queue.delete", channel.queue_delete(queue)).await.unwrap();
                        if n % 2 == 0 {
                            soon("channel.close", channel.close()).await.unwrap();
                        }
                    }
                };
                smol::unblock(move || futures_lite::future::block_on(storm))
            })
            .collect();
        for thread in threads {
            thread.await;
        }
        close(&connection).await;
    });
}

/// Tells when it was called.
struct Called(smol::channel::Sender<()>);

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        // Once is enough.
        let _ = self.0.try_send(());
    }
}

/// Polls it so often, each time but the first when it was woken, and drops it: at once, or when its answer is there.
/// True: it came to its end.
async fn drop_after<F: IntoFuture>(future: F, polls: u32, answered: bool) -> bool {
    let (woken, is_woken) = smol::channel::bounded(1);
    let waker = Waker::from(Arc::new(Called(woken)));
    let mut future = pin!(future.into_future());
    for poll in 0..polls {
        if poll > 0 {
            soon("its waker", is_woken.recv()).await.unwrap();
        }
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return true;
        }
    }
    if answered && polls > 0 {
        soon("its waker", is_woken.recv()).await.unwrap();
    }
    false
}

/// Drops such futures ever later, until one comes to its end; each time the channel, whose queue this is, is in step.
async fn drop_early<F: IntoFuture>((channel, queue): (&Channel, &str), make: impl Fn() -> F) {
    for polls in 0.. {
        for answered in [false, true] {
            if drop_after(make(), polls, answered).await {
                return;
            }
            assert_in_step(channel, queue).await;
        }
    }
}

/// PR15
fn whatever_is_dropped_early_leaves_the_channel_in_step<R: Row>() {
    let parameters = R::parameters();
    let others = parameters.clone();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let queue = queue(&channel).await;
        publish(&channel, &queue, b"1").await;
        let queue = &*queue;
        let at = (&channel, queue);

        drop_early(at, || connection.channel()).await;
        let connect = || {
            let connecting = connection.ioloop().connect(others.clone());
            async { connecting.await.unwrap().close().send().unwrap() }
        };
        drop_early(at, connect).await;
        drop_early(at, || connection.writable()).await;
        drop_early(at, || channel.queue_declare("").auto_delete(true)).await;
        drop_early(at, || channel.queue_bind(queue, "amq.direct").routing_key("x")).await;
        drop_early(at, || channel.queue_unbind(queue, "amq.direct").routing_key("x")).await;
        drop_early(at, || channel.exchange_declare("amq.direct").passive(true)).await;
        drop_early(at, || channel.basic_qos(7)).await;
        drop_early(at, || channel.basic_recover()).await;
        drop_early(at, || channel.confirm_select()).await;
        drop_early(at, || channel.basic_publish("", "nowhere", "2").mandatory(true)).await;
        drop_early(at, || channel.basic_consume(queue)).await;
        until(&channel, queue, |messages, consumers| (messages, consumers) == (1, 0)).await;
        drop_early(at, || channel.basic_get(queue)).await;
        // The last of them had come to its end, so that its message was taken.
        soon("basic.recover", channel.basic_recover()).await.unwrap();
        until(&channel, queue, |messages, _| messages == 1).await;

        let mut consumer = soon("basic.consume", channel.basic_consume(queue)).await.unwrap();
        channel.basic_ack(next(&mut consumer).await.delivery_tag).unwrap();
        for polls in 0..3 {
            drop_after(consumer.next(), polls.min(1), false).await;
            publish(&channel, queue, b"3").await;
            assert_eq!(next(&mut consumer).await.body, "3", "a dropped next() takes nothing along");
        }
        drop_early(at, || consumer.cancel()).await;
        let closed = self::channel(&connection).await;
        drop_early(at, || closed.close()).await;
        drop((consumer, closed));

        // No channel has been forgotten: the next one gets the number behind the first.
        let second = async {
            while self::channel(&connection).await.channel_number() != 2 {
                assert_in_step(&channel, queue).await;
            }
        };
        soon("the end of all channels that nobody took", second).await;
        drop_after(connection.close(), 1, false).await;
        let closed = soon("connection.close", connection.close()).await;
        assert!(closed.is_ok(), "{closed:?}");
    });
}

/// RabbitMQ 3.10's channel crashes on a cancel that overtakes its queue's consume-ok.
fn a_cancel_right_behind_its_consume_costs_nothing<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let queue = queue(&channel).await;
        for _ in 0..20 {
            let consuming = channel.basic_consume(&*queue).consumer_tag("c").on_message(|_, _, _| ());
            let consumed = consuming.into_future();
            soon("basic.cancel", channel.basic_cancel("c")).await.unwrap();
            soon("basic.consume", consumed).await.unwrap();
            let tag = channel.basic_consume(&*queue).on_message(|_, _, _| ()).send().unwrap();
            channel.basic_cancel(tag).send().unwrap();
            assert_in_step(&channel, &queue).await;
        }
        until(&channel, &queue, |_, consumers| consumers == 0).await;
        close(&connection).await;
    });
}

fn a_stream_dropped_half_way_gives_back_what_nobody_took<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let queue = queue(&channel).await;
        for n in 0..50 {
            publish(&channel, &queue, &[n]).await;
        }
        let mut consumer = soon("basic.consume", channel.basic_consume(&*queue)).await.unwrap();
        for n in 0..10 {
            let message = next(&mut consumer).await;
            assert_eq!(message.body[..], [n]);
            channel.basic_ack(message.delivery_tag).unwrap();
        }
        drop(consumer);
        until(&channel, &queue, |messages, consumers| (messages, consumers) == (40, 0)).await;
        let got = soon("a get", channel.basic_get(&*queue)).await.unwrap().unwrap();
        assert_eq!((&got.body[..], got.redelivered), (&[10][..], true));
        close(&connection).await;
    });
}

/// Polls it once.
fn pends(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Everything that can be waited for, on a connection that hears nothing any more; `fail` ends it.
async fn assert_all_answered(connection: ConnectionHandle, proxy: &Proxy, fail: impl FnOnce()) {
    let channel = channel(&connection).await;
    soon("confirm.select", channel.confirm_select()).await.unwrap();
    let queue = queue(&channel).await;
    let mut consumer = soon("basic.consume", channel.basic_consume(&*queue)).await.unwrap();
    let other = self::channel(&connection).await;
    proxy.hold(Way::ToClient);
    let mut declared = pin!(channel.queue_declare("").into_future());
    let mut got = pin!(channel.basic_get(&*queue).into_future());
    let mut published = pin!(channel.basic_publish("", &queue, "body").into_future());
    let mut consumed = pin!(channel.basic_consume(&*queue).into_future());
    let mut opened = pin!(connection.channel().into_future());
    let mut connected = pin!(connection.ioloop().connect(connection.parameters().clone()).into_future());
    let mut channel_closed = pin!(other.close().into_future());
    let mut delivered = Box::pin(consumer.next());
    assert!(pends(declared.as_mut()));
    assert!(pends(got.as_mut()));
    assert!(pends(published.as_mut()));
    assert!(pends(consumed.as_mut()));
    assert!(pends(opened.as_mut()));
    assert!(pends(connected.as_mut()));
    assert!(pends(channel_closed.as_mut()));
    assert!(pends(delivered.as_mut()));
    fail();
    let error = soon("a declare", declared).await.unwrap_err();
    assert!(matches!(error, Error::LoopGone | Error::StreamLost { .. }), "{error}");
    assert_eq!(soon("a get", got).await.unwrap_err(), error);
    assert_eq!(soon("a publish", published).await.unwrap_err(), error);
    assert_eq!(soon("a consume", consumed).await.unwrap_err(), error);
    assert_eq!(soon("an open", opened).await.unwrap_err(), error);
    assert_eq!(soon("a delivery", delivered).await.unwrap().unwrap_err(), error);
    assert!(soon("a channel.close", channel_closed).await.is_err());
    assert!(soon("a connect", connected).await.is_err());
    assert!(soon("the end", consumer.next()).await.is_none());
    assert!(connection.is_closed());
    // And so is whatever comes later.
    assert_eq!(soon("a declare", channel.queue_declare("")).await.unwrap_err(), error);
    assert_eq!(soon("a publish", channel.basic_publish("", &queue, "")).await.unwrap_err(), error);
    assert_eq!(soon("an open", connection.channel()).await.unwrap_err(), error);
    assert_eq!(soon("room", connection.writable()).await.unwrap_err(), error);
    assert_eq!(soon("a close", connection.close()).await.unwrap_err(), error);
}

/// The broker behind a network that can fail.
fn behind_a_proxy<R: Row>() -> (Proxy, ConnectionParameters) {
    let parameters = R::parameters();
    let proxy = Proxy::start(parameters.host(), parameters.port()).unwrap();
    let there = parameters.into_builder().host("127.0.0.1").port(proxy.port());
    (proxy, there.stack_timeout(Duration::from_secs(20)).build().unwrap())
}

/// Trial T7: nack and reject are not supported there, and would cost the connection (540).
fn a_consumer_of_a_stream_queue_may_be_left_early<R: Row>() {
    run::<R, _>(|link| async move {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("stream-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let arguments = Table::new().with("x-queue-type", "stream");
        soon("queue.declare", channel.queue_declare(&name).arguments(arguments)).await.unwrap();
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        for n in 0..50 {
            publish(&channel, &name, &[n]).await;
        }
        let from_the_first = || {
            let consume = channel.basic_consume(&name).prefetch(20);
            consume.arguments(Table::new().with("x-stream-offset", "first"))
        };
        // Dropped with messages that have come and with messages that are on their way.
        let mut consumer = soon("basic.consume", from_the_first()).await.unwrap();
        for n in 0..5 {
            let message = next(&mut consumer).await;
            assert_eq!(message.body[..], [n]);
            channel.basic_ack(message.delivery_tag).unwrap();
        }
        while consumer.len() < 10 {
            assert_in_step(&channel, &name).await;
        }
        drop(consumer);
        assert_in_step(&channel, &name).await;
        // Cancelled, by its own callback at the first message.
        let cancelled = from_the_first()
            .on_message(|(), channel, delivery| channel.basic_cancel(delivery.consumer_tag.to_owned()).send());
        soon("basic.consume", cancelled).await.unwrap();
        while !channel.consumer_tags().is_empty() {
            assert_in_step(&channel, &name).await;
        }
        assert_in_step(&channel, &name).await;
        // Not even taken.
        drop(from_the_first().into_future());
        assert_in_step(&channel, &name).await;
        let mut again = soon("basic.consume", from_the_first()).await.unwrap();
        assert_eq!(next(&mut again).await.body[..], [0]);
        drop(again);
        assert_in_step(&channel, &name).await;
        soon("queue.delete", channel.queue_delete(&name)).await.unwrap();
        close(&connection).await;
    });
}

/// The program ends without closing: its loop is dropped, or the task that serves it is aborted.
fn a_loop_that_is_dropped_answers_everybody<R: Row>() {
    let (proxy, parameters) = behind_a_proxy::<R>();
    R::run(parameters, |link| async move {
        let (connection, drop_loop) = link.open_and_drop().await;
        assert_all_answered(connection, &proxy, drop_loop).await;
    });
}

fn a_connection_that_is_cut_answers_everybody<R: Row>() {
    let (proxy, parameters) = behind_a_proxy::<R>();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        assert_all_answered(connection, &proxy, || proxy.cut()).await;
    });
}

fn a_panicking_callback_costs_its_channel_and_no_other<R: Row>() {
    run::<R, _>(|link| async move {
        let connection = link.open().await;
        let (channel, other) = (channel(&connection).await, channel(&connection).await);
        let queue = queue(&other).await;
        let mut consumer = soon("basic.consume", other.basic_consume(&*queue)).await.unwrap();
        channel.queue_declare("").then(|_: &mut (), _, _| -> () { panic!("on purpose") });
        // What was on its way is still answered.
        let error = loop {
            if let Err(error) = soon("a declare", channel.queue_declare("")).await {
                break error;
            }
        };
        assert_eq!(error, Error::Panicked { channel: channel.channel_number() });
        other.basic_publish("", &queue, "body").send().unwrap();
        assert_eq!(next(&mut consumer).await.body, "body");
        close(&connection).await;
    });
}

/// Fault 19, PR13: heartbeats are the loop's business, whatever the program does with its own threads.
fn a_program_that_keeps_its_thread_keeps_its_connection_if_the_loop_has_another<R: Row>() {
    let parameters = R::parameters().into_builder().heartbeat(Some(1)).build().unwrap();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        assert_eq!(connection.heartbeat(), 1);
        // The fault itself: nothing else happens on this thread for five intervals.
        thread::sleep(Duration::from_secs(5));
        let declared = soon("a declare", channel.queue_declare("")).await;
        assert_eq!(declared.is_ok(), R::HAS_OWN_THREAD, "{declared:?}");
        if R::HAS_OWN_THREAD {
            close(&connection).await;
        }
    });
}

/// Publishes until the socket and the outbound buffer are full.
async fn clog(channel: &Channel, queue: &str) -> u32 {
    let connection = channel.connection();
    let mark = connection.parameters().outbound_high_water();
    for published in 1..4000 {
        channel.basic_publish("", queue, &[7; 64 * 1024]).send().unwrap();
        // Over the mark the loop has written what it can before it lets anybody go on.
        if connection.outbound_len() > mark && !drop_after(connection.writable(), 1, false).await {
            let settled = futures_lite::future::or(async { Some(connection.writable().await) }, async {
                smol::Timer::after(Duration::from_millis(200)).await;
                None
            });
            if settled.await.is_none() {
                return published;
            }
        }
    }
    panic!("the socket takes everything");
}

/// Faults 20, 21, PR13
fn a_silent_peer_is_given_up_with_a_write_pending<R: Row>() {
    let (proxy, parameters) = behind_a_proxy::<R>();
    let parameters = parameters.into_builder().heartbeat(Some(2)).outbound_high_water(100_000).build().unwrap();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        let queue = queue(&channel).await;
        let mut consumer = soon("basic.consume", channel.basic_consume(&*queue)).await.unwrap();
        let silent = Instant::now();
        proxy.hold(Way::ToBroker);
        proxy.hold(Way::ToClient);
        clog(&channel, &queue).await;
        let mut room = pin!(connection.writable());
        let error = end(&mut consumer).await;
        assert!(matches!(error, Error::HeartbeatTimeout { .. }), "{error}");
        // Two intervals and a second; the machine may be busy.
        assert!(silent.elapsed() < Duration::from_secs(8), "{:?}", silent.elapsed());
        assert_eq!(soon("room", room.as_mut()).await.unwrap_err(), error);
    });
}

/// Fault 21, PR28
fn a_broker_that_does_not_read_is_still_heard_and_costs_no_memory<R: Row>() {
    let (proxy, parameters) = behind_a_proxy::<R>();
    let direct = R::parameters();
    let parameters = parameters.into_builder().heartbeat(Some(0)).outbound_high_water(100_000).build().unwrap();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let name = format!("pooka.clogged.{}.{}", std::process::id(), std::any::type_name::<R>());
        soon("a declare", channel.queue_declare(&*name).auto_delete(true)).await.unwrap();
        let bulk = queue(&channel).await;
        let mut consumer = soon("basic.consume", channel.basic_consume(&*name)).await.unwrap();
        proxy.hold(Way::ToBroker);
        let published = clog(&channel, &bulk).await;
        // Whoever awaits waits for room, and holds nothing.
        let held = connection.outbound_len();
        let mut waiting = pin!(channel.basic_publish("", &bulk, vec![7; 1 << 20]).into_future());
        assert!(pends(waiting.as_mut()));
        assert!(connection.outbound_len() <= held && held < 300_000, "{held}");
        // Reading goes on.
        let other = soon("a connect", connection.ioloop().connect(direct)).await.unwrap();
        let there = self::channel(&other).await;
        for n in 0..100 {
            there.basic_publish("", &name, &[n]).send().unwrap();
            assert_eq!(next(&mut consumer).await.body[..], [n]);
        }
        proxy.release(Way::ToBroker);
        assert_eq!(soon("the publish that waited", waiting).await.unwrap(), PublishOutcome::Acked);
        until(&channel, &bulk, |messages, _| messages == published + 1).await;
        close(&other).await;
        close(&connection).await;
    });
}

/// Faults 24, 39
fn a_stream_that_nobody_takes_from_is_bounded_and_stops_no_answer<R: Row>() {
    const ALL: u32 = 3000;
    let parameters = R::parameters().into_builder().heartbeat(Some(1)).build().unwrap();
    let others = R::parameters();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        let channel = channel(&connection).await;
        soon("confirm.select", channel.confirm_select()).await.unwrap();
        let name = format!("pooka.full.{}.{}", std::process::id(), std::any::type_name::<R>());
        soon("a declare", channel.queue_declare(&*name).auto_delete(true)).await.unwrap();
        let other = soon("a connect", connection.ioloop().connect(others)).await.unwrap();
        let there = self::channel(&other).await;
        soon("confirm.select", there.confirm_select()).await.unwrap();
        let consuming = channel.basic_consume(&*name).no_ack(true).capacity(10);
        let mut consumer = soon("basic.consume", consuming).await.unwrap();
        let body = |n: u32| [&n.to_be_bytes()[..], &[0; 4092]].concat();
        for n in 0..ALL {
            there.basic_publish("", &name, body(n)).send().unwrap();
        }
        publish(&there, "nowhere", b"all others are in the queue").await;
        // Four intervals in which nothing is read: the loop beats on.
        smol::Timer::after(Duration::from_secs(4)).await;
        assert!(connection.is_open());
        // What is asked for meanwhile is answered, although the messages lie before the answer.
        assert_in_step(&channel, &name).await;
        publish(&channel, "nowhere", b"a publish has its outcome").await;
        for n in 0..ALL {
            assert_eq!(next(&mut consumer).await.body[..4], n.to_be_bytes());
        }
        close(&other).await;
        close(&connection).await;
    });
}

/// Fault 41
fn channels_that_are_dropped_while_the_connection_closes_fail_nothing<R: Row>() {
    let parameters = R::parameters();
    let others = parameters.clone();
    R::run(parameters, |link| async move {
        let connection = link.open().await;
        for round in 0..20 {
            let other = soon("a connect", connection.ioloop().connect(others.clone())).await.unwrap();
            let (dropped, kept) = (channel(&other).await, channel(&other).await);
            let queue = queue(&dropped).await;
            let consumer = soon("basic.consume", dropped.basic_consume(&*queue)).await.unwrap();
            let beside = R::spawn(async move { drop((dropped, consumer)) });
            if round % 2 == 0 {
                soon("channel.close", kept.close()).await.unwrap();
            }
            close(&other).await;
            beside.await;
        }
        close(&connection).await;
    });
}

/// What the broker says is unacknowledged in a queue, of which all that can be delivered has been.
async fn unacknowledged(node: &RabbitNode, channel: &Channel, queue: &str) -> String {
    // The queue answers behind what it has delivered.
    for _ in 0..3 {
        assert_in_step(channel, queue).await;
    }
    let queues = node.ctl(&["list_queues", "--silent", "name", "messages_unacknowledged"]).unwrap();
    let line = queues.lines().find_map(|line| line.strip_prefix(queue));
    line.unwrap().trim().to_owned()
}

/// Trial T6: three limits and two kinds of consumer, by what the broker says is unacknowledged.
#[test]
fn limits_that_the_program_has_said_hold_beside_those_of_consumers() {
    // The limit of each consumer, of the channel as a whole, and what two consumers have of sixty messages: streams, and
    // callbacks with a prefetch of 8.
    let rows = [
        (None, Some(10), ["10", "10"]),
        (Some(5), None, ["10", "16"]),
        (Some(7), Some(10), ["10", "10"]),
        (Some(4), Some(30), ["8", "16"]),
        (None, None, ["60", "16"]),
    ];
    rows::OnTokio::<2>::run(rows::OnTokio::<2>::parameters_of(with_global_qos()), move |link| async move {
        let connection = link.open().await;
        let looking = channel(&connection).await;
        for (each, all, expected) in rows {
            for (kind, expected) in expected.into_iter().enumerate() {
                let queue = queue(&looking).await;
                let publisher = channel(&connection).await;
                soon("confirm.select", publisher.confirm_select()).await.unwrap();
                for n in 0..60 {
                    publish(&publisher, &queue, &[n]).await;
                }
                let limited = channel(&connection).await;
                if let Some(all) = all {
                    soon("basic.qos", limited.basic_qos(all).global(true)).await.unwrap();
                }
                if let Some(each) = each {
                    soon("basic.qos", limited.basic_qos(each)).await.unwrap();
                }
                let mut streams = vec![];
                for _ in 0..2 {
                    if kind == 0 {
                        streams.push(soon("basic.consume", limited.basic_consume(&*queue)).await.unwrap());
                    } else {
                        let consume = limited.basic_consume(&*queue).prefetch(8).on_message(|(), _, _| ());
                        soon("basic.consume", consume).await.unwrap();
                    }
                }
                assert_eq!(
                    unacknowledged(with_global_qos(), &looking, &queue).await,
                    expected,
                    "{each:?} {all:?}, kind {kind}"
                );
                soon("channel.close", limited.close()).await.unwrap();
            }
        }
        close(&connection).await;
    });
}

/// Trial T6: what an operator has set holds for consumers of whose limit nothing is said, beside others too.
#[test]
fn an_operator_s_default_limit_is_not_lifted() {
    let set = |limit: &str| {
        let set = format!("application:set_env(rabbit, default_consumer_prefetch, {limit}).");
        node().ctl(&["eval", &set]).unwrap();
    };
    set("{false, 6}");
    rows::OnTokio::<2>::run(rows::OnTokio::<2>::parameters_of(node()), move |link| async move {
        let connection = link.open().await;
        let (looking, limited) = (channel(&connection).await, channel(&connection).await);
        let (queue, other) = (queue(&looking).await, queue(&looking).await);
        soon("confirm.select", looking.confirm_select()).await.unwrap();
        for n in 0..150 {
            publish(&looking, &queue, &[n]).await;
            publish(&looking, &other, &[n]).await;
        }
        let plain = || limited.basic_consume(&*queue).on_message(|(), _, _| ());
        soon("basic.consume", plain()).await.unwrap();
        assert_eq!(unacknowledged(node(), &looking, &queue).await, "6");
        let _stream = soon("basic.consume", limited.basic_consume(&*other)).await.unwrap();
        soon("basic.consume", plain()).await.unwrap();
        assert_eq!(unacknowledged(node(), &looking, &queue).await, "106", "not all of them");
        close(&connection).await;
    });
    set("{false, 0}");
}
