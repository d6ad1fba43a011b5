//! What a peer only announces costs nothing, and what it sends costs in proportion.
#![allow(clippy::unwrap_used)]

use amqp_core::{BasicProperties, ConnectionParameters, spec::basic};
use pooka_testkit::scripted_peer::{Cut, Scene};

/// A connection with a consumer `c`, which adds up the octets that it gets.
fn consuming() -> (Scene<usize>, usize) {
    let mut seen = 0;
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut usize, _, _| ());
    scene.connection.add_on_close_callback(|_: &mut usize, _, _| ());
    scene.open(&mut seen).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    let count = |seen: &mut usize, _: &_, delivery: amqp_core::Delivery<'_>| *seen += delivery.body.len();
    channel.basic_consume("q").consumer_tag("c").on_message(count).send().unwrap();
    scene.open_channel(1, &mut seen).unwrap();
    (scene, seen)
}

/// Octets in use at most while the client handles this, beyond what it has already.
fn cost(script: impl Fn(&Scene<usize>)) -> u64 {
    let (mut scene, mut seen) = consuming();
    script(&scene);
    allocation_counter::measure(|| scene.run(&mut seen).unwrap()).bytes_max
}

fn header(size: u64) -> Vec<u8> {
    [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat()
}

/// Faults 1, 6, PR26
#[test]
fn announced_sizes_reserve_nothing() {
    let deliver = || basic::Deliver { consumer_tag: "c".into(), ..Default::default() };
    let frame = cost(|scene| scene.wire.octets(&[1, 0, 1, 0, 1, 0xFF, 0xF8]));
    let body = cost(|scene| {
        scene.wire.say(1, deliver());
        scene.wire.frame(2, 1, &header(128 << 20));
        scene.wire.octets(&[3, 0, 1, 0, 1, 0xFF, 0xF8, b'x']);
    });
    let refused = cost(|scene| {
        scene.wire.say(1, deliver());
        scene.wire.frame(2, 1, &header(u64::MAX));
        scene.wire.octets(&[3, 0, 1, 0, 1, 0xFF, 0xF8, b'x']);
    });
    for (what, cost) in [("a frame", frame), ("a body", body), ("a body over the limit", refused)] {
        assert!(cost < 16 * 1024, "{what} costs {cost} octets");
    }
}

/// Faults 5, PR26
#[test]
fn channels_that_are_not_open_and_floods_of_nothing_reserve_nothing() {
    let unknown = cost(|scene| {
        for number in 2..=u16::MAX {
            scene.wire.say(number, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
        }
    });
    let empty = cost(|scene| {
        for _ in 0..50_000 {
            scene.wire.frame(8, 0, &[]);
        }
    });
    // What is read into: 128 KiB at most, while it grows.
    for (what, cost) in [("unknown channels", unknown), ("heartbeats", empty)] {
        assert!(cost < 256 * 1024, "{what} cost {cost} octets");
    }
}

/// Faults 6, 38: linear in octets, in whatever pieces they come.
#[test]
fn a_large_message_in_small_pieces_costs_in_proportion_to_its_size() {
    const SIZE: usize = 8 << 20;
    let (mut scene, mut seen) = consuming();
    scene.wire.cut(Cut::Octets(vec![100]));
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
    scene.wire.content(1, &BasicProperties::new(), &vec![7; SIZE], 131_064);
    let counted = allocation_counter::measure(|| scene.run(&mut seen).unwrap());
    assert_eq!(seen, SIZE);
    assert!(counted.bytes_total < 3 * SIZE as u64, "{} octets", counted.bytes_total);
    assert!(counted.count_total < 500, "{} allocations", counted.count_total);
}
