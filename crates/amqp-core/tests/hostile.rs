//! Any octets, in any cuts: no panic, no endless loop, no memory that was only announced.
#![allow(clippy::unwrap_used)]

use amqp_core::{BasicProperties, ConnectionParameters, spec::basic};
use pooka_testkit::scripted_peer::Scene;
use proptest::prelude::*;

/// A connection with an open channel and a consumer `c`, which counts what it gets and looks at all of it.
fn consuming() -> (Scene<u64>, u64) {
    let mut seen = 0;
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut u64, _, _| ());
    scene.open(&mut seen).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    channel
        .basic_consume("q")
        .consumer_tag("c")
        .on_message(|seen: &mut u64, _, delivery| {
            let _ = (delivery.properties.headers(), delivery.to_owned());
            *seen += 1;
        })
        .send()
        .unwrap();
    scene.open_channel(1, &mut seen).unwrap();
    (scene, seen)
}

/// Something that a careless or hostile peer might send.
#[derive(Clone, Debug)]
enum Piece {
    Octets(Vec<u8>),
    Frame(u8, u16, Vec<u8>),
    Deliver(Vec<u8>, usize),
    Announced(u32),
}

fn piece() -> impl Strategy<Value = Piece> {
    let octets = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        1 => octets().prop_map(Piece::Octets),
        3 => (1..9_u8, 0..3_u16, octets()).prop_map(|(kind, channel, payload)| Piece::Frame(kind, channel, payload)),
        9 => (octets(), 1..30_usize).prop_map(|(body, chunk)| Piece::Deliver(body, chunk)),
        1 => any::<u32>().prop_map(Piece::Announced),
    ]
}

fn play(scene: &Scene<u64>, piece: &Piece) {
    match piece {
        Piece::Octets(octets) => scene.wire.octets(octets),
        Piece::Frame(kind, channel, payload) => scene.wire.frame(*kind, *channel, payload),
        Piece::Deliver(body, chunk) => {
            scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
            scene.wire.content(1, &BasicProperties::new().header("k", 1), body, *chunk);
        }
        Piece::Announced(size) => {
            let [a, b, c, d] = size.to_be_bytes();
            scene.wire.octets(&[3, 0, 1, a, b, c, d]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR16, PR18, PR21
    #[test]
    fn whatever_a_peer_sends_the_outcome_is_the_same_in_any_cut(
        pieces in prop::collection::vec(piece(), 1..12),
        cut in 1..50_usize,
    ) {
        let story = |cut| {
            let (mut scene, mut seen) = consuming();
            scene.wire.cut(cut);
            for piece in &pieces {
                play(&scene, piece);
            }
            let over = scene.turn(&mut seen);
            (seen, over, scene.connection.is_open())
        };
        prop_assert_eq!(story(0), story(cut));
    }

    /// The handshake, too.
    #[test]
    fn whatever_a_stranger_sends_first_is_survived(octets in prop::collection::vec(any::<u8>(), 0..200), cut in 1..9_usize) {
        let mut scene = Scene::new(ConnectionParameters::default(), |opened: &mut Vec<bool>, _, result| opened.push(result.is_ok()));
        let mut opened = vec![];
        scene.run(&mut opened).unwrap();
        scene.wire.cut(cut);
        scene.wire.octets(&octets);
        scene.wire.hang_up();
        prop_assert_eq!(scene.turn(&mut opened), Ok(true));
        prop_assert_eq!(opened, [false]);
    }
}
