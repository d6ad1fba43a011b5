//! pika's BlockingConnection on a real RabbitMQ. The names in brackets are the features that a test is about.
#![allow(clippy::unwrap_used)]

use pooka::{
    BlockingChannel, BlockingConnection, ConnectionParameters, Error, Message, Result, ShortString, Table,
    error::{IoError, Misuse},
};
use pooka_testkit::{RabbitNode, broker_url};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

fn parameters() -> ConnectionParameters {
    broker_url().unwrap().parse().unwrap()
}

fn open() -> (BlockingConnection, BlockingChannel, String) {
    let connection = BlockingConnection::open(parameters()).unwrap();
    let channel = connection.channel().call().unwrap();
    let queue = channel.queue_declare("").call().unwrap().queue.to_string();
    (connection, channel, queue)
}

/// Publishes so many one-octet messages, and knows that they are in the queue.
fn fill(channel: &BlockingChannel, queue: &str, messages: u8) {
    channel.confirm_select().call().unwrap();
    for n in 0..messages {
        channel.basic_publish("", queue, &[n]).call().unwrap();
    }
}

fn ready(channel: &BlockingChannel, queue: &str) -> u32 {
    channel.queue_declare(queue).passive(true).call().unwrap().message_count
}

/// What is not told by an event is asked for again and again.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < 20 * SECOND, "{what}: not within 20 s");
        thread::yield_now();
    }
}

/// B1, B2, B6.
#[test]
fn each_call_returns_its_answer() {
    let (connection, channel, queue) = open();
    assert!(connection.is_open() && connection.has_capability("basic.nack"));
    assert_eq!(channel.basic_get(&queue).call().unwrap(), None);
    channel.basic_publish("", &queue, "one").call().unwrap();
    channel.basic_publish("", &queue, "two").call().unwrap();
    let one = channel.basic_get(&queue).call().unwrap().unwrap();
    assert_eq!((&one.body[..], one.message_count), (&b"one"[..], Some(1)));
    channel.basic_ack(one.delivery_tag).unwrap();
    let two = channel.basic_get(&queue).no_ack(true).call().unwrap().unwrap();
    assert_eq!(two.body, "two");
    let numbered = connection.channel().channel_number(7).call().unwrap();
    assert_eq!(numbered.channel_number(), 7);
    numbered.close().call().unwrap();
    numbered.close().call().unwrap(); // Trial T23: it is closed
    let error = numbered.basic_qos(1).call().unwrap_err();
    assert!(matches!(error, Error::ChannelClosedByClient { channel: 7, .. }), "{error}");
    let mut messages = channel.consume(&queue).call().unwrap();
    connection.close().call().unwrap();
    assert!(messages.next().is_none(), "a deliberate end");
    connection.close().call().unwrap();
    assert!(connection.is_closed() && channel.is_closed());
    let error = connection.process_data_events(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::ConnectionClosedByClient { .. }), "{error}");
}

/// B1: no answer is waited for without end.
#[test]
fn a_connection_that_cannot_be_opened_says_why() {
    let wrong = parameters().into_builder().virtual_host("no such host").build().unwrap();
    let error = BlockingConnection::open(wrong).unwrap_err();
    assert!(matches!(error, Error::AccessRefused { .. }), "{error}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("amqp://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let patience = Duration::from_millis(200);
    let silent: ConnectionParameters = silent.parse().unwrap();
    let error = BlockingConnection::open(silent.into_builder().stack_timeout(patience).build().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. } | Error::CannotConnect { .. }), "{error}");
}

/// D8, F12: each attempt waits for the one before, and the error lists them all.
#[test]
fn a_connection_is_attempted_as_often_as_its_parameters_say() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed: ConnectionParameters = format!("amqp://{address}").parse().unwrap();
    let delay = SECOND / 10;
    let closed = closed.into_builder().connection_attempts(3).retry_delay(delay).build().unwrap();
    let begun = Instant::now();
    let error = BlockingConnection::open(closed).unwrap_err();
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    let Error::CannotConnect { attempts, .. } = error else { panic!("{error}") };
    let expected = (address.to_string(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| (attempt.address.to_string(), attempt.cause.kind) == expected));
}

/// B7, B16.
#[test]
fn a_publish_returns_when_the_broker_has_it_or_says_why_not() {
    let (connection, channel, queue) = open();
    channel.confirm_select().call().unwrap();
    channel.basic_publish("", &queue, "kept").mandatory(true).call().unwrap();
    assert_eq!(ready(&channel, &queue), 1);
    let error = channel.basic_publish("", "no such queue", "lost").mandatory(true).call().unwrap_err();
    assert!(error.to_string().contains("312 NO_ROUTE"), "{error}");
    let Error::Unroutable(returned) = error else { panic!("{error}") };
    assert_eq!((&returned.body[..], returned.reply_code), (&b"lost"[..], 312));
    channel.basic_publish("", "no such queue", "dropped").call().unwrap();

    let full = pooka::Table::new().with("x-max-length", 1).with("x-overflow", "reject-publish");
    let full = channel.queue_declare("").arguments(full).call().unwrap().queue;
    channel.basic_publish("", &full, "fits").call().unwrap();
    let error = channel.basic_publish("", &full, "does not").call().unwrap_err();
    assert!(matches!(error, Error::Nacked { .. }), "{error}");
    connection.close().call().unwrap();
}

#[test]
fn a_window_of_publishes_is_confirmed_by_waiting_for_it() {
    let (connection, channel, queue) = open();
    channel.confirm_select().call().unwrap();
    for n in 0..5000_u32 {
        channel.wait_for_confirms().at_most(99).call().unwrap();
        channel.basic_publish("", &queue, &n.to_be_bytes()).send().unwrap();
        assert!(channel.unconfirmed() <= 100);
    }
    assert!(channel.wait_for_confirms().within(20 * SECOND).call().unwrap());
    assert_eq!((channel.unconfirmed(), ready(&channel, &queue)), (0, 5000));
    connection.close().call().unwrap();
}

/// B16: without confirms a message that comes back is an event.
#[test]
fn a_returned_message_is_given_to_its_callback_when_events_are_processed() {
    let (connection, channel, _) = open();
    let (returned, told) = mpsc::channel();
    let here = thread::current().id();
    channel.add_on_return_callback(move |_, message| {
        assert_eq!(thread::current().id(), here);
        returned.send(message.body.clone()).unwrap();
    });
    channel.basic_publish("", "no such queue", "back").mandatory(true).call().unwrap();
    channel.basic_qos(1).call().unwrap();
    assert!(told.try_recv().is_err(), "a call runs no callbacks");
    connection.process_data_events(SECOND).unwrap();
    assert_eq!(told.try_recv().unwrap(), "back");
}

/// B9, B10.
#[test]
fn messages_are_iterated_and_only_what_was_not_yielded_goes_back() {
    let (connection, channel, queue) = open();
    fill(&channel, &queue, 5);
    let mut messages = channel.consume(&queue).inactivity_timeout(SECOND / 10).call().unwrap();
    let first: Vec<_> = messages.by_ref().take(2).map(|message| message.unwrap().body[0]).collect();
    assert_eq!(first, [0, 1]);
    // A loop that was left is entered again.
    let third = messages.next().unwrap().unwrap();
    assert_eq!(third.body[0], 2);
    assert_eq!(ready(&channel, &queue), 0, "all five are here");
    assert_eq!(messages.waiting_message_count(), 2);
    assert_eq!(messages.cancel().unwrap(), 2);
    until("two go back", || ready(&channel, &queue) == 2);
    // What was yielded is still the program's.
    channel.basic_ack(third.delivery_tag).unwrap();

    let rest: Vec<_> = channel.consume(&queue).inactivity_timeout(SECOND / 10).into_iter().collect();
    assert_eq!(rest.iter().map(|message| message.as_ref().unwrap().body[0]).collect::<Vec<_>>(), [3, 4]);
    assert!(rest.iter().all(|message| message.as_ref().unwrap().redelivered));
    channel.basic_ack_multiple(rest[1].as_ref().unwrap().delivery_tag).unwrap();
    connection.close().call().unwrap();
}

/// Trial T26: what is given back counts as a delivery in a quorum queue, which drops a message after its limit of them.
#[test]
#[expect(clippy::never_loop, reason = "that is what the test is about")]
fn leaving_a_loop_after_each_message_loses_none_of_those_that_wait() {
    const MESSAGES: u8 = 60;
    let (connection, channel, queue) = open();
    let queue = format!("pooka.test.{queue}");
    let mut arguments = Table::new();
    arguments.insert("x-queue-type", "quorum");
    arguments.insert("x-delivery-limit", 20_i32);
    channel.queue_declare(&*queue).durable(true).arguments(arguments).call().unwrap();
    fill(&channel, &queue, MESSAGES);
    let mut seen = vec![];
    for before in 0..MESSAGES {
        assert_eq!(seen.len(), before.into(), "the broker has dropped the others");
        for message in channel.consume(&*queue).inactivity_timeout(10 * SECOND) {
            let message = message.unwrap();
            channel.basic_ack(message.delivery_tag).unwrap();
            seen.push(message.body[0]);
            break;
        }
    }
    assert_eq!(ready(&channel, &queue), 0);
    channel.queue_delete(&*queue).call().unwrap();
    connection.close().call().unwrap();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
}

/// B9: whether it is said for a callback or for an iterator.
#[test]
fn an_iterator_takes_no_more_ahead_than_it_was_told() {
    let (connection, channel, queue) = open();
    fill(&channel, &queue, 5);
    let mut messages = channel.consume(&queue).prefetch(2).call().unwrap();
    for _ in 0..2 {
        messages.next_within(10 * SECOND).unwrap().unwrap();
    }
    assert_eq!(ready(&channel, &queue), 3);
    drop(messages);
    connection.close().call().unwrap();
}

/// B9: what ends a consumer is its last item.
#[test]
fn an_iterator_ends_with_the_reason() {
    let (_connection, channel, queue) = open();
    let mut messages = channel.consume(&queue).call().unwrap();
    assert_eq!(messages.next_within(Duration::ZERO).unwrap(), None);
    channel.basic_publish("", &queue, "found by looking again and again").send().unwrap();
    until("a message is there", || messages.next_within(Duration::ZERO).unwrap().is_some());
    channel.queue_delete(&queue).call().unwrap();
    let error = messages.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::ConsumerCancelled { .. }), "{error}");
    assert!(messages.next().is_none());

    let mut failed = channel.consume("no such queue").into_iter();
    assert_eq!(failed.next().unwrap().unwrap_err().reply_code(), Some(404));
    assert!(failed.next().is_none());
}

/// B11, B12.
#[test]
fn consuming_goes_on_until_the_last_consumer_is_cancelled() {
    let (connection, channel, queue) = open();
    fill(&channel, &queue, 5);
    let seen = Arc::new(Mutex::new(vec![]));
    let log = seen.clone();
    channel
        .basic_consume(&queue)
        .on_message(move |channel, message| -> Result<()> {
            log.lock().unwrap().push(message.body[0]);
            channel.basic_ack(message.delivery_tag)?;
            let error = channel.start_consuming().unwrap_err();
            assert_eq!(error, Error::Misuse(Misuse::StartConsumingInCallback));
            // Another call from within a callback, and no callback from within a call.
            channel.queue_declare("").call()?;
            if message.body[0] == 2 { channel.stop_consuming() } else { Ok(()) }
        })
        .unwrap();
    channel.start_consuming().unwrap();
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
    until("two go back", || ready(&channel, &queue) == 2);

    let cancelled = Arc::new(AtomicUsize::new(0));
    let counted = cancelled.clone();
    channel.add_on_cancel_callback(move |_, tag| {
        assert_eq!(tag, "mine");
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let consume = channel.basic_consume(&queue).consumer_tag("mine");
    consume.on_message(|channel, message| channel.basic_ack(message.delivery_tag)).unwrap();
    connection.channel().call().unwrap().queue_delete(&queue).call().unwrap();
    let error = channel.start_consuming().unwrap_err();
    assert_eq!(error, Error::ConsumerCancelled { channel: channel.channel_number(), consumer_tag: "mine".into() });
    assert_eq!(cancelled.load(Ordering::Relaxed), 1, "the broker has cancelled it");
}

/// Trial T21: whoever ends the last consumer says whether that is an error.
#[test]
fn consuming_that_the_broker_ends_is_an_error() {
    let (connection, channel, mine) = open();
    let elsewhere = connection.channel().call().unwrap();
    let declare = || elsewhere.queue_declare("").call().unwrap().queue.to_string();
    let consume = |queue: &str| channel.basic_consume(queue).on_message(|_, _| ()).unwrap();
    let is_cancelled = |tag: &ShortString| {
        let consumer_tag = tag.to_string().into();
        Err(Error::ConsumerCancelled { channel: channel.channel_number(), consumer_tag })
    };
    // Nobody is told of a callback's end: that is what comes out, also while it waits.
    let theirs = declare();
    let tag = consume(&theirs);
    let deleted = thread::scope(|threads| {
        let consuming = threads.spawn(|| channel.start_consuming());
        elsewhere.queue_delete(&theirs).call().unwrap();
        consuming.join().unwrap()
    });
    assert_eq!(deleted, is_cancelled(&tag));
    assert_eq!(channel.start_consuming(), is_cancelled(&tag), "until the program does something about it");
    channel.stop_consuming().unwrap();
    channel.start_consuming().unwrap();
    // The broker ends the first one, and the program the last.
    let theirs = declare();
    consume(&theirs);
    consume(&mine);
    elsewhere.queue_delete(&theirs).call().unwrap();
    until("one is left", || {
        connection.process_data_events(Duration::ZERO).unwrap();
        channel.consumer_tags().len() == 1
    });
    channel.stop_consuming().unwrap();
    channel.start_consuming().unwrap();
    // The other way round.
    let theirs = declare();
    let last = consume(&theirs);
    let first = consume(&mine);
    channel.basic_cancel(first).call().unwrap();
    elsewhere.queue_delete(&theirs).call().unwrap();
    assert_eq!(channel.start_consuming(), is_cancelled(&last));
    // A new beginning.
    let tag = consume(&mine);
    channel.basic_cancel(tag).call().unwrap();
    channel.start_consuming().unwrap();
    connection.close().call().unwrap();
}

/// Trial T23
#[test]
fn what_the_program_has_closed_itself_is_no_error() {
    let (connection, channel, queue) = open();
    let mut messages = channel.consume(&queue).call().unwrap();
    channel.close().call().unwrap();
    channel.close().call().unwrap();
    channel.close().send().unwrap();
    assert!(messages.next().is_none());
    let other = connection.channel().call().unwrap();
    let queue = other.queue_declare("").call().unwrap().queue;
    let mut messages = other.consume(queue).call().unwrap();
    connection.close().call().unwrap();
    connection.close().call().unwrap();
    other.close().call().unwrap();
    assert!(messages.next().is_none() && messages.next().is_none());
    // Everything else is told.
    assert!(matches!(other.basic_qos(1).call(), Err(Error::ConnectionClosedByClient { .. })));
    let (_connection, channel, queue) = open();
    let mut messages = channel.consume(queue).call().unwrap();
    let error = channel.queue_declare("no such queue").passive(true).call().unwrap_err();
    assert_eq!(messages.next(), Some(Err(error.clone())));
    assert_eq!(channel.close().call(), Err(error));
}

#[test]
fn a_callback_knows_its_consumer_and_its_connection() {
    let (connection, channel, queue) = open();
    fill(&channel, &queue, 2);
    drop(channel.connection());
    assert!(connection.is_open(), "only the one that opened it ends it");
    let got = channel.basic_get(&queue).call().unwrap().unwrap();
    assert_eq!(*got.consumer_tag, "", "no consumer's");
    channel
        .basic_consume(&queue)
        .consumer_tag("mine")
        .on_message(|channel, message| {
            assert_eq!(*message.consumer_tag, "mine");
            channel.basic_cancel(&*message.consumer_tag).call()?;
            channel.connection().close().call()
        })
        .unwrap();
    channel.start_consuming().unwrap();
    assert!(matches!(connection.close_reason(), Some(Error::ConnectionClosedByClient { .. })));
}

/// B13.
#[test]
fn a_channel_that_the_broker_closes_says_so_and_the_connection_goes_on() {
    let (connection, channel, queue) = open();
    let error = channel.queue_declare("no such queue").passive(true).call().unwrap_err();
    assert_eq!(error.reply_code(), Some(404));
    assert_eq!(channel.basic_qos(1).call().unwrap_err(), error);
    assert_eq!(channel.close_reason(), Some(error));
    let channel = connection.channel().call().unwrap();
    channel
        .basic_consume(&queue)
        .on_message(|channel, message| {
            // A tag that the broker does not know any more.
            channel.basic_ack(message.delivery_tag)?;
            channel.basic_ack(message.delivery_tag)
        })
        .unwrap();
    channel.basic_publish("", &queue, "x").send().unwrap();
    assert_eq!(channel.start_consuming().unwrap_err().reply_code(), Some(406));
    connection.close().call().unwrap();
}

/// B3, B4, B5.
#[test]
fn timers_and_calls_of_other_threads_run_when_events_are_processed() {
    let (connection, _channel, _) = open();
    let log = Arc::new(Mutex::new(vec![]));
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.lock().unwrap().push(what)
    };
    connection.call_later(SECOND / 20, note("second")).unwrap();
    connection.add_timeout(SECOND / 100, note("first")).unwrap();
    let removed = connection.call_later(SECOND / 50, note("removed")).unwrap();
    assert!(connection.remove_timeout(removed) && !connection.remove_timeout(removed));
    connection.sleep(SECOND / 5).unwrap();
    assert_eq!(*log.lock().unwrap(), ["first", "second"]);

    // Due, and waiting for its call: it can still be taken back.
    let due = connection.call_later(Duration::ZERO, note("due")).unwrap();
    connection.channel().call().unwrap();
    connection.channel().call().unwrap();
    assert!(connection.remove_timeout(due));
    connection.process_data_events(Duration::ZERO).unwrap();

    let begun = Instant::now();
    thread::scope(|threads| {
        threads.spawn(|| connection.add_callback_threadsafe(note("called")));
        connection.process_data_events(None).unwrap();
    });
    assert!(begun.elapsed() < 5 * SECOND);
    assert_eq!(*log.lock().unwrap(), ["first", "second", "called"]);
}

#[test]
fn the_error_of_a_callback_comes_out_and_a_panic_costs_its_channel() {
    let (connection, channel, queue) = open();
    connection.call_later(Duration::ZERO, || Err::<(), _>("oh no")).unwrap();
    connection.call_later(Duration::ZERO, || ()).unwrap();
    let error = connection.process_data_events(SECOND).unwrap_err();
    assert!(error.to_string().contains("oh no"), "{error}");
    connection.process_data_events(Duration::ZERO).unwrap();

    let fragile = connection.channel().call().unwrap();
    fragile.basic_consume(&queue).on_message(|_, _| -> () { panic!("a callback of this test") }).unwrap();
    channel.basic_publish("", &queue, "x").send().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| fragile.start_consuming()));
    assert!(panicked.is_err() && fragile.is_closed());
    until("the message goes back", || ready(&channel, &queue) == 1);
}

/// B17
#[test]
fn a_connection_is_shared_by_threads() {
    let (connection, channel, queue) = open();
    thread::scope(|threads| {
        for n in 0..8_u8 {
            let (connection, queue) = (&connection, &queue);
            threads.spawn(move || {
                let channel = connection.channel().call().unwrap();
                channel.confirm_select().call().unwrap();
                for _ in 0..100 {
                    channel.basic_publish("", queue, &[n]).call().unwrap();
                    channel.queue_declare(queue).passive(true).call().unwrap();
                }
            });
        }
    });
    assert_eq!(ready(&channel, &queue), 800);
    let shared = Arc::new(AtomicUsize::new(0));
    thread::scope(|threads| {
        for _ in 0..4 {
            let (connection, queue, shared) = (&connection, &queue, &shared);
            threads.spawn(move || {
                let channel = connection.channel().call().unwrap();
                for message in channel.consume(queue).prefetch(10).inactivity_timeout(SECOND) {
                    channel.basic_ack(message.unwrap().delivery_tag).unwrap();
                    shared.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(shared.load(Ordering::Relaxed), 800);
    assert_eq!(ready(&channel, &queue), 0);
}

/// B17
#[test]
fn a_call_is_answered_while_another_thread_waits_for_a_message_that_does_not_come() {
    let (connection, channel, queue) = open();
    let mut messages = channel.consume(&queue).call().unwrap();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| messages.next().unwrap().unwrap());
        let other = connection.channel().call().unwrap();
        let begun = Instant::now();
        for _ in 0..50 {
            other.queue_declare(&queue).passive(true).call().unwrap();
        }
        assert!(begun.elapsed() < 10 * SECOND, "50 calls took {:?}", begun.elapsed());
        other.basic_publish("", &queue, "now").send().unwrap();
        assert_eq!(waiting.join().unwrap().body, "now");
    });
}

#[test]
fn futures_of_any_kind_are_driven() {
    let (connection, _channel, queue) = open();
    let (told, waiting) = mpsc::channel::<std::task::Waker>();
    let waker = thread::spawn(move || waiting.recv().unwrap().wake());
    let mut told = Some(told);
    let handle = connection.handle().clone();
    let got = connection.block_on(async {
        let channel = handle.channel().await?;
        channel.confirm_select().await?;
        channel.basic_publish("", &queue, "awaited").await?;
        // Somebody else's future, which another thread wakes while this one sleeps in its socket.
        std::future::poll_fn(|context| match told.take() {
            Some(told) => {
                told.send(context.waker().clone()).unwrap();
                std::task::Poll::Pending
            }
            None => std::task::Poll::Ready(()),
        })
        .await;
        channel.basic_get(&queue).await
    });
    waker.join().unwrap();
    assert_eq!(got.unwrap().unwrap().unwrap().body, "awaited");
}

#[test]
fn a_dropped_connection_answers_everybody_who_waits() {
    let (connection, channel, queue) = open();
    let (begun, waits) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let mut messages = channel.consume(&queue).call().unwrap();
        begun.send(()).unwrap();
        (messages.next(), channel)
    });
    waits.recv().unwrap();
    drop(connection);
    let (item, channel) = waiting.join().unwrap();
    assert!(item.is_none_or(|item| item.is_err()));
    assert!(channel.basic_qos(1).call().is_err() && channel.is_closed());
}

/// A slow application costs bounded memory.
#[test]
fn what_nobody_processes_is_not_read() {
    let (_connection, channel, queue) = open();
    let consuming = BlockingConnection::open(parameters()).unwrap();
    let elsewhere = consuming.channel().call().unwrap();
    let shared =
        channel.queue_declare(format!("pooka.test.{queue}")).durable(true).auto_delete(true).call().unwrap().queue;
    channel.confirm_select().call().unwrap();
    let body = vec![7; 1 << 20];
    for _ in 0..15 {
        channel.basic_publish("", &shared, &body[..]).send().unwrap();
    }
    channel.basic_publish("", &shared, &body[..]).call().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    elsewhere
        .basic_consume(&shared)
        .no_ack(true)
        .on_message(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    // The loop is driven a thousand times, each time reading up to a mebibyte, and no callback may run.
    let begun = Instant::now();
    while begun.elapsed() < SECOND {
        elsewhere.basic_publish("", "no such queue", "drives the loop").send().unwrap();
    }
    consuming.process_data_events(Duration::ZERO).unwrap();
    let arrived = count.load(Ordering::Relaxed);
    assert!((1..=8).contains(&arrived), "{arrived} messages of a mebibyte were kept here");
    // Answers are read all the same, and then everything else.
    elsewhere.basic_qos(1).call().unwrap();
    while count.load(Ordering::Relaxed) < 16 {
        consuming.process_data_events(5 * SECOND).unwrap();
    }
}

fn computing_keeps_the_connection(open: impl FnOnce(ConnectionParameters) -> Result<BlockingConnection>) -> Result<()> {
    let interval = 2;
    let connection = open(parameters().into_builder().heartbeat(Some(interval)).build()?)?;
    assert_eq!(connection.handle().heartbeat(), interval);
    let channel = connection.channel().call()?;
    // A computation of three intervals and a bit: time itself is what this is about.
    let begun = Instant::now();
    while begun.elapsed() < 3 * interval as u32 * SECOND + SECOND {
        thread::park_timeout(SECOND);
    }
    channel.queue_declare("").call()?;
    connection.close().call()
}

/// B19
#[test]
fn a_program_that_computes_for_three_heartbeat_intervals_keeps_its_connection() {
    computing_keeps_the_connection(BlockingConnection::open).unwrap();
}

/// The control of the test above.
#[test]
fn without_the_keeper_it_loses_it() {
    let error = computing_keeps_the_connection(BlockingConnection::open_without_keeper).unwrap_err();
    assert!(matches!(error, Error::StreamLost { .. } | Error::ConnectionClosedByBroker { .. }), "{error}");
}

#[test]
fn a_node_that_fails_is_told_to_whoever_waits() {
    let mut node = RabbitNode::start().unwrap();
    let connection = BlockingConnection::open(node.url().parse().unwrap()).unwrap();
    let channel = connection.channel().call().unwrap();
    let queue = channel.queue_declare("").call().unwrap().queue;
    let mut messages = channel.consume(queue).call().unwrap();
    let error = thread::scope(|threads| {
        let waiting = threads.spawn(|| messages.next().unwrap().unwrap_err());
        node.kill_9();
        waiting.join().unwrap()
    });
    assert!(matches!(&error, Error::StreamLost { cause: IoError { .. }, .. }), "{error}");
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap_err(), error);
}

/// Trial T7: nack and reject are not supported on a stream queue, and would cost the connection (540).
#[test]
fn a_consumer_of_a_stream_queue_may_be_left_early() {
    let connection = BlockingConnection::open(parameters()).unwrap();
    let channel = connection.channel().call().unwrap();
    let name = format!("blocking-stream-{}", std::process::id());
    let arguments = Table::new().with("x-queue-type", "stream");
    channel.queue_declare(&name).arguments(arguments).call().unwrap();
    fill(&channel, &name, 50);
    let first = || Table::new().with("x-stream-offset", "first");
    for _ in 0..2 {
        for (n, message) in channel.consume(&name).prefetch(20).arguments(first()).into_iter().enumerate() {
            let message = message.unwrap();
            assert_eq!(message.body[..], [n as u8]);
            channel.basic_ack(message.delivery_tag).unwrap();
            if n == 4 {
                break;
            }
        }
        channel.basic_qos(0).call().unwrap();
    }
    // What waits for a callback whose consumer is cancelled.
    let consume = channel.basic_consume(&name).prefetch(20).arguments(first());
    consume.on_message(|channel, _: Message| channel.stop_consuming()).unwrap();
    channel.start_consuming().unwrap();
    channel.queue_delete(&name).call().unwrap();
    connection.close().call().unwrap();
}
