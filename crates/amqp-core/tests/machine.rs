//! Requests, consumers and callbacks against a scripted peer: octets in, calls and octets out.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Delivery, Error, Message, Result, ShortString,
    callback::Terms,
    spec::{Arguments, Method, basic, channel, confirm, connection, queue},
};
use pooka_testkit::scripted_peer::{Cut, Scene};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use stories::{Log, consuming, deliver, logging, scene, with_channel};

stories! {
    replies_come_in_the_order_of_the_calls_and_each_once
    ninety_nine_failing_declares_and_a_close_are_ninety_nine_errors_and_one_close
    a_lost_connection_answers_everybody_in_order
    every_wait_ends_with_the_connection
    there_are_no_more_channels_than_agreed
    the_last_frames_before_the_end_are_handled
    after_connection_close_everything_but_its_answer_is_ignored
    after_connection_close_frames_on_closed_channels_are_discarded
    what_was_asked_before_connection_close_is_answered
    crossing_closes_of_a_connection_end_it
    nothing_reaches_a_consumer_that_has_cancelled_itself
    a_cancel_by_the_broker_is_told_once
    a_cancel_by_the_broker_that_nobody_hears_comes_out_of_the_loop
    a_consumer_s_own_callback_is_told_why_it_ended
    a_consumer_may_close_its_channel_and_gets_nothing_more
    callbacks_may_stop_the_loop_post_to_it_and_register_more
    an_error_of_a_callback_stops_the_loop_which_goes_on_behind_it
    a_panic_costs_its_channel_and_nothing_else
    a_delivery_tag_is_good_on_its_own_channel_only
    a_consumer_tag_in_use_is_refused_before_the_broker_sees_it
    a_message_over_the_limit_is_refused_with_its_tag
    a_message_over_the_limit_is_told_before_its_body_comes
    what_a_stream_queue_sent_is_not_given_back
    a_header_that_grew_in_the_broker_is_taken_up_to_twice_the_size_of_a_frame
    a_channel_without_handles_and_without_anything_going_on_is_closed
    a_channel_without_handles_is_closed_when_its_publishes_are_confirmed
    events_reach_who_registered_for_them_until_they_are_removed
    dropping_the_loop_calls_nobody_and_later_calls_say_so
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

/// Trial T17: what the broker answers before close-ok was asked for before the close, and belongs to who asked.
fn what_was_asked_before_connection_close_is_answered() {
    let (mut scene, mut log, channel) = with_channel();
    for queue in ["a", "b", "c"] {
        channel.queue_declare(queue).passive(true).then(|log: &mut Log, _, declared| match declared {
            Ok(ok) => log.push(format!("{} is there", ok.queue)),
            Err(error) => log.push(error.to_string()),
        });
    }
    channel.basic_get("q").then(|log: &mut Log, _, got| log.push(format!("got {}", got.unwrap().is_some())));
    let other = scene.connection.channel().send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    other.confirm_select().send().unwrap();
    other.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| log.push(format!("{outcome:?}")));
    other.queue_declare("missing").passive(true).then(|log: &mut Log, _, declared| {
        log.push(declared.unwrap_err().to_string());
    });
    scene.connection.update_secret("new", "").then(|log: &mut Log, _, ok| log.push(format!("secret {}", ok.is_ok())));
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("closed {closed:?}")));
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    for queue in ["a", "b"] {
        scene.wire.say(1, queue::DeclareOk { queue: queue.into(), ..Default::default() });
    }
    scene.wire.say(2, confirm::SelectOk {});
    scene.wire.say(2, basic::Ack { delivery_tag: 1, multiple: false });
    scene.wire.say(2, channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), class_id: 50, method_id: 10 });
    scene.wire.say(0, connection::UpdateSecretOk {});
    scene.wire.say(1, queue::DeclareOk { queue: "c".into(), ..Default::default() });
    scene.wire.say(1, basic::GetOk { delivery_tag: 1, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new(), b"x", 1);
    scene.wire.say(1, queue::DeclareOk::default());
    scene.wire.say(0, connection::CloseOk {});
    assert_eq!(scene.turn(&mut log), Ok(true));
    let told: Vec<_> = log.iter().take(8).map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "a is there",
            "b is there",
            "Ok(Acked)",
            "channel 2 was closed by the broker: 404 NOT_FOUND",
            "secret true",
            "c is there",
            "got true",
            "channel closed: the connection was closed by this program: 200 Normal shutdown",
        ]
    );
    assert!(log.contains(&"closed Ok(())".into()), "{log:?}");
    assert_eq!(scene.wire.heard(), [], "nothing is said after connection.close");
}

/// Trial T16: whole messages and pieces of them, on a channel that was closed before, and on one that never was.
fn after_connection_close_frames_on_closed_channels_are_discarded() {
    let (mut scene, mut log, _channel) = consuming();
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{closed:?}")));
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"late", 3);
    scene.wire.say(5, queue::DeclareOk::default());
    scene.wire.frame(3, 1, b"a piece of a body");
    scene.wire.say(0, connection::CloseOk {});
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert!(log.contains(&"Ok(())".into()), "{log:?}");
    let closes = scene.wire.heard_methods().iter().filter(|(number, _)| *number == 0).count();
    assert!(closes <= 1, "one close");
    assert!(matches!(scene.connection.close_reason(), Some(Error::ConnectionClosedByClient { .. })));
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

/// Trial T21: it comes out of the loop, once, unless a callback of the channel's or of the consumer's own hears of it.
fn a_cancel_by_the_broker_that_nobody_hears_comes_out_of_the_loop() {
    let cancel = || basic::Cancel { consumer_tag: "c".into(), nowait: true };
    let (mut scene, mut log, _channel) = consuming();
    scene.wire.say(1, cancel());
    let cancelled = Error::ConsumerCancelled { channel: 1, consumer_tag: "c".into() };
    assert_eq!(scene.run(&mut log).unwrap_err(), cancelled);
    scene.wire.say(1, cancel());
    scene.run(&mut log).unwrap();
    assert_eq!(log, [""; 0]);

    let (mut scene, mut log, channel) = consuming();
    channel.add_callback(&[basic::Cancel::ID], Terms::one_shot(), |log: &mut Log, _, _| log.push("hooked".into()));
    scene.wire.say(1, cancel());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["hooked"]);
}

/// Trial T21: once each, and not where the program has asked for it.
fn a_consumer_s_own_callback_is_told_why_it_ended() {
    let told = |log: &mut Log, channel: &Channel<Log>, reason: &Error| {
        log.push(format!("{} {reason}", channel.channel_number()));
    };
    for way in ["broker cancels", "channel", "connection", "cancel", "close"] {
        let (mut scene, mut log, channel) = with_channel();
        channel.basic_consume("q").consumer_tag("c").on_message(logging).on_end(told).send().unwrap();
        scene.run(&mut log).unwrap();
        let expected = match way {
            "broker cancels" => {
                scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
                "1 the broker cancelled consumer \"c\" on channel 1"
            }
            "channel" => {
                scene.wire.say(1, channel::Close { reply_code: 406, ..Default::default() });
                "1 channel 1 was closed by the broker: 406"
            }
            "connection" => {
                scene.wire.hang_up();
                "1 the connection to"
            }
            "cancel" => {
                channel.basic_cancel("c").send().unwrap();
                scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
                ""
            }
            _ => {
                channel.close().send().unwrap();
                scene.run(&mut log).unwrap();
                scene.wire.say(1, channel::CloseOk {});
                ""
            }
        };
        scene.run(&mut log).unwrap();
        log.retain(|line| line.starts_with("1 "));
        let heard: Vec<&str> = log.iter().map(|line| &line[..expected.len().min(line.len())]).collect();
        assert_eq!(heard, if expected.is_empty() { vec![] } else { vec![expected] }, "{way}: {log:?}");
    }
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
    assert_eq!(log, ["Err(delivery tag 5 belongs to another channel, or to an earlier connection; nothing was sent)"]);
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

/// Trial T15: a consumer and basic.get hear of it at once, and what comes of the body is thrown away.
fn a_message_over_the_limit_is_told_before_its_body_comes() {
    let parameters = ConnectionParameters::builder().max_message_size(10).build().unwrap();
    let (mut scene, mut log) = scene(parameters);
    let channel = scene.connection.channel().send().unwrap();
    let oversized = channel.basic_consume("q").consumer_tag("c").on_message(logging);
    let oversized = oversized.on_oversized(|log: &mut Log, channel, oversized| {
        log.push(format!("{} octets", oversized.size));
        channel.basic_reject(oversized.delivery_tag, false)
    });
    oversized.send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    let header = |size: u64| [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat();
    scene.wire.heard();
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
    scene.wire.frame(2, 1, &header(20));
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["20 octets"]);
    assert_eq!(scene.wire.heard_methods()[0].1, basic::Reject { delivery_tag: 1, requeue: false }.into());
    channel.basic_get("q").then(|log: &mut Log, _, got| log.push(format!("{:?}", got.map(|_| ()))));
    scene.run(&mut log).unwrap();
    [&[0; 12][..], &[], &[0; 8]].iter().for_each(|piece| scene.wire.frame(3, 1, piece));
    scene.wire.say(1, basic::GetOk { delivery_tag: 2, ..Default::default() });
    scene.wire.frame(2, 1, &header(1 << 40));
    scene.run(&mut log).unwrap();
    assert!(log[1].contains("message 2 on channel 1 has 1099511627776 octets, the limit is 10"), "{log:?}");
    scene.wire.frame(3, 1, &[0; 60_000]);
    scene.run(&mut log).unwrap();
    assert!(log.len() == 2 && channel.is_open(), "{log:?}");
}

/// Trial T7: a stream queue keeps its messages, and RabbitMQ closes the connection with 540 if one is rejected.
fn what_a_stream_queue_sent_is_not_given_back() {
    for (offset, rejects) in [(None, 3), (Some(7), 0)] {
        let (mut scene, mut log, channel) = consuming();
        let wire = scene.wire.clone();
        let deliver = |tag: &str, delivery_tag| {
            wire.say(1, basic::Deliver { consumer_tag: tag.into(), delivery_tag, ..Default::default() });
            let properties = BasicProperties::new().header("n", 1);
            let properties = match offset {
                Some(offset) => properties.header("x-stream-offset", offset),
                None => properties,
            };
            wire.content(1, &properties, b"x", 9);
        };
        deliver("never consumed", 1);
        channel.basic_cancel("c").then(|_: &mut Log, _, _| ());
        deliver("c", 2);
        scene.run(&mut log).unwrap();
        scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
        deliver("c", 3);
        scene.run(&mut log).unwrap();
        let rejected = scene.wire.heard_methods().into_iter().filter(|(_, method)| method.name() == "basic.reject");
        assert_eq!((rejected.count(), log.len()), (rejects, 0));
    }
}

/// Trial T25: the broker adds x-death to a header that just fitted, and sends it.
fn a_header_that_grew_in_the_broker_is_taken_up_to_twice_the_size_of_a_frame() {
    let grown = |octets: usize, interrupted: bool| {
        let (mut scene, mut log) = scene(ConnectionParameters::builder().frame_max(4096).build().unwrap());
        let channel = scene.connection.channel().send().unwrap();
        channel
            .basic_consume("jobs")
            .consumer_tag("c")
            .on_message(|log: &mut Log, _, delivery| {
                log.push(delivery.properties.raw_headers().map_or(0, <[u8]>::len).to_string());
            })
            .send()
            .unwrap();
        scene.open_channel(1, &mut log).unwrap();
        scene.wire.heard();
        // Class, weight, size and flags are 14 octets, the key and its type 3, lengths 8.
        let properties = BasicProperties::new().header("k", "x".repeat(octets - 8 - 14 - 3 - 8));
        scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
        if interrupted {
            scene.wire.frame(8, 0, &[]);
        }
        scene.wire.content(1, &properties, b"body", 4);
        scene.run(&mut log).unwrap();
        let close = scene.wire.heard_methods().pop();
        (log.first().cloned().unwrap_or_default(), scene.connection.close_reason(), close)
    };
    for interrupted in [false, true] {
        for octets in [4096, 4097, 8192] {
            let (told, reason, _) = grown(octets, interrupted);
            assert_eq!((told, reason), ((octets - 8 - 14 - 4).to_string(), None));
        }
        let (_, reason, close) = grown(8193, interrupted);
        let reason = reason.unwrap();
        let Some((0, Method::Connection(connection::Method::Close(close)))) = close else { panic!("{close:?}") };
        assert!(
            reason.is_connection_error() && reason.reply_code() == Some(501) && close.reply_code == 501,
            "{close:?}"
        );
        let Error::HeaderTooLarge { queue: Some(queue), limit: 8192, .. } = &reason else { panic!("{reason:#?}") };
        let text = reason.to_string();
        assert!(&**queue == "jobs" && text.contains("\"jobs\"") && text.contains("frame_max"), "{text}");
    }
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

/// Its confirms are still told, and the last one closes it.
fn a_channel_without_handles_is_closed_when_its_publishes_are_confirmed() {
    let (mut scene, mut log, channel) = with_channel();
    channel
        .confirm_delivery(|log: &mut Log, _, confirmation| log.push(confirmation.delivery_tag.to_string()))
        .send()
        .unwrap();
    scene.run(&mut log).unwrap();
    channel.basic_publish("", "q", "a").send().unwrap();
    channel.basic_publish("", "q", "b").then(|log: &mut Log, _, outcome| log.push(format!("{outcome:?}")));
    drop(channel);
    scene.run(&mut log).unwrap();
    scene.wire.say(1, basic::Ack { delivery_tag: 2, multiple: false });
    scene.run(&mut log).unwrap();
    assert!(scene.wire.heard_methods().iter().all(|(_, method)| method.name() != "channel.close"));
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods()[0].1.name(), "channel.close");
    assert_eq!(log, ["2", "Ok(Acked)", "1"]);
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
        assert_eq!(scene.run(&mut log).is_ok(), channel.remove_callback(cancelled), "or nobody hears of it");
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
