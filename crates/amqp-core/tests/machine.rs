//! The machine against a scripted peer: octets in, octets and calls out, under a clock that jumps.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Delivery, Error, Message, PublishOutcome, Result, ShortString,
    Table,
    error::Stage,
    spec::{Method, basic, channel, connection, queue},
};
use pooka_testkit::scripted_peer::{Cut, Frame, Scene, start};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use stories::{Log, consuming, deliver, logging, scene, with_channel};

stories! {
    the_same_octets_make_the_same_calls_however_they_are_cut
    a_frame_that_cannot_be_ends_the_connection
    a_frame_where_it_does_not_belong_ends_the_connection
    content_out_of_turn_ends_the_connection
    a_method_that_nobody_waits_for_ends_the_connection
    a_violation_ends_a_connection_within_a_second_that_cannot_be_written_to
    last_words_are_not_lost_although_the_broker_goes_on_talking
    a_stranger_gets_128_kib_for_a_frame
    server_properties_that_cannot_be_decoded_end_the_connection
    nothing_is_presented_where_it_is_not_asked_for
    a_handshake_that_goes_on_slowly_is_over_at_its_deadline
    headers_that_cannot_be_decoded_do_not_kill_a_consumer
    replies_come_in_the_order_of_the_calls_and_each_once
    a_reply_of_the_wrong_type_ends_the_connection
    ninety_nine_failing_declares_and_a_close_are_ninety_nine_errors_and_one_close
    a_lost_connection_answers_everybody_in_order
    every_wait_ends_with_the_connection
    a_broker_that_blocks_for_too_long_is_given_up
    there_are_no_more_channels_than_agreed
    what_cannot_be_sent_is_refused_before_its_first_octet
    the_last_frames_before_the_end_are_handled
    after_connection_close_everything_but_its_answer_is_ignored
    crossing_closes_of_a_connection_end_it
    nothing_reaches_a_consumer_that_has_cancelled_itself
    a_cancel_by_the_broker_is_told_once
    a_consumer_may_close_its_channel_and_gets_nothing_more
    callbacks_may_stop_the_loop_post_to_it_and_register_more
    an_error_of_a_callback_stops_the_loop_which_goes_on_behind_it
    a_panic_costs_its_channel_and_nothing_else
    a_delivery_tag_is_good_on_its_own_channel_only
    a_consumer_tag_in_use_is_refused_before_the_broker_sees_it
    a_message_over_the_limit_is_refused_with_its_tag
    a_publish_is_settled_by_what_the_broker_says_of_it
    what_comes_back_keeps_its_properties_and_is_told_to_everybody
    confirms_are_told_until_a_closing_channel_is_closed
    without_confirm_mode_an_outcome_cannot_be_waited_for
    back_pressure_is_told_when_it_begins_and_when_it_ends_and_has_a_limit
    the_outbound_buffer_may_hold_as_many_average_frames_as_the_program_says
    who_takes_back_a_backpressure_callback_hears_no_more_of_it
    a_heartbeat_goes_out_after_half_an_interval_and_silence_of_two_is_death
    whatever_moves_is_as_good_as_a_heartbeat
    heartbeats_do_not_pile_up_where_nothing_can_be_written
    a_reply_that_does_not_come_is_a_timeout_and_a_late_one_is_swallowed
    a_request_made_by_a_post_has_its_deadline_too
    a_request_that_cannot_be_written_has_its_deadline_too
    a_close_that_cannot_be_written_is_over_at_its_deadline
    a_close_that_is_not_answered_is_over_at_its_deadline
    a_handshake_that_fails_says_what_happened_and_where
    a_close_before_the_connection_is_open_is_told_to_the_open_callback
    a_channel_without_handles_and_without_anything_going_on_is_closed
    events_reach_who_registered_for_them_until_they_are_removed
    dropping_the_loop_calls_nobody_and_later_calls_say_so
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

/// What a peer says.
type Script = fn(&Scene<Log>);

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

/// Faults 10, PR18, D-4: method, header, and exactly the octets that it announces.
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

/// What a broker that says this first is told by the open callback, and what it hears.
fn greeted_by(script: impl Fn(&Scene<Log>)) -> (String, Vec<Frame>) {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
        log.push(opened.unwrap_err().to_string());
    });
    scene.run(&mut log).unwrap();
    script(&scene);
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log.len(), 1, "{log:?}");
    (log.remove(0), scene.wire.heard())
}

/// Faults 1, 2, PR17: there is a limit before one is agreed.
fn a_stranger_gets_128_kib_for_a_frame() {
    let (told, heard) = greeted_by(|scene| scene.wire.octets(&[1, 0, 0, 0, 1, 0xFF, 0xF9]));
    assert!(told.contains("larger than") && told.contains("(501)"), "{told}");
    assert_eq!(heard, [Frame::Header]);
    let (told, _) = greeted_by(|scene| {
        scene.wire.octets(&[1, 0, 0, 0, 1, 0xFF, 0xF8]);
        scene.wire.hang_up();
    });
    assert!(told.contains("before an AMQP greeting"), "this one was waited for: {told}");
}

/// Faults 7, 8, 9: before anybody has logged in, and nothing is said to such a broker.
fn server_properties_that_cannot_be_decoded_end_the_connection() {
    let mut deep = vec![];
    for _ in 0..20_000 {
        let length = u32::try_from(deep.len()).unwrap().to_be_bytes();
        deep = [b"A", &length[..], &deep].concat();
    }
    let value = |value: &[u8]| [b"\x01k", value].concat();
    let tables = [
        ("deep", value(&deep)),
        ("an inner length that lies", value(b"S\0\0\0\x09x")),
        ("a negative inner length", value(b"x\xFF\xFF\xFF\xFFx")),
        ("an array that lies", value(b"A\0\0\0\x09t\x01")),
        ("an unknown type", value(b"?")),
        ("no value", value(b"")),
    ];
    for (name, table) in tables {
        let (told, heard) = greeted_by(|scene| {
            let length = u32::try_from(table.len()).unwrap().to_be_bytes();
            scene.wire.frame(
                1,
                0,
                &[b"\0\x0A\0\x0A\0\x09", &length[..], &table, b"\0\0\0\x05PLAIN\0\0\0\x05en_US"].concat(),
            );
        });
        assert!(told.contains("(502)"), "{name}: {told}");
        assert_eq!(heard, [Frame::Header], "{name}");
    }
}

/// Faults 14: tokens are compared whole, and the version comes first.
fn nothing_is_presented_where_it_is_not_asked_for() {
    for mechanisms in ["GSSAPI", "AMQPLAIN PLAINTEXT", "plain", ""] {
        let greeting = connection::Start { mechanisms: mechanisms.into(), ..start() };
        let (told, heard) = greeted_by(|scene| scene.wire.say(0, greeting.clone()));
        let expected = format!("localhost:5672 does not offer the SASL mechanism PLAIN, only: {mechanisms}");
        assert_eq!((told, heard), (expected, vec![Frame::Header]));
    }
    let other = connection::Start { version_major: 1, version_minor: 0, ..start() };
    let (told, heard) = greeted_by(|scene| scene.wire.say(0, other.clone()));
    assert_eq!((&*told, heard), ("localhost:5672 speaks AMQP 1.0, not 0-9-1", vec![Frame::Header]));
}

/// Faults 13, PR12, F8: one deadline, which neither heartbeats nor single octets renew.
fn a_handshake_that_goes_on_slowly_is_over_at_its_deadline() {
    let begins: [(&str, Script, &[u8]); 2] = [
        ("the AMQP greeting of", |scene| scene.wire.octets(&[1, 0, 0, 0, 0, 1, 0]), &[0]),
        ("opening the connection to", |scene| scene.wire.say(0, start()), &[8, 0, 0, 0, 0, 0, 0, 0xCE]),
    ];
    for (what, begin, more) in begins {
        let mut log = Log::new();
        let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
            log.push(opened.unwrap_err().to_string());
        });
        scene.run(&mut log).unwrap();
        begin(&scene);
        for _ in 0..14 {
            scene.wire.octets(more);
            scene.advance(Duration::from_secs(1), &mut log).unwrap();
            assert_eq!(log, [""; 0]);
        }
        scene.wire.octets(more);
        scene.advance(Duration::from_secs(1), &mut log).unwrap();
        assert_eq!(log.len(), 1);
        assert!(log[0].starts_with(&format!("{what} localhost:5672 took longer than 15 s")), "{log:?}");
    }
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

/// C12
fn replies_come_in_the_order_of_the_calls_and_each_once() {
    let (mut scene, mut log, channel) = with_channel();
    for name in ["a", "b"] {
        channel.queue_declare(name).then(move |log: &mut Log, _, ok| log.push(ok.unwrap().queue.to_string()));
    }
    channel.basic_get("a").then(|log: &mut Log, _, got: Result<Option<Message>>| {
        log.push(format!("{:?}", got.unwrap().map(|message| (message.body, message.message_count))));
    });
    channel.basic_get("a").then(|log: &mut Log, _, got| log.push(format!("{:?}", got.unwrap())));
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods().len(), 4);
    for name in ["a", "b"] {
        scene.wire.say(1, queue::DeclareOk { queue: name.into(), ..Default::default() });
    }
    scene.wire.say(1, basic::GetOk { delivery_tag: 1, message_count: 7, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new(), b"x", 9);
    scene.wire.say(1, basic::GetEmpty::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["a", "b", "Some((b\"x\", Some(7)))", "None"]);
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

/// C8: one close by the broker answers everything that was asked, and is told once.
fn ninety_nine_failing_declares_and_a_close_are_ninety_nine_errors_and_one_close() {
    let (mut scene, mut log, channel) = with_channel();
    for _ in 0..99 {
        channel.queue_declare("missing").passive(true).then(|log: &mut Log, _, declared| {
            assert_eq!(declared.unwrap_err().reply_code(), Some(404));
            log.push("404".into());
        });
    }
    channel.close().then(|log: &mut Log, _, closed| log.push(format!("close answered: {}", closed.is_ok())));
    scene.run(&mut log).unwrap();
    let close = channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), class_id: 50, method_id: 10 };
    scene.wire.say(1, close);
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log.iter().filter(|line| *line == "404").count(), 99);
    assert_eq!(log.iter().filter(|line| line.starts_with("channel closed: ")).count(), 1);
    assert!(log.iter().any(|line| line.contains("404 NOT_FOUND")), "{:?}", log.last());
    assert!(log.contains(&"close answered: true".into()));
    let close_oks = scene.wire.heard_methods();
    assert_eq!(close_oks.iter().filter(|(_, m)| *m == channel::CloseOk {}.into()).count(), 1);
    assert!(channel.queue_declare("later").send().unwrap_err().to_string().contains("404"));
}

/// F17: the connection is dead first; continuations in order, then the channel, then the connection.
fn a_lost_connection_answers_everybody_in_order() {
    let (mut scene, mut log, channel) = with_channel();
    for name in ["a", "b"] {
        channel.queue_declare(name).then(move |log: &mut Log, channel, declared| {
            assert!(declared.is_err() && channel.connection().is_closed());
            log.push(name.into());
            channel.queue_declare("late").then(|log: &mut Log, _, late| log.push(format!("late {}", late.is_err())));
        });
    }
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "unknown", 1, b"x", 9); // what came before the end is still handled
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert_eq!(log[..2], ["a", "b"]);
    assert!(log[2].starts_with("channel closed: ") && log[3].starts_with("closed: "), "{log:?}");
    assert!(log[2].contains("localhost:5672") && log[2].contains("lost"), "{log:?}");
    assert_eq!(log[4..], ["late true", "late true"]);
}

/// Faults 23, PR12: whatever a connection ends with, everybody who waits is told it, once and in order.
fn every_wait_ends_with_the_connection() {
    type End = fn(&mut Scene<Log>, &mut Log);
    let ends: [(&str, End); 5] = [
        ("was lost", |scene, log| {
            scene.wire.hang_up();
            scene.run(log).unwrap();
        }),
        ("broke the protocol", |scene, log| {
            scene.wire.frame(4, 1, &[]);
            scene.run(log).unwrap();
        }),
        ("320 CONNECTION_FORCED", |scene, log| {
            let text = "CONNECTION_FORCED".into();
            scene.wire.say(0, connection::Close { reply_code: 320, reply_text: text, ..Default::default() });
            scene.run(log).unwrap();
        }),
        ("nothing heard from localhost:5672", |scene, log| scene.advance(Duration::from_secs(121), log).unwrap()),
        ("took longer than 10 s", |scene, log| {
            scene.connection.close().send().unwrap();
            scene.run(log).unwrap();
            scene.advance(Duration::from_secs(10), log).unwrap();
        }),
    ];
    for (reason, end) in ends {
        let builder = ConnectionParameters::builder().rpc_timeout(None);
        let (mut scene, mut log) = scene(builder.build().unwrap());
        let waits =
            |what: &'static str| move |log: &mut Log, why: Option<Error>| log.push(format!("{what}: {}", why.unwrap()));
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        scene.connection.channel().then(move |log: &mut Log, _, r| waits("open")(log, r.err()));
        channel.confirm_delivery(|_: &mut Log, _, _| ()).then(move |log: &mut Log, _, r| waits("select")(log, r.err()));
        channel.queue_declare("q").then(move |log: &mut Log, _, r| waits("declare")(log, r.err()));
        channel.basic_get("q").then(move |log: &mut Log, _, r| waits("get")(log, r.err()));
        let consume = channel.basic_consume("q").on_message(logging);
        consume.then(move |log: &mut Log, _, r| waits("consume")(log, r.err()));
        channel.basic_publish("", "q", "x").then(move |log: &mut Log, _, r| waits("publish")(log, r.err()));
        channel.basic_cancel("c").then(move |log: &mut Log, _, r| waits("cancel")(log, r.err()));
        channel.close().then(move |log: &mut Log, _, r| waits("close")(log, r.err()));
        scene.connection.update_secret("s", "r").then(move |log: &mut Log, _, r| waits("secret")(log, r.err()));
        scene.run(&mut log).unwrap();
        assert_eq!(log, [""; 0]);
        end(&mut scene, &mut log);
        let last = log.pop().unwrap();
        assert!(last.starts_with("closed: ") && last.contains(reason), "{last}");
        let names: Vec<_> = log.iter().map(|line| line.split(':').next().unwrap()).collect();
        let expected = ["select", "declare", "get", "consume", "cancel", "close", "publish", "open", "secret"];
        assert_eq!(names, expected, "{reason}");
        assert!(log.iter().all(|line| line.contains(reason)), "{log:?}");
    }
}

/// Faults 22, PR12, F20
fn a_broker_that_blocks_for_too_long_is_given_up() {
    let builder = ConnectionParameters::builder().blocked_connection_timeout(Some(Duration::from_secs(9)));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    for _ in 0..3 {
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        scene.run(&mut log).unwrap();
        scene.advance(Duration::from_secs(4), &mut log).unwrap();
    }
    assert_eq!(
        log,
        ["closed: localhost:5672 blocked the connection for more than 9 s: memory"],
        "blocked again is no news"
    );
}

/// PR17, PR19, C1
fn there_are_no_more_channels_than_agreed() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    scene.open_with(connection::Tune { heartbeat: 0, frame_max: 4096, channel_max: 2 }, &mut log).unwrap();
    let _both = [1, 2].map(|_| scene.connection.channel().send().unwrap());
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    let none = scene.connection.channel().send().unwrap_err().to_string();
    assert_eq!(none, "no free channel: all 2 that localhost:5672 allows are open");
    for number in [0, 2, 3, u16::MAX] {
        let error = scene.connection.channel().channel_number(number).send().unwrap_err().to_string();
        assert_eq!(error, format!("channel number {number} is not free; nothing was sent"));
    }
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard(), []);
}

/// Faults 11, PR19, F23: and the channel is unharmed.
fn what_cannot_be_sent_is_refused_before_its_first_octet() {
    let (mut scene, mut log, channel) = with_channel();
    let long = "x".repeat(256);
    let publish = |properties: &BasicProperties| channel.basic_publish("", "q", "x").properties(properties).send();
    let deep = (0..33).fold(Table::new(), |inner, _| Table::new().with("k", inner));
    let refused = [
        channel.basic_publish(&long, "q", "x").send(),
        channel.basic_publish("", &long, "x").send(),
        channel.queue_declare(&long).send(),
        channel.queue_bind("q", &long).send(),
        channel.basic_consume(&long).on_message(logging).send().map(drop),
        channel.queue_declare("q").arguments(Table::new().with("k", f64::NAN)).send(),
        channel.queue_declare("q").arguments(Table::new().with("k", vec![0; 131_072])).send(),
        channel.queue_declare("q").arguments(deep.clone()).send(),
        publish(&BasicProperties::new().header("k", f64::INFINITY)),
        publish(&BasicProperties::new().header("k", vec![0; 131_072])),
        publish(&BasicProperties::new().header("k", deep)),
        publish(&BasicProperties::new().content_type(&long)),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().ends_with("; nothing was sent"),
            "{n}: {error}"
        );
    }
    scene.run(&mut log).unwrap();
    assert_eq!((scene.wire.heard(), scene.connection.outbound_len()), (vec![], 0));
    channel.basic_publish("", "q", "x").send().unwrap();
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.is_ok().to_string()));
    scene.wire.say(1, queue::DeclareOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}

/// Faults 36, F16, S8
fn the_last_frames_before_the_end_are_handled() {
    let (mut scene, mut log, _channel) = consuming();
    deliver(&scene, 1, "c", 1, b"last", 9);
    let text = "CONNECTION_FORCED".into();
    scene.wire.say(0, connection::Close { reply_code: 320, reply_text: text, class_id: 0, method_id: 0 });
    scene.wire.hang_up();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log.len(), 3);
    assert!(log[0].starts_with("c 1") && log[2].contains("320 CONNECTION_FORCED"), "{log:?}");
    assert_eq!(scene.wire.heard_methods().last().unwrap().1, connection::CloseOk {}.into());
}

/// Faults 27
fn after_connection_close_everything_but_its_answer_is_ignored() {
    let (mut scene, mut log, _channel) = consuming();
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{closed:?}")));
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"late", 9);
    scene.wire.say(1, queue::DeclareOk::default());
    scene.wire.say(0, connection::CloseOk {});
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log[0].split(':').next(), Some("channel closed"));
    assert_eq!(log[1], "Ok(())");
    assert!(log[2].contains("200 Normal shutdown"), "{log:?}");
}

/// Faults 27
fn crossing_closes_of_a_connection_end_it() {
    let (mut scene, mut log, _channel) = with_channel();
    scene.connection.close().send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.say(0, connection::Close { reply_code: 320, ..Default::default() });
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(scene.wire.heard_methods().last().unwrap().1, connection::CloseOk {}.into());
}

/// N5, faults 28
fn nothing_reaches_a_consumer_that_has_cancelled_itself() {
    let (mut scene, mut log, channel) = with_channel();
    let tag = channel
        .basic_consume("q")
        .on_message(|log: &mut Log, channel, delivery| {
            log.push(delivery.delivery_tag.to_string());
            channel.basic_cancel(delivery.consumer_tag).then(|log: &mut Log, _, _| log.push("cancelled".into()));
        })
        .send()
        .unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    for n in 1..=3 {
        deliver(&scene, 1, tag.as_str().unwrap(), n, b"x", 9);
    }
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::CancelOk { consumer_tag: tag });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["1", "cancelled"]);
    let rejects: Vec<_> = scene.wire.heard_methods().into_iter().map(|(_, method)| method.name()).collect();
    assert_eq!(rejects, ["basic.cancel", "basic.reject", "basic.reject"]);
    assert_eq!(channel.consumer_tags(), [] as [ShortString; 0]);
}

/// N6
fn a_cancel_by_the_broker_is_told_once() {
    let (mut scene, mut log, channel) = consuming();
    channel.add_on_cancel_callback(|log: &mut Log, _, tag| log.push(format!("cancelled {tag}")));
    for _ in 0..2 {
        scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["cancelled c"]);
    assert_eq!(scene.wire.heard(), []);
}

fn a_consumer_may_close_its_channel_and_gets_nothing_more() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |log: &mut Log, channel: &Channel<Log>, _: Delivery<'_>| {
        log.push("message".into());
        channel.close().send()
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"x", 9);
    deliver(&scene, 1, "c", 2, b"x", 9);
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log[0], "message");
    assert_eq!(log.len(), 2, "{log:?}");
    // Its number is free again, and a handle of the old channel does not reach the new one.
    let next = scene.connection.channel().send().unwrap();
    assert_eq!(next.channel_number(), channel.channel_number());
    assert!(matches!(channel.queue_purge("q").send(), Err(Error::ChannelClosedByClient { .. })));
}

fn callbacks_may_stop_the_loop_post_to_it_and_register_more() {
    let (mut scene, mut log, channel) = with_channel();
    let ioloop = scene.ioloop();
    channel
        .basic_consume("q")
        .consumer_tag("c")
        .on_message(move |log: &mut Log, channel: &Channel<Log>, _: Delivery<'_>| {
            log.push("outer".into());
            ioloop.stop();
            ioloop.post(|log: &mut Log| log.push("posted".into()));
            channel.basic_consume("r").consumer_tag("d").on_message(logging).send().map(drop)
        })
        .send()
        .unwrap();
    scene.run(&mut log).unwrap();
    // Who stops the loop has what was read with the message; the rest comes when it is started again.
    scene.wire.cut(Cut::Whole);
    deliver(&scene, 1, "c", 1, b"x", 9);
    deliver(&scene, 1, "d", 2, b"y", 9);
    assert_eq!(scene.turn(&mut log), Ok(true), "stopped");
    assert_eq!(scene.turn(&mut log), Ok(false), "started again");
    assert_eq!(log, ["outer".to_string(), format!("d 2 {:?}", b"y"), "posted".into()]);
}

/// N8
fn an_error_of_a_callback_stops_the_loop_which_goes_on_behind_it() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |log: &mut Log, _: &Channel<Log>, delivery: Delivery<'_>| {
        log.push(delivery.delivery_tag.to_string());
        if delivery.delivery_tag.number() == 1 { Err("mine") } else { Ok(()) }
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"x", 9);
    deliver(&scene, 1, "c", 2, b"x", 9);
    assert_eq!(scene.run(&mut log).unwrap_err().to_string(), "a callback failed: mine");
    assert!(channel.is_open());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["1", "2"]);
}

/// N8
fn a_panic_costs_its_channel_and_nothing_else() {
    let (mut scene, mut log, channel) = with_channel();
    let on_message = |_: &mut Log, _: &Channel<Log>, _: Delivery<'_>| -> () { panic!("mine") };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    let good = scene.connection.channel().send().unwrap();
    good.basic_consume("q").consumer_tag("g").on_message(logging).send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"x", 9);
    deliver(&scene, 2, "g", 1, b"x", 9);
    assert!(catch_unwind(AssertUnwindSafe(|| scene.run(&mut log))).is_err());
    scene.run(&mut log).unwrap();
    assert_eq!(log, [format!("g 1 {:?}", b"x")]);
    assert_eq!(channel.queue_purge("q").send(), Err(Error::Panicked { channel: 1 }));
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log.len(), 2, "{log:?}");
}

/// A tag of another channel, or of a connection that is gone, never reaches the broker.
fn a_delivery_tag_is_good_on_its_own_channel_only() {
    let (mut scene, mut log, channel) = with_channel();
    let other = scene.connection.channel().send().unwrap();
    let wrong = other.clone();
    let on_message = move |log: &mut Log, channel: &Channel<Log>, delivery: Delivery<'_>| {
        log.push(format!("{:?}", wrong.basic_ack(delivery.delivery_tag)));
        channel.basic_ack(delivery.delivery_tag)
    };
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    scene.wire.heard();
    deliver(&scene, 1, "c", 5, b"x", 9);
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["Err(StaleDeliveryTag { tag: 5 })"]);
    let ack = basic::Ack { delivery_tag: 5, multiple: false };
    assert_eq!(scene.wire.heard_methods(), [(1, ack.into())]);
}

fn a_consumer_tag_in_use_is_refused_before_the_broker_sees_it() {
    let (mut scene, mut log, channel) = consuming();
    let again = channel.basic_consume("q").consumer_tag("c").on_message(logging).send();
    assert!(matches!(again, Err(Error::Invalid(_))), "{again:?}");
    let long = "x".repeat(256);
    assert!(channel.basic_publish(&long, "q", "x").send().is_err());
    assert!(channel.queue_declare(long).send().is_err());
    assert!(channel.flow(false).send().is_err());
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard(), []);
    assert!(channel.is_open());
}

/// Faults 6, PR17
fn a_message_over_the_limit_is_refused_with_its_tag() {
    let parameters = ConnectionParameters::builder().max_message_size(10).build().unwrap();
    let (mut scene, mut log) = scene(parameters);
    let channel = scene.connection.channel().send().unwrap();
    channel
        .basic_consume("q")
        .consumer_tag("c")
        .on_message(logging)
        .on_oversized(|log: &mut Log, channel, oversized| {
            log.push(format!("{} octets", oversized.size));
            channel.basic_reject(oversized.delivery_tag, false)
        })
        .send()
        .unwrap();
    scene.open_channel(1, &mut log).unwrap();
    deliver(&scene, 1, "c", 1, &[0; 11], 5);
    deliver(&scene, 1, "c", 2, &[1; 2], 5);
    channel.basic_consume("q").consumer_tag("d").on_message(logging).send().unwrap();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["11 octets".to_string(), format!("c 2 {:?}", [1, 1])]);
    deliver(&scene, 1, "d", 3, &[0; 11], 5);
    scene.run(&mut log).unwrap();
    let later = channel.basic_publish("", "q", "x").send();
    assert!(matches!(later, Err(Error::MessageTooLarge { delivery_tag: 3, size: 11, limit: 10, .. })), "{later:?}");
}

fn a_publish_is_settled_by_what_the_broker_says_of_it() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_delivery(|log: &mut Log, _, confirmation| log.push(format!("{confirmation:?}"))).send().unwrap();
    for n in 1..=4 {
        channel.basic_publish("", "q", "x").mandatory(n == 2).then(move |log: &mut Log, _, outcome| {
            let outcome = match outcome {
                Ok(PublishOutcome::Returned(returned)) => format!("returned {}", returned.reply_code),
                Ok(outcome) => format!("{outcome:?}"),
                Err(_) => "unknown".into(),
            };
            log.push(format!("{n} {outcome}"));
        });
    }
    scene.run(&mut log).unwrap();
    // The mark is in the properties of the mandatory one; the broker gives them back.
    let octets = scene.wire.heard_octets();
    let name = b"x-pooka-publish";
    let at = octets.windows(name.len()).position(|window| window == name).unwrap();
    let mark = octets[at + name.len() + 1..][..8].try_into().map(i64::from_be_bytes).unwrap();
    scene.wire.say(1, basic::Return { reply_code: 312, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new().header("x-pooka-publish", mark), b"x", 9);
    scene.wire.say(1, basic::Nack { delivery_tag: 3, ..Default::default() });
    scene.wire.say(1, basic::Ack { delivery_tag: 2, multiple: true });
    scene.run(&mut log).unwrap();
    log.retain(|line| !line.starts_with("Confirmation"));
    assert_eq!(log, ["3 Nacked", "1 Acked", "2 returned 312"]);
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert_eq!(log[3], "4 unknown");
}

/// C10, PR3: the header by which it is known again stands beside the program's own, and the callback of returns is told too.
fn what_comes_back_keeps_its_properties_and_is_told_to_everybody() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_select().send().unwrap();
    channel.add_on_return_callback(|log: &mut Log, _, returned| log.push(format!("back {:?}", returned.body)));
    let properties = BasicProperties::new().content_type("text/plain").header("mine", 7);
    for (body, mandatory) in [("a", true), ("b", false)] {
        let publish = channel.basic_publish("", "q", body).properties(&properties).mandatory(mandatory);
        publish.then(move |log: &mut Log, _, outcome| match outcome.unwrap() {
            PublishOutcome::Returned(returned) => log.push(format!("{body} returned {:?}", returned.body)),
            outcome => log.push(format!("{body} {outcome:?}")),
        });
    }
    channel.confirm_select().send().unwrap();
    scene.run(&mut log).unwrap();
    let octets = scene.wire.heard_octets();
    let headers = octets.windows(12).filter(|window| *window == b"\x0Atext/plain\0").count();
    let mine = octets.windows(5).filter(|window| *window == b"\x04mine").count();
    assert_eq!((headers, mine), (2, 2));
    let name = b"x-pooka-publish";
    let marks: Vec<_> = octets.windows(name.len()).enumerate().filter(|(_, window)| window == name).collect();
    let [(at, _)] = marks[..] else { panic!("only what may come back has a number: {marks:?}") };
    let mark = octets[at + name.len() + 1..][..8].try_into().map(i64::from_be_bytes).unwrap();
    scene.wire.say(1, basic::Return { reply_code: 312, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new().header("x-pooka-publish", mark), b"a", 9);
    scene.wire.say(1, basic::Ack { delivery_tag: 2, multiple: true });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["back b\"a\"", "a returned b\"a\"", "b Acked"], "a second confirm.select changes nothing");
}

/// C4, PR2: whoever closes a channel behind a publish hears what became of it, in each way of asking.
fn confirms_are_told_until_a_closing_channel_is_closed() {
    let (mut scene, mut log, channel) = with_channel();
    channel
        .confirm_delivery(|log: &mut Log, _, confirmation| log.push(format!("{}", confirmation.ack)))
        .send()
        .unwrap();
    for n in 1..=3 {
        channel.basic_publish("", "q", "x").then(move |log: &mut Log, _, outcome| {
            log.push(format!("{n} {:?}", outcome.map_err(|error| error.reply_code())));
        });
    }
    channel.close().send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.wire.say(1, basic::Nack { delivery_tag: 2, multiple: false, requeue: false });
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    let unknown = log.pop().filter(|line| line.starts_with("channel closed")).and(log.pop());
    assert_eq!(unknown.as_deref(), Some("3 Err(Some(200))"));
    log.sort();
    assert_eq!(log, ["1 Ok(Acked)", "2 Ok(Nacked)", "false", "true"]);
}

fn without_confirm_mode_an_outcome_cannot_be_waited_for() {
    let (mut scene, mut log, channel) = with_channel();
    channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| log.push(outcome.unwrap_err().to_string()));
    scene.run(&mut log).unwrap();
    assert!(log[0].contains("confirm_delivery"), "{log:?}");
    assert_eq!(scene.wire.heard(), []);
}

/// PR17, X2, X3
fn back_pressure_is_told_when_it_begins_and_when_it_ends_and_has_a_limit() {
    let builder = ConnectionParameters::builder().outbound_high_water(1000).outbound_limit(Some(5000));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push((octets > 1000).to_string()));
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    scene.wire.room(Some(0));
    let mut sent = 0;
    let error = loop {
        match channel.basic_publish("", "q", &[0; 100]).send() {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::OutboundFull { limit: 5000, .. }) && sent > 20, "{error:?} behind {sent}");
    scene.run(&mut log).unwrap();
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true", "false"]);
    channel.basic_publish("", "q", "x").send().unwrap();
}

/// X1, D9, D10: pika's rule, told once.
fn the_outbound_buffer_may_hold_as_many_average_frames_as_the_program_says() {
    let publishes_until_told = |multiplier: Option<u32>, detection: bool, body: usize| {
        let body = vec![0; body];
        let parameters = ConnectionParameters::builder().backpressure_detection(detection).build().unwrap();
        let (mut scene, mut log) = scene(parameters);
        scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push(octets.to_string()));
        multiplier.into_iter().for_each(|value| scene.connection.set_backpressure_multiplier(value));
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        for _ in 0..1000 {
            channel.basic_publish("", "q", &body).send().unwrap();
            scene.run(&mut log).unwrap();
        }
        assert_eq!(log, [""; 0], "they were written");
        scene.wire.room(Some(0));
        for n in 1..1000 {
            channel.basic_publish("", "q", &body).send().unwrap();
            scene.run(&mut log).unwrap();
            if !log.is_empty() {
                channel.basic_publish("", "q", &body).send().unwrap();
                scene.run(&mut log).unwrap();
                assert_eq!(log.len(), 1, "told again: {log:?}");
                return n;
            }
        }
        1000
    };
    // A publish is three frames, and those of the handshake are longer.
    assert_eq!(publishes_until_told(None, true, 1000), 4);
    assert_eq!(publishes_until_told(Some(10), true, 1000), 4);
    assert!((99..=101).contains(&publishes_until_told(Some(300), true, 1000)));
    assert_eq!(publishes_until_told(Some(1), false, 1000), 1000);
    // Without a body it is two frames, and what TLS adds to them counts.
    assert!((5..=6).contains(&publishes_until_told(None, true, 0)));
    assert!(!ConnectionParameters::default().backpressure_detection());
}

/// X2
fn who_takes_back_a_backpressure_callback_hears_no_more_of_it() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().outbound_high_water(10).build().unwrap());
    let told =
        scene.connection.add_backpressure_callback(|log: &mut Log, _, octets| log.push((octets > 0).to_string()));
    scene.wire.room(Some(0));
    scene.connection.channel().send().unwrap();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
    assert!(scene.connection.remove_callback(told));
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
}

/// H1, S2
fn a_heartbeat_goes_out_after_half_an_interval_and_silence_of_two_is_death() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    scene.connection.add_on_close_callback(|log: &mut Log, _, error| log.push(error.to_string()));
    scene.open_with(connection::Tune { heartbeat: 10, frame_max: 8192, channel_max: 9 }, &mut log).unwrap();
    assert_eq!(scene.sleeps_for(&mut log), Some(Duration::from_secs(5)));
    scene.advance(Duration::from_secs(5), &mut log).unwrap();
    assert_eq!(scene.wire.heard(), [Frame::Heartbeat]);
    // A callback computed for an hour while the broker's heartbeats piled up unread: that is no silence.
    scene.wire.frame(8, 0, &[]);
    scene.advance(Duration::from_secs(3600), &mut log).unwrap();
    assert_eq!(log, [] as [&str; 0]);
    scene.advance(Duration::from_secs(19), &mut log).unwrap();
    assert_eq!(log, [] as [&str; 0]);
    scene.wire.heard();
    scene.advance(Duration::from_secs(1), &mut log).unwrap();
    assert!(log[0].contains("nothing heard") && log[0].contains("20 s"), "{log:?}");
    assert_eq!(scene.wire.heard_methods(), [], "no graceful close");
}

/// H2: in both directions, and a single octet of it.
fn whatever_moves_is_as_good_as_a_heartbeat() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().heartbeat(Some(10)).build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    channel.basic_consume("q").consumer_tag("c").on_message(logging).send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
    scene.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]);
    scene.wire.octets(&[3, 0, 1, 0, 0, 0, 9]);
    scene.wire.heard();
    for _ in 0..9 {
        for _ in 0..4 {
            channel.basic_publish("", "q", "x").send().unwrap();
            scene.advance(Duration::from_secs(4), &mut log).unwrap();
        }
        assert!(!scene.wire.heard().contains(&Frame::Heartbeat));
        scene.wire.octets(b"x");
    }
    scene.wire.octets(&[0xCE]);
    scene.run(&mut log).unwrap();
    assert_eq!(log, [format!("c 1 {:?}", b"xxxxxxxxx")]);
}

/// H1: one may have been said before it was known, and with TLS another.
fn heartbeats_do_not_pile_up_where_nothing_can_be_written() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().heartbeat(Some(10)).build().unwrap());
    scene.wire.room(Some(0));
    scene.connection.channel().send().unwrap();
    for _ in 0..10 {
        scene.wire.frame(8, 0, &[]);
        scene.advance(Duration::from_secs(5), &mut log).unwrap();
    }
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    let beats = scene.wire.heard().into_iter().filter(|frame| *frame == Frame::Heartbeat).count();
    assert!(beats <= 2, "{beats} of ten");
    assert_eq!(log, [""; 0]);
}

/// More than a client reads in one turn.
fn flood(scene: &Scene<Log>) {
    while scene.wire.unread() < 3 << 19 {
        deliver(scene, 1, "c", 1, &[0; 100_000], 100_000);
    }
}

/// A consumer who keeps what he is given to himself.
fn flooded(parameters: ConnectionParameters) -> (Scene<Log>, Log, Channel<Log>) {
    let (mut scene, mut log) = scene(parameters);
    let channel = scene.connection.channel().send().unwrap();
    channel.basic_consume("q").consumer_tag("c").no_ack(true).on_message(|_: &mut Log, _, _| ()).send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    scene.wire.heard();
    (scene, log, channel)
}

/// H1, PR13: whose callbacks are slow has always more to read, and may have nothing to say for hours.
#[test]
fn a_broker_that_never_pauses_is_sent_heartbeats_all_the_same() {
    let (mut scene, mut log, _channel) = flooded(ConnectionParameters::builder().heartbeat(Some(10)).build().unwrap());
    for _ in 0..6 {
        for _ in 0..5 {
            flood(&scene);
            scene.step(Duration::from_secs(1), &mut log).unwrap();
            assert!(scene.wire.unread() > 0);
        }
        assert_eq!(scene.wire.heard(), [Frame::Heartbeat]);
    }
    assert_eq!(log, [""; 0]);
}

/// Faults 23, PR12, PR29: neither of a request nor of a close.
#[test]
fn a_broker_that_never_pauses_cannot_put_off_a_deadline() {
    let builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(8))).heartbeat(Some(0));
    let (mut scene, mut log, channel) = flooded(builder.build().unwrap());
    let wait = |scene: &mut Scene<Log>, log: &mut Log| {
        for _ in 0..30 {
            flood(scene);
            scene.step(Duration::from_secs(1), log).unwrap();
        }
        std::mem::take(log)
    };
    channel.queue_declare("slow").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    let log_of_request = wait(&mut scene, &mut log);
    assert!(log_of_request[0].contains("took longer than 8 s"), "{log_of_request:?}");
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(closed.unwrap_err().to_string()));
    let log_of_close = wait(&mut scene, &mut log);
    assert!(log_of_close[0].contains("connection.close took longer than 10 s"), "{log_of_close:?}");
}

/// Faults 23: whoever waits is told, and the channel stays in step when the reply comes late.
fn a_reply_that_does_not_come_is_a_timeout_and_a_late_one_is_swallowed() {
    let builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(32))).heartbeat(Some(0));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    channel.queue_declare("slow").then(|log: &mut Log, _, declared| {
        assert!(matches!(declared, Err(Error::Timeout { stage: Stage::Reply, .. })), "{declared:?}");
        log.push("timeout".into());
    });
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(31), &mut log).unwrap();
    assert_eq!(log, [] as [&str; 0]);
    scene.advance(Duration::from_secs(2), &mut log).unwrap();
    assert_eq!(log, ["timeout"]);
    channel.queue_declare("fast").then(|log: &mut Log, _, declared| log.push(declared.unwrap().queue.to_string()));
    for name in ["slow", "fast"] {
        scene.wire.say(1, queue::DeclareOk { queue: name.into(), ..Default::default() });
    }
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["timeout", "fast"]);
}

/// Faults 23, PR12: a wait is bounded wherever it was begun.
fn a_request_made_by_a_post_has_its_deadline_too() {
    let builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(32))).heartbeat(Some(0));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    // Nothing else wakes the loop.
    for _ in 0..2 {
        scene.advance(Duration::from_secs(40), &mut log).unwrap();
    }
    assert_eq!(scene.sleeps_for(&mut log), None);
    scene.ioloop().post(move |_: &mut Log| {
        channel.queue_declare("slow").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    });
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(33), &mut log).unwrap();
    assert_eq!(
        log,
        [
            "queue.declare-ok from localhost:5672 on channel 1 took longer than 32 s - the broker may be blocked by an alarm"
        ]
    );
}

/// A connection whose socket takes nothing more, and whose loop knows it.
fn stuck() -> (Scene<Log>, Log, Channel<Log>) {
    let builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(32))).heartbeat(Some(0));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    for _ in 0..2 {
        scene.advance(Duration::from_secs(40), &mut log).unwrap();
    }
    scene.wire.room(Some(0));
    for _ in 0..3 {
        channel.basic_publish("", "q", "x").send().unwrap();
        scene.run(&mut log).unwrap();
    }
    (scene, log, channel)
}

/// Faults 22, 23, PR12: a broker that does not read any more makes nobody wait for ever.
fn a_request_that_cannot_be_written_has_its_deadline_too() {
    let (mut scene, mut log, channel) = stuck();
    channel.queue_declare("slow").then(|log: &mut Log, _, declared| log.push(declared.is_ok().to_string()));
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(33), &mut log).unwrap();
    assert_eq!(log, ["false"]);
}

/// Faults 22, 23, PR12
fn a_close_that_cannot_be_written_is_over_at_its_deadline() {
    let (mut scene, mut log, _channel) = stuck();
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{}", closed.unwrap_err())));
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(10), &mut log).unwrap();
    let late = "the answer of localhost:5672 to connection.close took longer than 10 s";
    assert_eq!(log, [late.to_string(), format!("closed: {late}")]);
}

/// Faults 23, PR12
fn a_close_that_is_not_answered_is_over_at_its_deadline() {
    let (mut scene, mut log, _channel) = with_channel();
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{}", closed.unwrap_err())));
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(10), &mut log).unwrap();
    assert!(log[1].contains("connection.close took longer than 10 s"), "{log:?}");
}

/// Faults 12, 13, F6, F7, E2: each stage of the handshake has its own error.
fn a_handshake_that_fails_says_what_happened_and_where() {
    let attempt = |script: &dyn Fn(&mut Scene<Log>, &mut Log)| {
        let mut log = Log::new();
        let on_open = |log: &mut Log, _: &_, opened: Result<()>| log.push(opened.unwrap_err().to_string());
        let mut scene = Scene::new(ConnectionParameters::default(), on_open);
        scene.run(&mut log).unwrap();
        script(&mut scene, &mut log);
        assert_eq!(scene.turn(&mut log), Ok(true));
        assert_eq!(log.len(), 1, "{log:?}");
        log.remove(0)
    };
    let silent = attempt(&|scene, log| scene.advance(Duration::from_secs(15), log).unwrap());
    assert!(silent.contains("localhost:5672 took longer than 15 s") && silent.contains("AMQP port"), "{silent}");
    let html = attempt(&|scene, _| scene.wire.octets(b"<html>"));
    assert!(html.contains("does not speak AMQP"), "{html}");
    let old = attempt(&|scene, _| scene.wire.octets(b"AMQP\x01\x01\x08\x00"));
    assert!(old.contains("speaks AMQP 1-8-0"), "{old}");
    let older = attempt(&|scene, _| {
        scene.wire.say(0, connection::Start { version_major: 8, version_minor: 0, ..start() });
    });
    assert!(older.contains("speaks AMQP 8.0, not 0-9-1"), "{older}");
    let gone = attempt(&|scene, _| scene.wire.hang_up());
    assert!(gone.contains("before an AMQP greeting"), "{gone}");
    let refused = attempt(&|scene, log| {
        scene.wire.say(0, start());
        scene.run(log).unwrap();
        scene.wire.say(0, connection::Close { reply_code: 403, reply_text: "no".into(), ..Default::default() });
    });
    assert!(refused.contains("login refused for user \"guest\"") && refused.contains("403 no"), "{refused}");
    let hung_up = attempt(&|scene, log| {
        scene.wire.say(0, start());
        scene.run(log).unwrap();
        scene.wire.hang_up();
    });
    assert!(hung_up.contains("login refused"), "{hung_up}");
    let vhost = attempt(&|scene, log| {
        scene.wire.say(0, start());
        scene.wire.say(0, connection::Tune { channel_max: 9, frame_max: 4096, heartbeat: 0 });
        scene.run(log).unwrap();
        scene.wire.say(0, connection::Close { reply_code: 530, reply_text: "none".into(), ..Default::default() });
    });
    assert!(vhost.contains("vhost \"/\"") && vhost.contains("530 none"), "{vhost}");
    let other = attempt(&|scene, _| {
        scene.wire.say(0, connection::Start { mechanisms: "GSSAPI".into(), ..start() });
    });
    assert!(other.contains("does not offer the SASL mechanism PLAIN"), "{other}");
    let small = attempt(&|scene, log| {
        scene.wire.say(0, start());
        scene.run(log).unwrap();
        scene.wire.say(0, connection::Tune { frame_max: 100, ..Default::default() });
    });
    assert!(small.contains("frame_max is below 4096"), "{small}");
}

/// F15
fn a_close_before_the_connection_is_open_is_told_to_the_open_callback() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
        log.push(opened.unwrap_err().to_string());
    });
    scene.run(&mut log).unwrap();
    assert!(scene.connection.close().reply_text("x".repeat(256)).send().is_err());
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{closed:?}")));
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log, ["the connection to localhost:5672 was closed by this program before it was open", "Ok(())"]);
}

fn a_channel_without_handles_and_without_anything_going_on_is_closed() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").then(|_: &mut Log, _, _| ());
    drop(channel);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods().len(), 1, "something is outstanding");
    scene.wire.say(1, queue::DeclareOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods()[0].1.name(), "channel.close");
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert!(log[0].starts_with("channel closed: "), "{log:?}");
}

/// C10
fn events_reach_who_registered_for_them_until_they_are_removed() {
    let (mut scene, mut log, channel) = with_channel();
    scene.connection.add_on_connection_blocked_callback(|log: &mut Log, _, why| log.push(format!("blocked: {why}")));
    let unblocked = scene.connection.add_on_connection_unblocked_callback(|log: &mut Log, _| log.push("free".into()));
    let cancelled = channel.add_on_cancel_callback(|log: &mut Log, _, tag| log.push(format!("cancelled {tag}")));
    for tag in ["c", "d"] {
        channel.basic_consume("q").consumer_tag(tag).on_message(logging).send().unwrap();
    }
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    channel.add_on_flow_callback(|log: &mut Log, _, active| log.push(format!("flow {active}")));
    channel.add_on_return_callback(|log: &mut Log, _, returned| log.push(format!("returned {:?}", returned.body)));
    let hook = |log: &mut Log, _: &Channel<Log>, method: &Method| log.push(method.name().into());
    let ids = [<channel::Flow as amqp_core::spec::Arguments>::ID];
    channel.add_callback(&ids, amqp_core::callback::Terms::one_shot(), hook);
    for _ in 0..2 {
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        scene.wire.say(0, connection::Unblocked {});
        scene.run(&mut log).unwrap();
        scene.connection.remove_callback(unblocked);
    }
    scene.wire.say(1, channel::Flow { active: true });
    scene.wire.say(1, channel::Flow { active: false });
    scene.wire.say(1, basic::Return::default());
    scene.wire.content(1, &BasicProperties::new(), b"x", 9);
    scene.run(&mut log).unwrap();
    let expected =
        ["blocked: memory", "free", "blocked: memory", "channel.flow", "flow true", "flow false", "returned b\"x\""];
    assert_eq!(log, expected);
    let answers = scene.wire.heard_methods();
    assert_eq!(answers[1], (1, channel::FlowOk { active: false }.into()));
    for tag in ["c", "d"] {
        scene.wire.say(1, basic::Cancel { consumer_tag: tag.into(), nowait: true });
        scene.run(&mut log).unwrap();
        channel.remove_callback(cancelled);
    }
    let removed = channel.add_on_close_callback(|log: &mut Log, _, _| log.push("closed".into()));
    assert!(channel.remove_callback(removed));
    scene.wire.say(1, channel::Close { reply_code: 406, reply_text: "NO".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    assert_eq!(log[7..], ["cancelled c", "channel closed: channel 1 was closed by the broker: 406 NO"]);
}

fn dropping_the_loop_calls_nobody_and_later_calls_say_so() {
    struct Bomb(Channel<Log>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0.basic_publish("", "q", "x").send().is_err());
        }
    }
    let (mut scene, mut log, channel) = with_channel();
    let bomb = Bomb(channel.clone());
    channel.queue_declare("mute").then(move |_: &mut Log, _, _| -> () {
        let _bomb = &bomb;
        panic!("called from drop");
    });
    scene.run(&mut log).unwrap();
    drop(scene);
    assert_eq!(channel.queue_purge("q").send(), Err(Error::LoopGone));
}
