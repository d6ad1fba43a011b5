//! A peer that breaks the protocol, and how its octets may be cut, against a scripted one.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    Channel, Delivery, Error,
    spec::{Method, basic, channel, connection, queue},
};
use pooka_testkit::scripted_peer::{Cut, start};
use std::time::Duration;
use stories::{Log, Script, consuming, deliver, logging, with_channel};

stories! {
    the_same_octets_make_the_same_calls_however_they_are_cut
    a_frame_that_cannot_be_ends_the_connection
    a_frame_where_it_does_not_belong_ends_the_connection
    content_out_of_turn_ends_the_connection
    a_method_that_nobody_waits_for_ends_the_connection
    a_violation_ends_a_connection_within_a_second_that_cannot_be_written_to
    last_words_are_not_lost_although_the_broker_goes_on_talking
    a_violation_after_connection_close_is_not_answered_with_another_one
    what_was_not_written_is_given_back_when_the_connection_is_over
    headers_that_cannot_be_decoded_do_not_kill_a_consumer
    a_reply_of_the_wrong_type_ends_the_connection
}

/// PR21, F22, T4
fn the_same_octets_make_the_same_calls_however_they_are_cut() {
    let story = |cut: Cut| {
        let (mut scene, mut log, _channel) = consuming();
        let other = scene.connection.channel().send().unwrap();
        other.basic_consume("q").consumer_tag("d").on_message(logging).send().unwrap();
        scene.open_channel(2, &mut log).unwrap();
        scene.wire.cut(cut);
        deliver(&scene, 1, "c", 1, b"hello", 100);
        deliver(&scene, 1, "c", 2, b"", 100);
        deliver(&scene, 1, "c", 3, b"in three frames", 5);
        scene.wire.frame(8, 0, &[]);
        // Two messages whose frames are mixed.
        let head = basic::Deliver { consumer_tag: "c".into(), delivery_tag: 4, ..Default::default() };
        scene.wire.say(1, head);
        deliver(&scene, 2, "d", 1, b"between", 100);
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&4_u64.to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        scene.wire.frame(2, 1, &header);
        scene.wire.frame(3, 1, b"ab");
        deliver(&scene, 2, "d", 2, b"again", 100);
        scene.wire.frame(3, 1, b"");
        scene.wire.frame(3, 1, b"cd");
        deliver(&scene, 1, "c", 5, &[7; 100_000], 131_064);
        scene.run(&mut log).unwrap();
        log
    };
    let whole = story(Cut::Whole);
    assert_eq!(whole.len(), 7);
    assert_eq!(whole[2], format!("c 3 {:?}", b"in three frames"));
    assert_eq!(whole[3], format!("d 1 {:?}", b"between"));
    assert_eq!(whole[5], format!("c 4 {:?}", b"abcd"));
    for cut in [vec![1], vec![2], vec![7], vec![64], vec![5000], vec![1, 300, 9]] {
        assert!(story(Cut::Octets(cut.clone())) == whole, "cut into {cut:?}");
    }
}

/// Plays what breaks a rule to a consumer each: the connection ends with that code, and nothing of it is delivered.
fn violations(scripts: &[(&str, Option<u16>, Script)]) {
    for (name, code, script) in scripts {
        let (mut scene, mut log, channel) = consuming();
        script(&scene);
        assert_eq!(scene.turn(&mut log), Ok(true), "{name}: the loop is over");
        let closes: Vec<_> = scene
            .wire
            .heard_methods()
            .into_iter()
            .filter_map(|(_, method)| match method {
                Method::Connection(connection::Method::Close(close)) => Some(close.reply_code),
                _ => None,
            })
            .collect();
        assert_eq!(closes, code.iter().copied().collect::<Vec<_>>(), "{name}");
        assert_eq!(log.len(), 2, "{name}: {log:?}");
        assert!(log[0].starts_with("channel closed: ") && log[1].starts_with("closed: "), "{name}: {log:?}");
        let later = channel.basic_publish("", "q", "x").send().unwrap_err();
        assert!(matches!(&later, Error::Protocol { violation, .. } if violation.code == *code), "{name}: {later:?}");
    }
}

/// Faults 1, 3, PR18, D-2: a frame is judged by its first seven octets.
fn a_frame_that_cannot_be_ends_the_connection() {
    violations(&[
        ("a huge frame", Some(501), |s| s.wire.octets(&[3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("an octet too much", Some(501), |s| s.wire.octets(&[1, 0, 1, 0, 1, 0xFF, 0xF9])),
        ("a method of three octets", Some(501), |s| s.wire.octets(&[1, 0, 1, 0, 0, 0, 3])),
        ("a method of none", Some(501), |s| s.wire.octets(&[1, 0, 1, 0, 0, 0, 0])),
        ("a header of thirteen octets", Some(501), |s| s.wire.octets(&[2, 0, 1, 0, 0, 0, 13])),
        ("a heartbeat with a payload", Some(501), |s| s.wire.frame(8, 0, &[1])),
        ("a bad frame end", None, |s| s.wire.octets(&[8, 0, 0, 0, 0, 0, 0, 0xCD])),
    ]);
}

/// Faults 5, 26, PR18, H3, N9
fn a_frame_where_it_does_not_belong_ends_the_connection() {
    violations(&[
        ("an unknown frame type", Some(501), |s| s.wire.frame(4, 1, &[])),
        ("a heartbeat on a channel", Some(501), |s| s.wire.frame(8, 1, &[])),
        ("a channel that is not open", Some(504), |s| deliver(s, 2, "c", 1, b"x", 9)),
        ("the highest channel", Some(504), |s| s.wire.say(u16::MAX, channel::OpenOk::default())),
        ("a body on a channel that is not open", Some(504), |s| s.wire.frame(3, 7, b"x")),
        ("content on channel 0", Some(504), |s| s.wire.frame(3, 0, b"x")),
        ("a channel's method on channel 0", Some(504), |s| s.wire.say(0, queue::DeclareOk::default())),
        ("a connection method on a channel", Some(503), |s| s.wire.say(1, connection::Unblocked {})),
    ]);
}

/// Faults 10, PR18, D-4, trial T15: method, header, and exactly the octets that it announces.
fn content_out_of_turn_ends_the_connection() {
    violations(&[
        ("a body out of turn", Some(505), |s| s.wire.frame(3, 1, b"x")),
        ("a header out of turn", Some(505), |s| s.wire.frame(2, 1, &[0; 14])),
        ("a method instead of a header", Some(505), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.say(1, queue::DeclareOk::default());
        }),
        ("a method instead of a body", Some(505), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
        }),
        ("a header instead of a body", Some(505), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),
        ("a body instead of a header", Some(505), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(3, 1, b"x");
        }),
        ("a body that is too long", Some(501), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
            s.wire.frame(3, 1, b"xyz");
        }),
        ("a second body frame that is too long", Some(501), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
            s.wire.frame(3, 1, b"x");
            s.wire.frame(3, 1, b"yz");
        }),
        ("a header of another class", Some(501), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),
        ("a body that no number in memory can count", Some(502), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),
        ("a body of 2^64 - 1 octets", Some(502), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]);
        }),
        ("properties that do not add up", Some(502), |s| {
            s.wire.say(1, basic::Deliver { consumer_tag: "c".into(), ..Default::default() });
            s.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 9]);
        }),
    ]);
}

/// Faults 25, PR18
fn a_method_that_nobody_waits_for_ends_the_connection() {
    violations(&[
        ("a reply that nobody asked for", Some(503), |s| s.wire.say(1, queue::DeclareOk::default())),
        ("a reply to a closed connection", Some(503), |s| s.wire.say(0, connection::CloseOk {})),
        ("a handshake again", Some(503), |s| s.wire.say(0, start())),
        ("a method that only clients send", Some(503), |s| s.wire.say(1, basic::Publish::default())),
        ("an unknown method", Some(503), |s| s.wire.frame(1, 1, &[0, 60, 0, 99])),
        ("an unknown class", Some(503), |s| s.wire.frame(1, 1, &[0, 61, 0, 10])),
        ("arguments that are too short", Some(502), |s| s.wire.frame(1, 1, &[0, 60, 0, 80, 0])),
    ]);
}

/// PR18: even if the broker does not read what it is told.
fn a_violation_ends_a_connection_within_a_second_that_cannot_be_written_to() {
    let (mut scene, mut log, _channel) = consuming();
    scene.wire.room(Some(0));
    scene.wire.frame(4, 1, &[]);
    assert_eq!(scene.turn(&mut log), Ok(false));
    assert_eq!(log.len(), 2, "everybody has been told: {log:?}");
    scene.advance(Duration::from_millis(999), &mut log).unwrap();
    assert_eq!(scene.turn(&mut log), Ok(false));
    scene.advance(Duration::from_millis(1), &mut log).unwrap();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log.len(), 2);
}

/// What is not read when a socket is closed makes TCP take back what was written last.
fn last_words_are_not_lost_although_the_broker_goes_on_talking() {
    let (mut scene, mut log, _channel) = consuming();
    scene.wire.room(Some(0));
    scene.wire.frame(4, 1, &[]);
    deliver(&scene, 1, "c", 1, &[0; 50_000], 9000);
    assert_eq!(scene.turn(&mut log), Ok(false));
    assert_eq!(scene.wire.unread(), 0);
    scene.wire.room(None);
    scene.writable();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(scene.wire.heard_methods().last().unwrap().1.name(), "connection.close");
    assert_eq!(log.len(), 2, "nothing was delivered: {log:?}");
}

/// Found by fuzzing: the broker has been told already, and would take a second connection.close for a violation of ours.
fn a_violation_after_connection_close_is_not_answered_with_another_one() {
    let (mut scene, mut log, _channel) = consuming();
    scene.wire.room(Some(0));
    scene.connection.close().send().unwrap();
    scene.wire.frame(4, 1, &[]);
    assert_eq!(scene.turn(&mut log), Ok(false));
    scene.wire.room(None);
    scene.writable();
    assert_eq!(scene.turn(&mut log), Ok(true), "nothing more is waited for");
    let heard = scene.wire.heard_methods();
    let names: Vec<_> = heard.iter().map(|(_, method)| method.name()).collect();
    assert_eq!(names, ["connection.close"], "{heard:?}");
    assert!(matches!(scene.connection.close_reason(), Some(Error::Protocol { .. })));
}

/// Trial T19, found by fuzzing: also while the program keeps its handles.
fn what_was_not_written_is_given_back_when_the_connection_is_over() {
    let (mut scene, mut log, channel) = consuming();
    scene.wire.room(Some(0));
    channel.basic_publish("", "q", "x".repeat(1000)).send().unwrap();
    scene.run(&mut log).unwrap();
    channel.basic_publish("", "q", "x".repeat(1000)).send().unwrap();
    assert!(scene.connection.outbound_len() > 2000);
    scene.wire.hang_up();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(scene.connection.outbound_len(), 0);
}

/// Faults 7, 8: a message's own headers are the application's data: what cannot be decoded is delivered, with its octets.
fn headers_that_cannot_be_decoded_do_not_kill_a_consumer() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |log: &mut Log, _: &Channel<Log>, delivery: Delivery<'_>| {
        let headers = delivery.properties.headers();
        log.push(format!("{:?} {:?}", headers.map(|h| h.is_err()), delivery.properties.raw_headers()));
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
    scene.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 3, 1, b'k', b'?']);
    scene.run(&mut log).unwrap();
    assert_eq!(log, [format!("Some(true) {:?}", Some([1, b'k', b'?']))]);
    let table = |value: &[u8]| [&u32::try_from(value.len() + 2).unwrap().to_be_bytes()[..], b"\x01k", value].concat();
    let array = |inner: &[u8]| [b"A", &u32::try_from(inner.len()).unwrap().to_be_bytes()[..], inner].concat();
    let deep = (0..5000).fold(vec![], |inner, _| array(&inner));
    for value in [deep, b"S\0\0\0\x09x".to_vec()] {
        scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
        scene.wire.frame(2, 1, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0], &table(&value)[..]].concat());
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|line| line.starts_with("Some(true) ")));
}

/// Faults 25: a reply to something else never feeds the call that waits.
fn a_reply_of_the_wrong_type_ends_the_connection() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").then(|log: &mut Log, _, ok| log.push(format!("declared: {}", ok.is_ok())));
    scene.run(&mut log).unwrap();
    scene.wire.say(1, queue::BindOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log[0], "declared: false");
}
