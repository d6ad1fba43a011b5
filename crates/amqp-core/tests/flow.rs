//! channel.flow of the broker's, which RabbitMQ never sends, against a scripted peer. Fault class 42.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    Channel, ConnectionParameters, Error, PublishOutcome, Result,
    spec::{Method, basic, channel, confirm, connection, queue},
};
use pooka_testkit::scripted_peer::{Frame, Scene};
use stories::{Log, consuming, deliver, scene, with_channel};

stories! {
    publishes_wait_in_their_order_until_the_broker_wants_them
    what_was_asked_for_behind_them_waits_with_them
    what_carries_no_content_passes_by
    numbers_of_confirms_are_those_of_the_calls
    a_pause_may_be_asked_for_twice_and_begin_again
    a_channel_takes_what_waits_along_when_it_is_closed
    a_connection_takes_what_waits_along_when_it_is_closed
    what_waits_counts_as_outbound
    what_waits_goes_with_a_channel_that_the_broker_closes
}

fn flow(scene: &mut Scene<Log>, log: &mut Log, active: bool) {
    scene.wire.say(1, channel::Flow { active });
    scene.run(log).unwrap();
}

fn publish(channel: &Channel<Log>, bodies: &[&str]) {
    for body in bodies {
        channel.basic_publish("", "q", *body).send().unwrap();
    }
}

/// The names of methods and the bodies that were sent.
fn sent(scene: &mut Scene<Log>, log: &mut Log) -> Vec<String> {
    scene.run(log).unwrap();
    let told = |frame| match frame {
        Frame::Method(1, Method::Channel(channel::Method::FlowOk(ok))) => Some(format!("flow-ok {}", ok.active)),
        Frame::Method(_, Method::Basic(basic::Method::Publish(_))) | Frame::Content(..) => None,
        Frame::Method(_, method) => Some(method.name().into()),
        Frame::Header | Frame::Heartbeat => Some(format!("{frame:?}")),
        Frame::Body(_, body) if body.len() > 100 => Some(format!("{} octets", body.len())),
        Frame::Body(_, body) => Some(String::from_utf8(body).unwrap()),
    };
    scene.wire.heard().into_iter().filter_map(told).collect()
}

/// The answer comes behind what was published before, and nothing behind the answer.
fn publishes_wait_in_their_order_until_the_broker_wants_them() {
    let (mut scene, mut log, channel) = with_channel();
    channel.add_on_flow_callback(|log: &mut Log, channel, active| {
        log.push(format!("flow {active}"));
        publish(channel, if active { &["told"] } else { &["warned"] });
    });
    publish(&channel, &["before"]);
    flow(&mut scene, &mut log, false);
    publish(&channel, &["a", "b"]);
    channel.basic_publish("", "q", vec![1; 20_000]).send().unwrap();
    publish(&channel, &["c"]);
    assert_eq!(sent(&mut scene, &mut log), ["before", "flow-ok false"]);
    flow(&mut scene, &mut log, true);
    publish(&channel, &["after"]);
    let resumed = ["flow-ok true", "warned", "a", "b", "20000 octets", "c", "told", "after"];
    assert_eq!(sent(&mut scene, &mut log), resumed);
    assert_eq!(log, ["flow false", "flow true"]);
}

fn what_was_asked_for_behind_them_waits_with_them() {
    let (mut scene, mut log, channel) = with_channel();
    flow(&mut scene, &mut log, false);
    channel.queue_declare("first").then(|log: &mut Log, _, _| log.push("first".into()));
    publish(&channel, &["x"]);
    channel.tx_commit().then(|log: &mut Log, _, _| log.push("committed".into()));
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok false", "queue.declare"], "a commit may not overtake a publish");
    scene.wire.say(1, queue::DeclareOk::default());
    flow(&mut scene, &mut log, true);
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok true", "x", "tx.commit"]);
    scene.wire.say(1, amqp_core::spec::tx::CommitOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["first", "committed"]);
}

/// Acknowledgements, answers and other channels are not what the broker has too much of.
fn what_carries_no_content_passes_by() {
    let (mut scene, mut log, channel) = consuming();
    channel.add_on_cancel_callback(|_: &mut Log, _, _| ());
    let other = scene.connection.channel().send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    scene.wire.heard();
    flow(&mut scene, &mut log, false);
    let answering =
        channel.basic_consume("q").consumer_tag("answering").on_message(|_: &mut Log, channel, delivery| {
            publish(channel, &["answer"]);
            channel.basic_ack(delivery.delivery_tag)
        });
    answering.send().unwrap();
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "answering", 1, b"question", 100);
    scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: false });
    scene.run(&mut log).unwrap();
    publish(&other, &["elsewhere"]);
    let passed = ["flow-ok false", "basic.consume", "basic.ack", "basic.cancel-ok", "elsewhere"];
    assert_eq!(sent(&mut scene, &mut log), passed);
    flow(&mut scene, &mut log, true);
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok true", "answer"]);
}

fn numbers_of_confirms_are_those_of_the_calls() {
    let (mut scene, mut log, channel) = with_channel();
    flow(&mut scene, &mut log, false);
    publish(&channel, &["unnumbered"]);
    channel.confirm_select().then(|log: &mut Log, _, selected: Result<_>| log.push(format!("{}", selected.is_ok())));
    for n in 1..=3 {
        let told = move |log: &mut Log, _: &Channel<Log>, outcome: Result<PublishOutcome>| {
            log.push(format!("{n} {:?}", outcome.unwrap()));
        };
        channel.basic_publish("", "q", format!("{n}")).then(told);
    }
    flow(&mut scene, &mut log, true);
    let all = ["flow-ok false", "flow-ok true", "unnumbered", "confirm.select", "1", "2", "3"];
    assert_eq!(sent(&mut scene, &mut log), all);
    scene.wire.say(1, confirm::SelectOk {});
    scene.wire.say(1, basic::Nack { delivery_tag: 2, multiple: false, requeue: false });
    scene.wire.say(1, basic::Ack { delivery_tag: 3, multiple: true });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true", "2 Nacked", "1 Acked", "3 Acked"]);
}

fn a_pause_may_be_asked_for_twice_and_begin_again() {
    let (mut scene, mut log, channel) = with_channel();
    flow(&mut scene, &mut log, false);
    publish(&channel, &["a"]);
    flow(&mut scene, &mut log, false);
    publish(&channel, &["b"]);
    flow(&mut scene, &mut log, true);
    flow(&mut scene, &mut log, true);
    flow(&mut scene, &mut log, false);
    publish(&channel, &["c"]);
    let first = ["flow-ok false", "flow-ok false", "flow-ok true", "a", "b", "flow-ok true", "flow-ok false"];
    assert_eq!(sent(&mut scene, &mut log), first);
    flow(&mut scene, &mut log, true);
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok true", "c"]);
}

/// PR29: a close waits for nobody, and nothing that was accepted is lost by it.
fn a_channel_takes_what_waits_along_when_it_is_closed() {
    let (mut scene, mut log, channel) = with_channel();
    flow(&mut scene, &mut log, false);
    publish(&channel, &["a", "b"]);
    let too_long = "x".repeat(300);
    assert!(channel.close().reply_text(too_long.as_str()).send().is_err());
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok false"], "nothing was closed");
    channel.close().send().unwrap();
    assert_eq!(sent(&mut scene, &mut log), ["a", "b", "channel.close"]);
    flow(&mut scene, &mut log, true);
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok true"]);
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
}

fn a_connection_takes_what_waits_along_when_it_is_closed() {
    let (mut scene, mut log, channel) = with_channel();
    flow(&mut scene, &mut log, false);
    publish(&channel, &["a", "b"]);
    let too_long = "x".repeat(300);
    assert!(scene.connection.close().reply_text(too_long.as_str()).send().is_err());
    assert_eq!(sent(&mut scene, &mut log), ["flow-ok false"]);
    scene.connection.close().send().unwrap();
    assert_eq!(sent(&mut scene, &mut log), ["a", "b", "connection.close"]);
    scene.wire.say(0, connection::CloseOk {});
    assert_eq!(scene.turn(&mut log), Ok(true));
}

/// PR17, PR28: a broker that pauses a publisher for long costs no more memory than one that does not read.
fn what_waits_counts_as_outbound() {
    let builder = ConnectionParameters::builder().outbound_high_water(1000).outbound_limit(Some(5000));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push((octets > 1000).to_string()));
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    flow(&mut scene, &mut log, false);
    let mut publishes = (0..1000).map(|_| channel.basic_publish("", "q", &[0; 100]).send());
    let accepted = publishes.by_ref().take_while(Result::is_ok).count();
    let error = publishes.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::OutboundFull { limit: 5000, .. }) && accepted > 20, "{error:?} behind {accepted}");
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
    flow(&mut scene, &mut log, true);
    assert_eq!(log, ["true", "false"]);
    publish(&channel, &["room"]);
}

fn what_waits_goes_with_a_channel_that_the_broker_closes() {
    let builder = ConnectionParameters::builder().outbound_high_water(1000).outbound_limit(Some(5000));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    let other = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    scene.open_channel(2, &mut log).unwrap();
    flow(&mut scene, &mut log, false);
    let accepted = (0..1000).take_while(|_| channel.basic_publish("", "q", &[0; 100]).send().is_ok()).count();
    assert!((20..100).contains(&accepted), "{accepted}");
    assert!(other.basic_publish("", "q", "x").send().is_err());
    scene.wire.heard();
    channel.add_on_close_callback(|_: &mut Log, _, _| ());
    scene.wire.say(1, channel::Close { reply_code: 404, ..Default::default() });
    scene.run(&mut log).unwrap();
    publish(&other, &["room"]);
    assert_eq!(sent(&mut scene, &mut log), ["channel.close-ok", "room"]);
}
