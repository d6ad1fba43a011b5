//! Any octets, in any cuts: no panic, no endless loop, no memory that was only announced.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Delivery, Error,
    spec::{basic, channel},
};
use pooka_testkit::scripted_peer::{Cut, Frame, Scene};
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
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR16, PR18, PR21: whatever a peer sends, in whatever cuts, the same is delivered and the same is the end.
    #[test]
    fn whatever_a_peer_sends_the_outcome_is_the_same_in_any_cut(
        pieces in prop::collection::vec(piece(), 1..12),
        cuts in prop::collection::vec(1..50_usize, 1..9),
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
        prop_assert_eq!(story(Cut::Whole), story(Cut::Octets(cuts)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR16: the handshake, too.
    #[test]
    fn whatever_a_stranger_sends_first_is_survived(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        cut in 1..9_usize,
    ) {
        let on_open = |opened: &mut Vec<bool>, _: &_, result: amqp_core::Result<()>| opened.push(result.is_ok());
        let mut scene = Scene::new(ConnectionParameters::default(), on_open);
        let mut opened = vec![];
        scene.run(&mut opened).unwrap();
        scene.wire.cut(Cut::Octets(vec![cut]));
        scene.wire.octets(&octets);
        scene.wire.hang_up();
        prop_assert_eq!(scene.turn(&mut opened), Ok(true));
        prop_assert_eq!(opened, [false]);
    }

    /// PR5: through any partial write, octets leave in the order of the calls.
    #[test]
    fn publishes_leave_in_the_order_of_the_calls_through_any_partial_write(
        bodies in prop::collection::vec((0..40_000_usize, any::<bool>()), 1..12),
        writes in prop::collection::vec(0..9000_usize, 1..20),
        publishes_between in 1..4_usize,
    ) {
        let mut state = 0;
        let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut u64, _, _| ());
        scene.open(&mut state).unwrap();
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut state).unwrap();
        scene.wire.heard();
        let bodies: Vec<_> = bodies.iter().zip(1_u8..).map(|((size, shared), n)| (vec![n; *size], *shared)).collect();
        let mut rest = bodies.as_slice();
        let mut octets = vec![];
        let (mut sizes, mut last) = (writes.iter(), false);
        while !last {
            let (now, later) = rest.split_at(publishes_between.min(rest.len()));
            for (body, shared) in now {
                // Large ones that are shared are not copied, but referred to.
                let publish = if *shared { channel.basic_publish("", "q", body.clone()) } else { channel.basic_publish("", "q", body) };
                publish.send().unwrap();
            }
            rest = later;
            let size = sizes.next();
            last = size.is_none() && rest.is_empty();
            scene.wire.room(size.copied());
            scene.writable();
            scene.run(&mut state).unwrap();
            octets.extend(scene.wire.heard_octets());
        }
        let mut sent = vec![];
        for frame in Frame::all(&octets) {
            match frame {
                Frame::Content(1, size) => sent.push((size, vec![])),
                Frame::Body(1, part) => sent.last_mut().unwrap().1.extend(part),
                _ => {}
            }
        }
        let expected: Vec<_> = bodies.into_iter().map(|(body, _)| (body.len() as u64, body)).collect();
        prop_assert!(sent == expected);
        prop_assert_eq!(scene.connection.outbound_len(), 0);
    }
}

/// Trial T14: what is answered to a broker that goes on sending and never reads is bounded: the connection ends, and says so. Reading
/// is not stopped, which could wait for ever for a broker that waits for us.
#[test]
fn answers_that_the_broker_does_not_read_are_bounded() {
    type Flood<'a> = &'a dyn Fn(&Scene<()>);
    let deliver = |scene: &Scene<()>, consumer_tag: &str| {
        scene.wire.say(1, basic::Deliver { consumer_tag: consumer_tag.into(), delivery_tag: 1, ..Default::default() });
        scene.wire.content(1, &BasicProperties::new(), b"", 100);
    };
    let floods: [Flood<'_>; 3] = [
        &|scene| deliver(scene, "gone"),
        &|scene| scene.wire.say(1, channel::Flow { active: true }),
        // The program's own answers, too.
        &|scene| deliver(scene, "c"),
    ];
    for flood in floods {
        let parameters =
            ConnectionParameters::builder().outbound_high_water(1000).outbound_limit(Some(20_000)).build().unwrap();
        let mut scene = Scene::new(parameters, |(): &mut (), _, opened| opened.unwrap());
        scene.open(&mut ()).unwrap();
        let channel = scene.connection.channel().send().unwrap();
        let ack = |(): &mut (), channel: &Channel, delivery: Delivery<'_>| channel.basic_ack(delivery.delivery_tag);
        channel.basic_consume("q").consumer_tag("c").on_message(ack).send().unwrap();
        scene.open_channel(1, &mut ()).unwrap();
        scene.wire.room(Some(0));
        let end = (0..5000).find_map(|_| {
            flood(&scene);
            scene.run(&mut ()).err()
        });
        let Some(Error::AnswersUnread { held, limit: 20_000, .. }) = end else { panic!("{end:?}") };
        assert!((20_001..20_100).contains(&held), "{held}");
        assert_eq!(scene.connection.close_reason(), end);
    }
}
