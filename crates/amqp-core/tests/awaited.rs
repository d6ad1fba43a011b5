//! `.await` against a scripted peer: what futures and streams give, and what is left when they are dropped early.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    Channel, ConnectionParameters, Consumer, Error, Message, PublishOutcome, Result,
    spec::{Method, basic, channel, confirm, connection, queue},
};
use pooka_testkit::scripted_peer::{Frame, Scene};
use std::{
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Counts how often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<F: Future>(future: Pin<&mut F>) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it should be ready"),
    }
}

fn scene(parameters: ConnectionParameters) -> Scene<()> {
    let mut scene = Scene::new(parameters, |_: &mut (), _, opened| opened.unwrap());
    scene.open(&mut ()).unwrap();
    scene
}

fn with_channel() -> (Scene<()>, Channel) {
    let mut scene = scene(ConnectionParameters::default());
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    scene.wire.heard();
    (scene, channel)
}

fn run(scene: &mut Scene<()>) {
    scene.run(&mut ()).unwrap();
}

fn heard(scene: &mut Scene<()>) -> Vec<(u16, Method)> {
    run(scene);
    scene.wire.heard_methods()
}

fn get_ok(scene: &mut Scene<()>, delivery_tag: u64) {
    scene.wire.say(1, basic::GetOk { delivery_tag, ..Default::default() });
    scene.wire.content(1, &Default::default(), b"got", 100);
    run(scene);
}

fn deliver(scene: &mut Scene<()>, tags: std::ops::RangeInclusive<u64>) {
    for delivery_tag in tags {
        scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag, ..Default::default() });
        scene.wire.content(1, &Default::default(), &delivery_tag.to_be_bytes(), 100);
    }
    run(scene);
}

fn next(consumer: &mut Consumer) -> Poll<Option<Result<Message>>> {
    poll(pin!(consumer.next()))
}

fn numbers(consumer: &mut Consumer) -> Vec<u64> {
    let mut numbers = vec![];
    while let Poll::Ready(Some(Ok(message))) = next(consumer) {
        numbers.push(message.delivery_tag.number());
    }
    numbers
}

fn consuming(scene: &mut Scene<()>, channel: &Channel) -> Consumer {
    let mut consumer = pin!(channel.basic_consume("q").consumer_tag("c").into_future());
    assert!(poll(consumer.as_mut()).is_pending());
    // Of a second one on its channel nothing more need be said.
    let said = heard(scene).into_iter().filter(|(_, m)| matches!(m, Method::Basic(basic::Method::Qos(_)))).count();
    (0..said).for_each(|_| scene.wire.say(1, basic::QosOk {}));
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    run(scene);
    ready(consumer).unwrap()
}

/// A stream of what nobody acknowledges, in which so many messages may wait.
fn streaming(scene: &mut Scene<()>, channel: &Channel, capacity: usize) -> Consumer {
    let mut consumed = pin!(channel.basic_consume("q").consumer_tag("c").no_ack(true).capacity(capacity).into_future());
    assert!(poll(consumed.as_mut()).is_pending());
    run(scene);
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    run(scene);
    ready(consumed).unwrap()
}

/// T3
#[test]
fn a_request_is_sent_when_it_is_awaited_and_wakes_its_task_once() {
    let (mut scene, channel) = with_channel();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(declared.as_mut().poll(&mut context).is_pending());
    assert!(matches!(heard(&mut scene)[..], [(1, Method::Queue(queue::Method::Declare(_)))]));
    scene.wire.say(1, queue::DeclareOk { queue: "q".into(), message_count: 7, consumer_count: 0 });
    run(&mut scene);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(ready(declared).unwrap().message_count, 7);
}

#[test]
fn a_request_that_cannot_be_sent_is_answered_at_once() {
    let (mut scene, channel) = with_channel();
    let error = ready(pin!(channel.queue_purge("x".repeat(256)).into_future())).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let error = ready(pin!(channel.flow(false).into_future())).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(heard(&mut scene), []);
    assert!(channel.is_open());
}

#[test]
fn everything_that_is_awaited_ends_with_the_reason_when_the_connection_is_lost() {
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    let mut declared = pin!(channel.queue_declare("q").into_future());
    let mut opened = pin!(scene.connection.channel().into_future());
    let mut published = pin!(channel.basic_publish("", "q", "body").into_future());
    let mut selected = pin!(channel.confirm_select().into_future());
    assert!(poll(selected.as_mut()).is_pending());
    assert!(poll(published.as_mut()).is_pending());
    assert!(poll(declared.as_mut()).is_pending() && poll(opened.as_mut()).is_pending());
    scene.wire.hang_up();
    run(&mut scene);
    let lost = |error: &Error| matches!(error, Error::StreamLost { .. });
    assert!(lost(&ready(declared).unwrap_err()));
    assert!(lost(&ready(opened).unwrap_err()));
    assert!(lost(&ready(published).unwrap_err()));
    assert!(lost(&ready(selected).unwrap_err()));
    assert!(matches!(next(&mut consumer), Poll::Ready(Some(Err(error))) if lost(&error)));
    assert!(matches!(next(&mut consumer), Poll::Ready(None)));
    assert!(lost(&ready(pin!(channel.queue_declare("q").into_future())).unwrap_err()));
}

/// DESIGN's one exception: callbacks are dropped uncalled, whoever awaits is told.
#[test]
fn a_loop_that_is_dropped_answers_whoever_awaits() {
    let (scene, channel) = with_channel();
    let connection = scene.connection.clone();
    let mut declared = pin!(channel.queue_declare("q").into_future());
    let mut closed = pin!(connection.close().into_future());
    assert!(poll(declared.as_mut()).is_pending() && poll(closed.as_mut()).is_pending());
    let ioloop = scene.ioloop();
    drop(scene);
    assert_eq!(ready(declared).unwrap_err(), Error::LoopGone);
    assert_eq!(ready(closed).unwrap_err(), Error::LoopGone);
    let late = ioloop.connect(ConnectionParameters::default()).then(|_: &mut (), _, _| ());
    assert_eq!(ready(pin!(late.close().into_future())).unwrap_err(), Error::LoopGone);
    assert!(late.is_closed());
}

#[test]
fn a_publish_has_its_outcome() {
    let (mut scene, channel) = with_channel();
    let error = ready(pin!(channel.basic_publish("", "q", "body").into_future())).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let mut selected = pin!(channel.confirm_select().into_future());
    assert!(poll(selected.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, confirm::SelectOk {});
    run(&mut scene);
    ready(selected).unwrap();
    let mut first = pin!(channel.basic_publish("", "q", "1").into_future());
    let mut second = pin!(channel.basic_publish("", "q", "2").into_future());
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, basic::Nack { delivery_tag: 2, ..Default::default() });
    run(&mut scene);
    assert_eq!(ready(second).unwrap(), PublishOutcome::Nacked);
    assert!(poll(first.as_mut()).is_pending());
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    run(&mut scene);
    assert_eq!(ready(first).unwrap(), PublishOutcome::Acked);
}

/// X3
#[test]
fn over_the_high_water_mark_publishes_wait_for_room() {
    let parameters = ConnectionParameters::builder().outbound_high_water(1000).build().unwrap();
    let mut scene = scene(parameters);
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    channel.confirm_select().send().unwrap();
    run(&mut scene);
    scene.wire.heard();
    scene.wire.room(Some(0));
    channel.basic_publish("", "q", &[0; 2000]).send().unwrap();
    run(&mut scene);
    let mut waiting = pin!(channel.basic_publish("", "q", "late").into_future());
    let mut writable = pin!(scene.connection.writable());
    let mut dropped = Box::pin(scene.connection.writable());
    assert!(poll(waiting.as_mut()).is_pending() && poll(writable.as_mut()).is_pending());
    assert!(poll(dropped.as_mut()).is_pending());
    drop(dropped);
    let held = scene.connection.outbound_len();
    assert!(held > 2000 && held < 2100, "the publish that waits is not in the buffer: {held}");
    // Below the high mark, and not yet at the low one, which is half of it.
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    assert!(writable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    scene.wire.room(Some(held - 700));
    scene.writable();
    run(&mut scene);
    assert_eq!((scene.connection.outbound_len(), wakes.0.load(Ordering::Relaxed)), (700, 0));
    scene.wire.room(None);
    scene.writable();
    run(&mut scene);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    ready(writable).unwrap();
    assert!(poll(waiting.as_mut()).is_pending());
    run(&mut scene);
    assert!(scene.wire.heard().contains(&Frame::Body(1, b"late".to_vec())));
}

/// A connection on which 2000 octets wait, of 1000 that may, and which writes them when it is told to.
fn crowded() -> (Scene<()>, Channel) {
    let parameters = ConnectionParameters::builder().outbound_high_water(1000).build().unwrap();
    let mut scene = scene(parameters);
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    scene.wire.room(Some(0));
    channel.basic_publish("", "q", &[0; 2000]).send().unwrap();
    run(&mut scene);
    (scene, channel)
}

/// Writes what waits; then as much waits again.
fn drain_and_crowd(scene: &mut Scene<()>, channel: &Channel) {
    scene.wire.room(None);
    scene.writable();
    run(scene);
    scene.wire.room(Some(0));
    channel.basic_publish("", "q", &[0; 2000]).send().unwrap();
    run(scene);
}

/// Trial T1: those who wait again are woken again, in whatever order they were polled and whoever has left.
#[test]
fn whoever_waits_for_room_again_is_woken_again() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        for dropped in [None, Some(0), Some(1), Some(2)] {
            let (mut scene, channel) = crowded();
            let wakes: Vec<_> = (0..3).map(|_| Arc::new(Wakes::default())).collect();
            let wakers: Vec<_> = wakes.iter().map(|wakes| Waker::from(wakes.clone())).collect();
            let mut waiting: Vec<_> = (0..3).map(|_| Some(Box::pin(scene.connection.writable()))).collect();
            for (writable, waker) in waiting.iter_mut().zip(&wakers) {
                assert!(writable.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
            for round in 1..=3 {
                drain_and_crowd(&mut scene, &channel);
                for at in order {
                    if dropped == Some(at) {
                        waiting[at] = None;
                    }
                    let Some(writable) = &mut waiting[at] else { continue };
                    assert_eq!(wakes[at].0.load(Ordering::Relaxed), round, "{order:?} {dropped:?} {at}");
                    assert!(writable.as_mut().poll(&mut Context::from_waker(&wakers[at])).is_pending());
                }
            }
            scene.wire.hang_up();
            assert!(scene.run(&mut ()).is_err());
            for (writable, wakes) in waiting.iter_mut().zip(&wakes) {
                let Some(writable) = writable else { continue };
                assert_eq!(wakes.0.load(Ordering::Relaxed), 4, "the end of the connection wakes");
                assert!(matches!(ready(writable.as_mut()), Err(Error::StreamLost { .. })));
            }
        }
    }
}

/// M12: what a dropped future leaves behind is nothing that another call could trip over.
#[test]
fn an_unclaimed_message_is_requeued() {
    let (mut scene, channel) = with_channel();
    for (polls, no_ack) in [(0, false), (1, false), (1, true)] {
        let mut got = Box::pin(channel.basic_get("q").no_ack(no_ack).into_future());
        (0..polls).for_each(|_| assert!(poll(got.as_mut()).is_pending()));
        drop(got);
        run(&mut scene);
        scene.wire.heard();
        get_ok(&mut scene, 5);
        let rejects = heard(&mut scene)
            .into_iter()
            .filter(|(_, method)| *method == basic::Reject { delivery_tag: 5, requeue: true }.into());
        assert_eq!(rejects.count(), usize::from(!no_ack));
    }
    // Answered, but never polled again.
    let got = Box::pin(channel.basic_get("q").into_future());
    run(&mut scene);
    get_ok(&mut scene, 6);
    drop(got);
    assert!(heard(&mut scene).contains(&(1, basic::Reject { delivery_tag: 6, requeue: true }.into())));
    // The channel is in step.
    let mut got = pin!(channel.basic_get("q").into_future());
    assert!(poll(got.as_mut()).is_pending());
    heard(&mut scene);
    get_ok(&mut scene, 7);
    assert_eq!(ready(got).unwrap().unwrap().delivery_tag.number(), 7);
    assert_eq!(heard(&mut scene), []);
}

#[test]
fn an_unclaimed_channel_is_closed() {
    let (mut scene, _channel) = with_channel();
    for answered_first in [false, true] {
        let mut opened = Box::pin(scene.connection.channel().into_future());
        assert!(poll(opened.as_mut()).is_pending());
        run(&mut scene);
        if answered_first {
            scene.open_channel(2, &mut ()).unwrap();
            drop(opened);
        } else {
            drop(opened);
            scene.open_channel(2, &mut ()).unwrap();
        }
        let closes = heard(&mut scene).into_iter();
        let closes = closes.filter(|(n, m)| *n == 2 && matches!(m, Method::Channel(channel::Method::Close(_))));
        assert_eq!(closes.count(), 1, "answered first: {answered_first}");
        scene.wire.say(2, channel::CloseOk {});
        run(&mut scene);
    }
}

#[test]
fn an_unclaimed_consumer_is_cancelled_and_its_messages_are_requeued() {
    let (mut scene, channel) = with_channel();
    let mut consumer = Box::pin(channel.basic_consume("q").consumer_tag("c").into_future());
    assert!(poll(consumer.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.heard();
    scene.wire.say(1, basic::QosOk {});
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    deliver(&mut scene, 1..=2);
    drop(consumer);
    deliver(&mut scene, 3..=3);
    let heard = heard(&mut scene);
    assert!(heard.iter().any(|(_, m)| matches!(m, Method::Basic(basic::Method::Cancel(_)))));
    for delivery_tag in 1..=3 {
        assert!(heard.contains(&(1, basic::Reject { delivery_tag, requeue: true }.into())), "{delivery_tag}");
    }
}

/// PR15: a stream that has gone holds its channel no longer than its program does.
#[test]
fn a_channel_dropped_behind_its_stream_is_closed() {
    let (mut scene, _channel) = with_channel();
    let channel = scene.connection.channel().send().unwrap();
    let mut consumed = pin!(channel.basic_consume("q").consumer_tag("c").into_future());
    assert!(poll(consumed.as_mut()).is_pending());
    scene.open_channel(2, &mut ()).unwrap();
    scene.wire.say(2, basic::QosOk {});
    scene.wire.say(2, basic::ConsumeOk { consumer_tag: "c".into() });
    run(&mut scene);
    scene.wire.heard();
    drop(ready(consumed).unwrap());
    run(&mut scene);
    drop(channel);
    let names: Vec<_> = heard(&mut scene).into_iter().map(|(number, method)| (number, method.name())).collect();
    assert_eq!(names, [(2, "basic.cancel"), (2, "channel.close")]);
}

/// T6
#[test]
fn a_stream_gives_messages_in_order_and_then_the_reason() {
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    deliver(&mut scene, 1..=3);
    assert_eq!(numbers(&mut consumer), [1, 2, 3]);
    deliver(&mut scene, 4..=4);
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
    run(&mut scene);
    assert_eq!(numbers(&mut consumer), [4]);
    assert!(matches!(next(&mut consumer), Poll::Ready(None)), "one error, then the end");

    let mut consumer = consuming(&mut scene, &channel);
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
    run(&mut scene);
    let error = match next(&mut consumer) {
        Poll::Ready(Some(Err(error))) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error, Error::ConsumerCancelled { channel: 1, consumer_tag: "c".into() });

    let mut consumer = consuming(&mut scene, &channel);
    let mut cancelled = pin!(consumer.cancel().into_future());
    assert!(poll(cancelled.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
    run(&mut scene);
    ready(cancelled).unwrap();
    assert!(matches!(next(&mut consumer), Poll::Ready(None)), "the program's own end needs no reason");

    let mut consumer = consuming(&mut scene, &channel);
    deliver(&mut scene, 1..=1);
    consumer.cancel().send().unwrap();
    run(&mut scene);
    assert_eq!(numbers(&mut consumer), [1]);
    assert!(matches!(next(&mut consumer), Poll::Ready(None)), "and no answer");

    let mut consumer = consuming(&mut scene, &channel);
    let mut cancelled = pin!(consumer.cancel().into_future());
    assert!(poll(cancelled.as_mut()).is_pending());
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
    scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
    run(&mut scene);
    ready(cancelled).unwrap();
    assert!(matches!(next(&mut consumer), Poll::Ready(None)), "nor if the broker wanted the same");

    let mut consumer = consuming(&mut scene, &channel);
    let close = channel::Close { reply_code: 404, reply_text: "gone".into(), class_id: 0, method_id: 0 };
    scene.wire.say(1, close);
    run(&mut scene);
    assert!(matches!(next(&mut consumer), Poll::Ready(Some(Err(e))) if e.reply_code() == Some(404)));
}

/// N1
#[test]
fn the_messages_of_a_stream_share_their_consumers_tag() {
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    deliver(&mut scene, 1..=2);
    let [one, two] = [(); 2].map(|()| match next(&mut consumer) {
        Poll::Ready(Some(Ok(message))) => message.consumer_tag,
        other => panic!("{other:?}"),
    });
    assert_eq!(*one, "c");
    assert!(Arc::ptr_eq(&one, &two));
}

/// Trial T23: whichever of them was closed, and a second close is answered as the first one was.
#[test]
fn a_deliberate_end_is_no_error() {
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    channel.close().send().unwrap();
    channel.close().send().unwrap();
    let mut again = pin!(channel.close().into_future());
    assert!(matches!(poll(again.as_mut()), Poll::Ready(Ok(_))));
    run(&mut scene);
    scene.wire.say(1, channel::CloseOk {});
    run(&mut scene);
    assert!(matches!(next(&mut consumer), Poll::Ready(None)));
    channel.close().send().unwrap();

    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    scene.connection.close().send().unwrap();
    channel.close().send().unwrap();
    run(&mut scene);
    scene.wire.say(0, connection::CloseOk {});
    run(&mut scene);
    assert!(matches!(next(&mut consumer), Poll::Ready(None)));
    scene.connection.close().send().unwrap();
    channel.close().send().unwrap();

    // What went wrong meanwhile is told.
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    scene.connection.close().send().unwrap();
    scene.wire.hang_up();
    run(&mut scene);
    assert!(matches!(next(&mut consumer), Poll::Ready(Some(Err(Error::StreamLost { .. })))));
    assert!(matches!(scene.connection.close().send(), Err(Error::StreamLost { .. })));
}

/// T5: each of them, once, with the broker's reason.
#[test]
fn everything_that_is_awaited_ends_with_its_channel() {
    let (mut scene, channel) = with_channel();
    let mut consumer = consuming(&mut scene, &channel);
    channel.confirm_select().send().unwrap();
    let mut declared = pin!(channel.queue_declare("q").into_future());
    let mut got = pin!(channel.basic_get("q").into_future());
    let mut published = pin!(channel.basic_publish("", "q", "x").into_future());
    assert!(poll(declared.as_mut()).is_pending() && poll(got.as_mut()).is_pending());
    assert!(poll(published.as_mut()).is_pending());
    run(&mut scene);
    let close = channel::Close { reply_code: 406, reply_text: "no".into(), class_id: 0, method_id: 0 };
    scene.wire.say(1, close);
    run(&mut scene);
    let reason = channel.close_reason().unwrap();
    assert_eq!(reason.reply_code(), Some(406));
    assert_eq!(ready(declared).unwrap_err(), reason);
    assert_eq!(ready(got).unwrap_err(), reason);
    assert_eq!(ready(published).unwrap_err(), reason);
    assert!(matches!(next(&mut consumer), Poll::Ready(Some(Err(error))) if error == reason));
    assert!(matches!(next(&mut consumer), Poll::Ready(None)));
    assert!(scene.connection.is_open());
}

#[test]
fn what_was_asked_for_before_a_close_is_still_answered() {
    let (mut scene, channel) = with_channel();
    let returned = Arc::new(AtomicUsize::new(0));
    let counted = returned.clone();
    channel.add_on_return_callback(move |_: &mut (), _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut got = pin!(channel.basic_get("q").into_future());
    let mut closed = pin!(channel.close().into_future());
    assert!(poll(got.as_mut()).is_pending() && poll(closed.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, basic::Return { reply_code: 312, ..Default::default() });
    scene.wire.content(1, &Default::default(), b"back", 100);
    get_ok(&mut scene, 1);
    scene.wire.say(1, channel::CloseOk {});
    run(&mut scene);
    assert_eq!(ready(got).unwrap().unwrap().body, "got");
    ready(closed).unwrap();
    assert_eq!(returned.load(Ordering::Relaxed), 1);
    assert!(scene.connection.is_open());
}

/// C13: RabbitMQ's queues answer basic.consume themselves, so its reply comes before or behind those of later requests.
#[test]
fn consume_ok_may_come_out_of_turn() {
    let (mut scene, channel) = with_channel();
    let mut first = pin!(channel.basic_consume("q").consumer_tag("a").into_future());
    let mut second = pin!(channel.basic_consume("q").consumer_tag("b").into_future());
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    assert!(poll(declared.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, basic::QosOk {});
    scene.wire.say(1, queue::DeclareOk { message_count: 3, ..Default::default() });
    run(&mut scene);
    assert_eq!(ready(declared).unwrap().message_count, 3);
    assert!(poll(first.as_mut()).is_pending());
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "b".into() });
    run(&mut scene);
    assert!(poll(first.as_mut()).is_pending());
    assert_eq!(ready(second).unwrap().consumer_tag(), "b");
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "a".into() });
    run(&mut scene);
    assert_eq!(ready(first).unwrap().consumer_tag(), "a");
    // One that nobody asked for is still a violation.
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    assert!(matches!(scene.run(&mut ()), Err(Error::Protocol { .. })));
    assert!(scene.connection.is_closed());
}

/// C13, M11: so does basic.cancel's.
#[test]
fn cancel_ok_may_come_out_of_turn() {
    let (mut scene, channel) = with_channel();
    let consumer = consuming(&mut scene, &channel);
    let mut cancelled = pin!(consumer.cancel().into_future());
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(poll(cancelled.as_mut()).is_pending() && poll(declared.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, queue::DeclareOk { message_count: 3, ..Default::default() });
    run(&mut scene);
    assert_eq!(ready(declared).unwrap().message_count, 3);
    assert!(poll(cancelled.as_mut()).is_pending());
    scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
    run(&mut scene);
    ready(cancelled).unwrap();
    assert!(scene.connection.is_open());
}

/// RabbitMQ's channel crashes, and its connection with it, on a cancel that overtakes its queue's consume-ok.
#[test]
fn a_consumer_that_nobody_took_is_cancelled_when_it_has_begun() {
    let (mut scene, channel) = with_channel();
    let mut consumed = Box::pin(channel.basic_consume("q").consumer_tag("c").into_future());
    assert!(poll(consumed.as_mut()).is_pending());
    drop(consumed);
    let cancels = |scene: &mut Scene<()>| {
        let heard = heard(scene).into_iter();
        heard.filter(|(_, method)| matches!(method, Method::Basic(basic::Method::Cancel(_)))).count()
    };
    assert_eq!(cancels(&mut scene), 0);
    scene.wire.say(1, basic::QosOk {});
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    assert_eq!(cancels(&mut scene), 1);
    // What comes meanwhile goes back to its queue.
    deliver(&mut scene, 1..=1);
    assert_eq!(heard(&mut scene), [(1, basic::Reject { delivery_tag: 1, requeue: true }.into())]);
}

/// The same where the program cancels it itself.
#[test]
fn a_cancel_waits_for_its_consumer_to_begin() {
    let (mut scene, channel) = with_channel();
    let begin = |scene: &mut Scene<()>, tag: &str| {
        let consuming = channel.basic_consume("q").consumer_tag(tag).on_message(|_, _, _| ());
        let mut consumed = Box::pin(consuming.into_future());
        assert!(poll(consumed.as_mut()).is_pending());
        run(scene);
        scene.wire.heard();
        consumed
    };
    let consumed = begin(&mut scene, "a");
    let mut cancelled = pin!(channel.basic_cancel("a").into_future());
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(poll(cancelled.as_mut()).is_pending() && poll(declared.as_mut()).is_pending());
    assert!(matches!(heard(&mut scene)[..], [(1, Method::Queue(_))]));
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "a".into() });
    assert!(matches!(heard(&mut scene)[..], [(1, Method::Basic(basic::Method::Cancel(_)))]));
    ready(pin!(consumed)).unwrap();
    scene.wire.say(1, queue::DeclareOk::default());
    scene.wire.say(1, basic::CancelOk { consumer_tag: "a".into() });
    run(&mut scene);
    ready(declared).unwrap();
    ready(cancelled).unwrap();

    // One that nobody waits for, and one whose channel does not live to see it.
    let _consumed = begin(&mut scene, "b");
    channel.basic_cancel("b").send().unwrap();
    assert_eq!(heard(&mut scene), []);
    let mut late = pin!(channel.basic_cancel("b").into_future());
    assert!(poll(late.as_mut()).is_pending());
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "gone".into(), class_id: 0, method_id: 0 });
    run(&mut scene);
    assert_eq!(ready(late).unwrap_err().reply_code(), Some(404));
}

/// PR15: nothing leaks.
#[test]
fn a_channel_dropped_with_its_last_request_on_its_way_is_closed_behind_it() {
    let (mut scene, _channel) = with_channel();
    let channel = scene.connection.channel().send().unwrap();
    let mut declared = Box::pin(channel.queue_declare("q").into_future());
    assert!(poll(declared.as_mut()).is_pending());
    drop((declared, channel));
    let closes = |scene: &mut Scene<()>| {
        let heard = heard(scene).into_iter();
        heard.filter(|(n, m)| *n == 2 && matches!(m, Method::Channel(channel::Method::Close(_)))).count()
    };
    scene.open_channel(2, &mut ()).unwrap();
    assert_eq!(closes(&mut scene), 0, "its reply is still to come");
    scene.wire.say(2, queue::DeclareOk::default());
    assert_eq!(closes(&mut scene), 1);
    scene.wire.say(2, channel::CloseOk {});
    run(&mut scene);
    assert_eq!(scene.connection.channel().send().unwrap().channel_number(), 2);
}

/// Fault 24: whoever takes from a full stream may wait for something else first.
#[test]
fn a_full_stream_stops_no_answer() {
    let (mut scene, channel) = with_channel();
    let mut selected = pin!(channel.confirm_select().into_future());
    assert!(poll(selected.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, confirm::SelectOk {});
    run(&mut scene);
    ready(selected).unwrap();
    let mut consumer = streaming(&mut scene, &channel, 4);
    deliver(&mut scene, 1..=10);
    deliver(&mut scene, 11..=20);
    let paused = scene.wire.unread();
    assert!(paused > 0, "nobody waits: nothing is read");
    let mut declared = pin!(channel.queue_declare("q").into_future());
    assert!(poll(declared.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(1, queue::DeclareOk::default());
    run(&mut scene);
    ready(declared).unwrap();
    deliver(&mut scene, 21..=30);
    assert!(scene.wire.unread() > 0, "it is answered: nothing is read");
    // From a callback, while the loop is in its turn.
    let posted = channel.clone();
    let (told, hear) = std::sync::mpsc::channel();
    scene.ioloop().post(move |_: &mut ()| {
        posted.basic_publish("", "q", "body").then(move |_: &mut (), _, outcome| told.send(outcome.unwrap()).unwrap());
    });
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    run(&mut scene);
    assert_eq!(hear.try_recv(), Ok(PublishOutcome::Acked));
    let seen: Vec<u64> = numbers(&mut consumer);
    run(&mut scene);
    assert_eq!([seen, numbers(&mut consumer)].concat(), (1..=30).collect::<Vec<_>>());
}

/// Trial T6: a consumer's limit is said before it, with the channel's as a whole behind it, which it lifts; what the program has
/// said holds again for the next consumer, and where it has said nothing no 0 is said.
#[test]
fn a_stream_has_a_prefetch_of_its_own_and_the_channel_keeps_its() {
    let (mut scene, channel) = with_channel();
    let said = |scene: &mut Scene<()>| -> String {
        let words = heard(scene).into_iter().filter_map(|(_, method)| match method {
            Method::Basic(basic::Method::Qos(qos)) if qos.global => Some(format!("all {}", qos.prefetch_count)),
            Method::Basic(basic::Method::Qos(qos)) => Some(qos.prefetch_count.to_string()),
            Method::Basic(basic::Method::Consume(_)) => Some("consume".into()),
            _ => None,
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let stream = || drop(channel.basic_consume("q").into_future());
    let own = |limit| drop(channel.basic_consume("q").prefetch(limit).into_future());
    let plain = || drop(channel.basic_consume("q").on_message(|(), _, _| ()).send());
    plain();
    assert_eq!(said(&mut scene), "consume", "an operator's default holds");
    stream();
    assert_eq!(said(&mut scene), "100, consume");
    own(3);
    assert_eq!(said(&mut scene), "3, consume");
    plain();
    assert_eq!(said(&mut scene), "100, consume", "3 was another's, and 0 would lift an operator's limit");
    drop(channel.basic_consume("q").no_ack(true).on_message(|(), _, _| ()).send());
    assert_eq!(said(&mut scene), "consume");
    channel.basic_qos(7).send().unwrap();
    stream();
    assert_eq!(said(&mut scene), "7, consume");
    own(3);
    plain();
    assert_eq!(said(&mut scene), "3, consume, 7, consume");
    channel.basic_qos(10).global(true).send().unwrap();
    stream();
    own(8);
    stream();
    assert_eq!(said(&mut scene), "all 10, consume, 8, all 10, consume, 7, all 10, consume");
    channel.basic_qos(0).send().unwrap();
    plain();
    stream();
    assert_eq!(said(&mut scene), "0, all 10, consume, consume", "the channel's limit stands");
    channel.basic_qos(0).global(true).send().unwrap();
    stream();
    assert_eq!(said(&mut scene), "all 0, 100, consume");
    for unbounded in [channel.basic_consume("q").no_ack(true), channel.basic_consume("q").prefetch(0)] {
        let error = ready(pin!(unbounded.into_future())).unwrap_err();
        assert!(error.to_string().contains("capacity"), "{error}");
    }
}

/// Trial T6: on a channel where nothing but its limit as a whole was said, no other is made.
#[test]
fn a_limit_of_the_channel_as_a_whole_is_limit_enough_for_its_streams() {
    let (mut scene, channel) = with_channel();
    channel.basic_qos(10).global(true).send().unwrap();
    let _streams = [channel.basic_consume("q").into_future(), channel.basic_consume("q").into_future()];
    let names: Vec<_> = heard(&mut scene).into_iter().map(|(_, method)| method.name()).collect();
    assert_eq!(names, ["basic.qos", "basic.consume", "basic.consume"]);
}

/// Fault 39: a consumer that is slow costs bounded memory.
#[test]
fn a_full_stream_pauses_the_reading_and_heartbeats_go_on() {
    let (mut scene, channel) = with_channel();
    let mut consumer = streaming(&mut scene, &channel, 4);
    deliver(&mut scene, 1..=4);
    scene.wire.heard();
    deliver(&mut scene, 5..=6);
    // Far longer than two intervals: nothing is read, which is not the broker's silence.
    for _ in 0..20 {
        scene.advance(std::time::Duration::from_secs(30), &mut ()).unwrap();
    }
    assert!(scene.connection.is_open());
    assert!(scene.wire.heard().iter().filter(|frame| **frame == Frame::Heartbeat).count() >= 19);
    assert_eq!(numbers(&mut consumer), [1, 2, 3, 4]);
    run(&mut scene);
    assert_eq!(numbers(&mut consumer), [5, 6]);
    assert!(next(&mut consumer).is_pending());
}

#[test]
fn an_answer_that_is_awaited_is_read_although_a_stream_is_full() {
    let (mut scene, channel) = with_channel();
    let mut consumer = streaming(&mut scene, &channel, 1);
    deliver(&mut scene, 1..=1);
    let mut declared = pin!(channel.queue_declare("r").into_future());
    assert!(poll(declared.as_mut()).is_pending());
    run(&mut scene);
    deliver(&mut scene, 2..=2);
    scene.wire.say(1, queue::DeclareOk { queue: "r".into(), ..Default::default() });
    run(&mut scene);
    ready(declared).unwrap();
    deliver(&mut scene, 3..=3);
    assert_eq!(consumer.len(), 2, "nobody waits any more");
    assert_eq!(numbers(&mut consumer), [1, 2]);
    run(&mut scene);
    assert_eq!(numbers(&mut consumer), [3]);

    let mut closed = pin!(scene.connection.close().into_future());
    deliver(&mut scene, 4..=9);
    assert!(poll(closed.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(0, connection::CloseOk {});
    run(&mut scene);
    ready(closed).unwrap();
}

#[test]
fn a_connection_that_is_closed_is_awaited() {
    let (mut scene, _channel) = with_channel();
    let mut closed = pin!(scene.connection.close().into_future());
    let mut again = pin!(scene.connection.close().into_future());
    assert!(poll(closed.as_mut()).is_pending() && poll(again.as_mut()).is_pending());
    run(&mut scene);
    scene.wire.say(0, connection::CloseOk {});
    run(&mut scene);
    ready(closed).unwrap();
    ready(again).unwrap();
}
