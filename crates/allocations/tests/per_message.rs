//! The slope between two counts: what is allocated once does not show, what is allocated per message does.
#![allow(clippy::unwrap_used)]

use amqp_core::{BasicProperties, Channel, ConnectionParameters, spec::basic};
use pooka_testkit::scripted_peer::Scene;

/// The state that is lent.
struct App {
    seen: usize,
}

fn open() -> (Scene<App>, App, Channel<App>) {
    let mut app = App { seen: 0 };
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut App, _, _| ());
    scene.open(&mut app).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut app).unwrap();
    scene.wire.discard();
    (scene, app, channel)
}

/// Allocations per message, beyond those of a shorter run.
fn slope(count: impl Fn(usize) -> u64) -> f64 {
    let (few, many) = (20_000, 40_000);
    (count(many) as f64 - count(few) as f64) / (many - few) as f64
}

#[test]
fn publishing_allocates_nothing_per_message() {
    let per_message = slope(|messages| {
        let (mut scene, mut app, channel) = open();
        let properties = BasicProperties::new().content_type("text/plain").persistent();
        let counted = allocation_counter::measure(|| {
            for n in 0..messages {
                channel.basic_publish("exchange", "key", b"sixteen octets..").properties(&properties).send().unwrap();
                if n % 1000 == 999 {
                    scene.run(&mut app).unwrap();
                }
            }
        });
        counted.count_total
    });
    assert!(per_message < 0.01, "{per_message} allocations a message");
}

#[test]
fn consuming_and_acknowledging_allocates_nothing_per_message() {
    let per_message = slope(|messages| {
        let (mut scene, mut app, channel) = open();
        channel
            .basic_consume("q")
            .consumer_tag("c")
            .on_message(|app: &mut App, channel, delivery| {
                app.seen += delivery.body.len() / 16;
                channel.basic_ack(delivery.delivery_tag)
            })
            .send()
            .unwrap();
        scene.run(&mut app).unwrap();
        for delivery_tag in 1..=messages as u64 {
            let deliver = basic::Deliver { consumer_tag: "c".into(), delivery_tag, ..Default::default() };
            scene.wire.say(1, deliver);
            scene.wire.content(1, &BasicProperties::new(), b"sixteen octets..", 100);
        }
        let counted = allocation_counter::measure(|| scene.run(&mut app).unwrap());
        assert_eq!(app.seen, messages);
        counted.count_total
    });
    assert!(per_message < 0.01, "{per_message} allocations a message");
}

#[test]
fn keeping_a_message_is_what_allocates() {
    let counted = allocation_counter::measure(|| drop(Box::new([0_u8; 16])));
    assert_eq!(counted.count_total, 1, "the counter counts");
}
