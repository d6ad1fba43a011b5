//! How connections and channels begin and end, as pika's do, against a scripted peer.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    Channel, ConnectionHandle, ConnectionParameters, Credentials, Error, Event, EventCallback, Result, Secret, Source,
    Table, Value,
    callback::{Key, Terms},
    spec::{Arguments, Method, basic, channel, connection, queue},
};
use pooka_testkit::scripted_peer::{Frame, Scene, start};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use stories::{Log, consuming, deliver, logging, scene, with_channel};

stories! {
    a_connection_says_where_it_is_and_begins_with_the_loop
    the_handshake_goes_step_by_step_and_the_callback_comes_last
    the_broker_says_what_it_can
    never_more_is_agreed_than_was_offered
    a_message_is_cut_into_frames_of_the_agreed_size_which_lie_together
    a_close_is_answered_once_and_told_to_everybody
    an_end_that_nobody_is_told_comes_out_of_the_loop
    a_close_says_why_it_was_asked_for
    nothing_is_sent_behind_the_close_of_a_connection
    a_close_that_crosses_open_ok_is_told_to_the_open_callback
    callbacks_of_a_connection_stay_until_they_are_removed
    an_opening_that_fails_is_told_to_who_asked_for_that
    a_broker_that_unblocks_in_time_keeps_its_connection
    without_heartbeats_nothing_is_sent_and_one_that_comes_is_no_violation
    a_secret_is_replaced_on_channel_0
    a_channel_has_the_lowest_number_that_is_free
    a_channel_that_the_broker_has_closed_frees_its_number_when_that_is_answered
    a_channel_is_usable_from_its_request_to_its_close
    a_closed_channel_refuses_every_call_with_its_reason
    what_the_program_has_closed_can_be_closed_again
    what_the_broker_has_closed_cannot_be_closed
    what_was_called_before_a_close_goes_out_before_it
    both_sides_may_close_a_channel_and_the_broker_s_reason_is_told
    a_hook_hears_its_methods_once_or_always
    the_callbacks_of_a_connection_are_within_reach
    a_loop_that_was_stopped_before_its_start_ends_at_once_and_can_be_started
    room_is_asked_for_while_there_is_something_to_write
    a_timer_that_is_pending_keeps_a_loop_without_connections
    a_timer_or_a_post_that_adds_another_has_it_in_the_next_turn
}

/// F1, F2: nothing is done by the call itself.
fn a_connection_says_where_it_is_and_begins_with_the_loop() {
    let mut log = Log::new();
    let on_open = |log: &mut Log, connection: &ConnectionHandle<Log>, opened: Result<()>| {
        log.push(format!("{opened:?} {}", connection.is_open()));
    };
    let mut scene = Scene::new(ConnectionParameters::default(), on_open);
    let is = |scene: &Scene<Log>| {
        let connection = &scene.connection;
        (connection.is_open(), connection.is_closing(), connection.is_closed())
    };
    assert_eq!(is(&scene), (false, false, false));
    assert_eq!(scene.connection.channel().send().unwrap_err(), Error::NotOpen);
    scene.open(&mut log).unwrap();
    assert_eq!(is(&scene), (true, false, false));
    scene.connection.close().send().unwrap();
    assert_eq!(is(&scene), (false, true, false));
    scene.run(&mut log).unwrap();
    scene.wire.say(0, connection::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(is(&scene), (false, false, true));
    assert_eq!(log, ["Ok(()) true"]);
}

/// F3: connection.tune-ok and connection.open go out together.
fn the_handshake_goes_step_by_step_and_the_callback_comes_last() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
        log.push(opened.is_ok().to_string());
    });
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard(), [Frame::Header]);
    scene.wire.say(0, start());
    scene.run(&mut log).unwrap();
    let names = |scene: &Scene<Log>| {
        let methods = scene.wire.heard_methods();
        assert!(methods.iter().all(|(channel, _)| *channel == 0));
        methods.into_iter().map(|(_, method)| method.name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&scene), ["connection.start-ok"]);
    scene.wire.say(0, connection::Tune { channel_max: 9, frame_max: 4096, heartbeat: 0 });
    scene.run(&mut log).unwrap();
    assert_eq!(names(&scene), ["connection.tune-ok", "connection.open"]);
    assert_eq!(log, [""; 0]);
    scene.wire.say(0, connection::OpenOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
    assert_eq!(names(&scene), [""; 0]);
}

/// F5
fn the_broker_says_what_it_can() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    assert_eq!(scene.connection.server_properties(), None);
    scene.run(&mut log).unwrap();
    let capabilities = Table::new().with("basic.nack", true).with("publisher_confirms", false).with("odd", 1);
    let server_properties = Table::new().with("product", "Hare").with("capabilities", Value::Table(capabilities));
    scene.wire.say(0, connection::Start { server_properties, ..start() });
    scene.run(&mut log).unwrap();
    assert_eq!(scene.connection.server_properties(), None, "another endpoint may be tried yet");
    scene.wire.say(0, connection::Tune::default());
    scene.run(&mut log).unwrap();
    scene.wire.say(0, connection::OpenOk::default());
    scene.run(&mut log).unwrap();
    let properties = scene.connection.server_properties().unwrap();
    assert_eq!(properties.get("product"), Some(&"Hare".into()));
    let can = |name| scene.connection.has_capability(name);
    assert_eq!(["basic.nack", "publisher_confirms", "odd", "no"].map(can), [true, false, false, false]);
}

/// F9: and 0 is no limit.
fn never_more_is_agreed_than_was_offered() {
    let agreed = |ours: (u16, u32, Option<u16>), offered: (u16, u32, u16)| {
        let builder = ConnectionParameters::builder().channel_max(ours.0).frame_max(ours.1).heartbeat(ours.2);
        let mut log = Log::new();
        let mut scene = Scene::new(builder.build().unwrap(), |_: &mut Log, _, _| ());
        scene.run(&mut log).unwrap();
        scene.wire.say(0, start());
        scene.run(&mut log).unwrap();
        scene.wire.heard();
        scene.wire.say(0, connection::Tune { channel_max: offered.0, frame_max: offered.1, heartbeat: offered.2 });
        scene.run(&mut log).unwrap();
        match scene.wire.heard_methods().remove(0).1 {
            Method::Connection(connection::Method::TuneOk(ok)) => (ok.channel_max, ok.frame_max, ok.heartbeat),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(agreed((0, 131_072, None), (2047, 131_072, 60)), (2047, 131_072, 60));
    assert_eq!(agreed((5000, 0, Some(0)), (2047, 8192, 60)), (2047, 8192, 0));
    assert_eq!(agreed((7, 4096, Some(9)), (2047, 131_072, 60)), (7, 4096, 9));
    let (channels, octets, heartbeat) = agreed((0, 131_072, None), (0, 0, 0));
    assert!(channels > 0 && octets == 131_072 && heartbeat == 0);
}

/// F10, C14, D-3: the broker's limit counts the eight octets of envelope.
fn a_message_is_cut_into_frames_of_the_agreed_size_which_lie_together() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    scene.open_with(connection::Tune { heartbeat: 0, frame_max: 4096, channel_max: 9 }, &mut log).unwrap();
    let channels = [1, 2].map(|_| scene.connection.channel().send().unwrap());
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    for size in [4088, 4089, 10_000, 0] {
        channels.iter().for_each(|channel| channel.basic_publish("", "q", vec![7; size]).send().unwrap());
    }
    scene.run(&mut log).unwrap();
    let mut expected = vec![];
    for (size, cut) in [(4088, &[4088][..]), (4089, &[4088, 1]), (10_000, &[4088, 4088, 1824]), (0, &[])] {
        for number in [1, 2] {
            let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
            expected.push(Frame::Method(number, publish.into()));
            expected.push(Frame::Content(number, size));
            expected.extend(cut.iter().map(|octets| Frame::Body(number, vec![7; *octets])));
        }
    }
    assert!(scene.wire.heard() == expected);
    // A header of 25 octets and this text.
    let wide = |text: usize| {
        let properties = amqp_core::BasicProperties::new().header("k", "x".repeat(text));
        channels[0].basic_publish("", "q", "x").properties(&properties).send()
    };
    let refused = wide(4088 - 25 + 1);
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert!(channels[0].is_open() && scene.connection.outbound_len() == 0);
    wide(4088 - 25).unwrap();
}

/// Trial T23, F14, D4: with pika's code and text, and a second one is no second frame and no error.
fn a_close_is_answered_once_and_told_to_everybody() {
    let (mut scene, mut log, channel) = with_channel();
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(format!("declared {}", declared.is_ok())));
    for n in [1, 2] {
        scene.connection.close().then(move |log: &mut Log, _, closed| log.push(format!("{n} {closed:?}")));
    }
    scene.connection.close().send().unwrap();
    scene.run(&mut log).unwrap();
    let heard = scene.wire.heard_methods();
    let text = "Normal shutdown".into();
    let close = connection::Close { reply_code: 200, reply_text: text, ..Default::default() };
    assert_eq!(heard[1..], [(0, close.into())], "behind what was called before");
    scene.wire.say(0, connection::CloseOk {});
    assert_eq!(scene.turn(&mut log), Ok(true));
    let closed = "the connection was closed by this program: 200 Normal shutdown";
    let expected =
        ["declared false", &format!("channel closed: {closed}"), "1 Ok(())", "2 Ok(())", &format!("closed: {closed}")];
    assert_eq!(log, expected);
}

/// F17, C5: a program without callbacks for it would wait for ever, or end as if all were well.
fn an_end_that_nobody_is_told_comes_out_of_the_loop() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    scene.open(&mut log).unwrap();
    type Listener = fn(&Channel<Log>);
    let nobody: Listener = |channel| channel.queue_declare("q").send().unwrap();
    let who_asked: Listener = |channel| {
        channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    };
    let who_registered: Listener = |channel| {
        channel.add_on_close_callback(|log: &mut Log, _, error| log.push(error.to_string()));
    };
    let other = channel::Close { reply_code: 406, reply_text: "other".into(), ..Default::default() };
    for (listen, told) in [(nobody, false), (who_asked, true), (who_registered, true)] {
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        listen(&channel);
        scene.wire.say(1, other.clone());
        let raised = scene.run(&mut log).map_err(|error| error.to_string());
        let reason = "channel 1 was closed by the broker: 406 other".to_owned();
        let expected = if told { (Ok(()), vec![reason]) } else { (Err(reason), vec![]) };
        assert_eq!((raised, std::mem::take(&mut log)), expected);
    }
    // Closed by both: the broker did not like what was published before.
    for (close, told) in [(nobody, false), (who_registered, true)] {
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        close(&channel);
        drop(channel.close().send());
        drop(channel);
        scene.wire.say(1, other.clone());
        scene.wire.say(1, channel::CloseOk {});
        assert_eq!(scene.run(&mut log).is_ok(), told, "{log:?}");
        assert_eq!(std::mem::take(&mut log).len(), usize::from(told));
    }
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    channel.close().send().unwrap();
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    scene.wire.hang_up();
    let lost = scene.run(&mut log).unwrap_err();
    assert!(matches!(lost, Error::StreamLost { .. }), "{lost:?}");
    assert_eq!(scene.turn(&mut log), Ok(true), "told once");
}

/// F14: where the program gives a reason.
fn a_close_says_why_it_was_asked_for() {
    let (mut scene, mut log, _channel) = with_channel();
    scene.connection.close().reply_code(320).reply_text("enough").send().unwrap();
    scene.run(&mut log).unwrap();
    let close = connection::Close { reply_code: 320, reply_text: "enough".into(), ..Default::default() };
    assert_eq!(scene.wire.heard_methods(), [(0, close.into())]);
    scene.wire.say(0, connection::CloseOk {});
    scene.run(&mut log).unwrap();
    let closed = "the connection was closed by this program: 320 enough";
    assert_eq!(log, [format!("channel closed: {closed}"), format!("closed: {closed}")]);
}

/// C11, F14: a channel is closed with its connection from the call on, and not when that is answered.
fn nothing_is_sent_behind_the_close_of_a_connection() {
    let (mut scene, mut log, channel) = consuming();
    let dropped = scene.connection.channel().send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    scene.wire.heard();
    scene.connection.close().send().unwrap();
    drop(dropped);
    assert!(channel.is_closed() && !channel.is_open());
    let closed = "the connection was closed by this program: 200 Normal shutdown";
    assert_eq!(channel.close_reason().unwrap().to_string(), closed);
    let calls = [
        channel.basic_publish("", "q", "x").send(),
        channel.queue_declare("q").send(),
        channel.basic_consume("q").on_message(logging).send().map(drop),
        channel.basic_cancel("c").send(),
        scene.connection.channel().send().map(drop),
        scene.connection.update_secret("token", "expires").send(),
    ];
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.unwrap_err().to_string(), closed, "{n}");
    }
    channel.close().send().unwrap(); // it is closing
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    scene.run(&mut log).unwrap();
    assert_eq!(log, [closed]);
    let heard = scene.wire.heard();
    assert!(matches!(&heard[..], [Frame::Method(0, Method::Connection(connection::Method::Close(_)))]), "{heard:?}");
    // What becomes of the connection after all is told to the channel as well.
    let forced = connection::Close { reply_code: 320, reply_text: "FORCED".into(), ..Default::default() };
    scene.wire.say(0, forced);
    scene.run(&mut log).unwrap();
    assert!(log[1].starts_with("channel closed: ") && log[1].ends_with("320 FORCED"), "{log:?}");
    assert!(channel.close_reason().unwrap().to_string().ends_with("320 FORCED"));
}

/// F15: another thread may close while the broker's last answer is being read.
fn a_close_that_crosses_open_ok_is_told_to_the_open_callback() {
    let closer = Arc::new(Closer::default());
    let parameters = ConnectionParameters::builder().credentials(Arc::clone(&closer)).build().unwrap();
    let mut log = Log::new();
    let mut scene = Scene::new(parameters, |log: &mut Log, _, opened: Result<()>| {
        log.push(opened.map_or_else(|error| error.to_string(), |()| "open".into()));
    });
    closer.0.set(scene.connection.clone()).unwrap();
    scene.open(&mut log).unwrap();
    assert_eq!(log, ["the connection to localhost:5672 was closed by this program before it was open"]);
    assert!(scene.connection.is_closed());
}

/// Credentials that close the connection at the moment when it is open.
#[derive(Debug, Default)]
struct Closer(OnceLock<ConnectionHandle<Log>>);

impl Credentials for Closer {
    fn mechanism(&self) -> &str {
        "PLAIN"
    }

    fn user(&self) -> &str {
        "closer"
    }

    fn response(&self) -> Secret {
        Secret::default()
    }

    fn connected(&self) {
        self.0.get().unwrap().close().send().unwrap();
    }
}

/// F19: one that is added too late is not called.
fn callbacks_of_a_connection_stay_until_they_are_removed() {
    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, _| log.push("mine".into()));
    scene.connection.add_on_open_callback(|log: &mut Log, _| log.push("open".into()));
    let removed = scene.connection.add_on_open_callback(|log: &mut Log, _| log.push("removed".into()));
    assert!(scene.connection.remove_callback(removed) && !scene.connection.remove_callback(removed));
    scene.open(&mut log).unwrap();
    scene.connection.add_on_open_callback(|log: &mut Log, _| log.push("late".into()));
    scene.connection.add_on_close_callback(|log: &mut Log, _, _| log.push("closed".into()));
    let ioloop = scene.ioloop();
    ioloop.add_timeout(Duration::from_secs(2), |log: &mut Log| log.push("second".into()));
    ioloop.add_timeout(Duration::from_secs(1), |log: &mut Log| log.push("first".into()));
    let removed = ioloop.add_timeout(Duration::from_secs(1), |log: &mut Log| log.push("removed".into()));
    assert!(ioloop.remove_timeout(removed) && !ioloop.remove_timeout(removed));
    scene.run(&mut log).unwrap();
    scene.advance(Duration::from_secs(3), &mut log).unwrap();
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["mine", "open", "first", "second", "closed"]);
}

/// F6, F15, F19: and not to who asked for an open connection, or for the end of one.
fn an_opening_that_fails_is_told_to_who_asked_for_that() {
    type Failure = fn(&mut Scene<Log>);
    let failures: [(Failure, &str); 2] = [
        (|scene| scene.wire.hang_up(), "closed the connection before an AMQP greeting"),
        (|scene| scene.connection.close().send().unwrap(), "closed by this program before it was open"),
    ];
    for (fail, why) in failures {
        let mut log = Log::new();
        let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
            log.push(opened.unwrap_err().to_string());
        });
        scene.connection.add_on_open_callback(|log: &mut Log, _| log.push("open".into()));
        scene.connection.add_on_close_callback(|log: &mut Log, _, _| log.push("closed".into()));
        let ids = ["removed", "told"].map(|name| {
            let told = move |log: &mut Log, _: &_, error: &Error| log.push(format!("{name} {error}"));
            scene.connection.add_on_open_error_callback(told)
        });
        assert!(scene.connection.remove_callback(ids[0]));
        scene.run(&mut log).unwrap();
        fail(&mut scene);
        assert_eq!(scene.turn(&mut log), Ok(true));
        assert_eq!(log.len(), 2, "{log:?}");
        assert!(log[0].contains(why) && log[1] == format!("told {}", log[0]), "{log:?}");
    }
}

/// F20
fn a_broker_that_unblocks_in_time_keeps_its_connection() {
    let builder = ConnectionParameters::builder().blocked_connection_timeout(Some(Duration::from_secs(9)));
    let (mut scene, mut log) = scene(builder.heartbeat(Some(0)).build().unwrap());
    for _ in 0..3 {
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        scene.run(&mut log).unwrap();
        scene.advance(Duration::from_secs(8), &mut log).unwrap();
        scene.wire.say(0, connection::Unblocked {});
        scene.run(&mut log).unwrap();
    }
    scene.advance(Duration::from_secs(100), &mut log).unwrap();
    assert_eq!(log, [""; 0]);
    assert!(scene.connection.is_open());
}

/// H4: puka's did not survive one.
fn without_heartbeats_nothing_is_sent_and_one_that_comes_is_no_violation() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().heartbeat(Some(0)).build().unwrap());
    for _ in 0..3 {
        scene.wire.frame(8, 0, &[]);
        scene.advance(Duration::from_secs(86_400), &mut log).unwrap();
    }
    assert_eq!((scene.wire.heard(), scene.connection.is_open()), (vec![], true));
    assert_eq!(log, [""; 0]);
}

/// F21
fn a_secret_is_replaced_on_channel_0() {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    let update = scene.connection.update_secret("token", "expires");
    update.then(|log: &mut Log, _, updated| log.push(updated.is_ok().to_string()));
    scene.run(&mut log).unwrap();
    assert_eq!(log, [""; 0]);
    let octets = scene.wire.heard_octets();
    let arguments = b"\0\x0A\0\x46\0\0\0\x05token\x07expires\xCE";
    assert_eq!(&octets[..7], [1, 0, 0, 0, 0, 0, 21]);
    assert_eq!(&octets[7..], arguments);
    let another = scene.connection.update_secret("another", "expires");
    another.then(|log: &mut Log, _, updated| log.push(format!("another {}", updated.is_ok())));
    scene.wire.say(0, connection::UpdateSecretOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true"]);
    scene.wire.say(0, connection::UpdateSecretOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["true", "another true"]);
}

/// C1: gaps are filled.
fn a_channel_has_the_lowest_number_that_is_free() {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    let open = |scene: &Scene<Log>| scene.connection.channel().send().unwrap();
    let channels = [1, 2, 3].map(|_| open(&scene));
    assert_eq!(channels.each_ref().map(Channel::channel_number), [1, 2, 3]);
    let named = scene.connection.channel().channel_number(5).send().unwrap();
    assert_eq!(named.channel_number(), 5);
    channels[1].close().send().unwrap();
    scene.run(&mut log).unwrap();
    assert_eq!(open(&scene).channel_number(), 4, "2 is not free before close-ok");
    scene.wire.say(2, channel::OpenOk::default());
    scene.wire.say(2, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    let again = [1, 2].map(|_| open(&scene));
    assert_eq!(again.each_ref().map(Channel::channel_number), [2, 6]);
}

/// C5, C6, D3: and what is told is the broker's reason.
fn a_channel_that_the_broker_has_closed_frees_its_number_when_that_is_answered() {
    let (mut scene, mut log, old) = with_channel();
    old.basic_consume("q").consumer_tag("c").on_message(logging).send().unwrap();
    old.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    let text = "PRECONDITION_FAILED";
    scene.wire.say(1, channel::Close { reply_code: 406, reply_text: text.into(), class_id: 50, method_id: 10 });
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods(), [(1, channel::CloseOk {}.into())]);
    let reason = "channel 1 was closed by the broker: 406 PRECONDITION_FAILED";
    assert_eq!(log, [reason.into(), format!("channel closed: {reason}")]);
    let Some(Error::ChannelClosedByBroker { reason, .. }) = old.close_reason() else { panic!("{old:?}") };
    assert_eq!((reason.code, &*reason.text, reason.method), (406, text, (50, 10)));
    assert!(old.is_closed() && scene.connection.is_open());
    let new = scene.connection.channel().send().unwrap();
    assert_eq!(new.channel_number(), 1);
    new.basic_consume("q").consumer_tag("d").on_message(logging).send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    deliver(&scene, 1, "c", 1, b"of the old one", 99);
    deliver(&scene, 1, "d", 2, b"x", 9);
    scene.run(&mut log).unwrap();
    assert_eq!(log[2..], [format!("d 2 {:?}", b"x")]);
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), ..Default::default() });
    assert_eq!(scene.run(&mut log).unwrap_err(), new.close_reason().unwrap(), "nobody is told");
    assert!(log.len() == 3, "the old channel's callbacks went with it: {log:?}");
}

/// C2, C3
fn a_channel_is_usable_from_its_request_to_its_close() {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    scene.connection.channel().then(|log: &mut Log, channel: &Channel<Log>, opened| {
        log.push(format!("{opened:?} {}", channel.is_open()));
    });
    let channel = scene.connection.channel().send().unwrap();
    channel.basic_consume("q").consumer_tag("c").on_message(logging).send().unwrap();
    assert!(channel.is_open() && !channel.is_closed());
    assert_eq!(channel.consumer_tags(), ["c"]);
    channel.close().then(|log: &mut Log, _, closed| log.push(format!("closed {}", closed.is_ok())));
    assert!(!channel.is_open() && channel.is_closed());
    scene.run(&mut log).unwrap();
    scene.wire.say(1, channel::OpenOk::default());
    scene.wire.say(2, channel::OpenOk::default());
    scene.wire.say(2, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["Ok(()) true", "closed true"]);
    assert_eq!(channel.consumer_tags(), [""; 0]);
    let told = |log: &mut Log, channel: &Channel<Log>, opened: Result<()>| {
        log.push(format!("{} {}", opened.unwrap_err(), channel.is_open()));
    };
    scene.connection.channel().then(told);
    scene.connection.channel().channel_number(1).then(told);
    scene.run(&mut log).unwrap();
    assert_eq!(log[2..], ["channel number 1 is not free; nothing was sent false"]);
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert!(log[3].contains("lost") && log[3].ends_with("false"), "{log:?}");
}

/// C11
fn a_closed_channel_refuses_every_call_with_its_reason() {
    let (mut scene, mut log, channel) = consuming();
    let (told, hear) = std::sync::mpsc::channel();
    let stolen = channel.basic_consume("q").consumer_tag("d").on_message(move |_: &mut Log, _, delivery| {
        told.send(delivery.delivery_tag).unwrap();
    });
    stolen.send().unwrap();
    scene.run(&mut log).unwrap();
    deliver(&scene, 1, "d", 1, b"x", 9);
    scene.run(&mut log).unwrap();
    let tag = hear.recv().unwrap();
    channel.close().reply_code(320).reply_text("enough").send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    log.clear();
    for answered in [false, true] {
        if answered {
            scene.wire.say(1, channel::CloseOk {});
            scene.run(&mut log).unwrap();
            log.clear();
        }
        let calls = [
            channel.queue_declare("q").send(),
            channel.queue_bind("q", "e").send(),
            channel.queue_unbind("q", "e").send(),
            channel.queue_purge("q").send(),
            channel.queue_delete("q").send(),
            channel.exchange_declare("e").send(),
            channel.exchange_delete("e").send(),
            channel.exchange_bind("e", "f").send(),
            channel.exchange_unbind("e", "f").send(),
            channel.basic_qos(1).send(),
            channel.basic_consume("q").on_message(logging).send().map(drop),
            channel.basic_cancel("c").send(),
            channel.basic_get("q").send(),
            channel.basic_publish("", "q", "x").send(),
            channel.basic_ack(tag),
            channel.basic_ack_multiple(tag),
            channel.basic_nack(tag, true, true),
            channel.basic_reject(tag, true),
            channel.basic_recover().send(),
            channel.confirm_select().send(),
            channel.confirm_delivery(|_: &mut Log, _, _| ()).send(),
            channel.tx_select().send(),
            channel.tx_commit().send(),
            channel.tx_rollback().send(),
            channel.flow(true).send(),
        ];
        for (n, call) in calls.into_iter().enumerate() {
            let error = call.unwrap_err();
            assert_eq!(error.to_string(), "channel 1 was closed by this program: 320 enough", "{n}, {answered}");
        }
    }
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    assert_eq!(log, [""; 0], "by the loop, not by the call");
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["channel 1 was closed by this program: 320 enough"]);
    assert_eq!(scene.wire.heard(), []);
}

/// Trial T23: of a channel and of a connection, before and after the broker has agreed, and while the connection closes.
fn what_the_program_has_closed_can_be_closed_again() {
    let (mut scene, mut log, channel) = with_channel();
    let close = |n| {
        channel.close().send().unwrap();
        channel.close().then(move |log: &mut Log, _, closed| log.push(format!("channel {n} {}", closed.is_ok())));
    };
    close(1);
    close(2);
    scene.run(&mut log).unwrap();
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    close(3);
    scene.run(&mut log).unwrap();
    let calls =
        |log: &[String]| log.iter().filter(|line| line.starts_with("channel ") && line.ends_with("true")).count();
    assert_eq!(calls(&log), 3, "{log:?}");
    for n in [4, 5] {
        scene.connection.close().send().unwrap();
        close(n);
        scene.run(&mut log).unwrap();
        scene.wire.say(0, connection::CloseOk {});
        scene.run(&mut log).unwrap();
    }
    let methods = scene.wire.heard_methods();
    assert_eq!(methods.iter().filter(|(_, method)| method.name().ends_with(".close")).count(), 2, "{methods:?}");
}

/// Trial T23: what has ended otherwise is told.
fn what_the_broker_has_closed_cannot_be_closed() {
    let (mut scene, mut log, channel) = with_channel();
    let close = channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), ..Default::default() };
    scene.wire.say(1, close);
    scene.run(&mut log).unwrap();
    assert_eq!(channel.close().send(), Err(channel.close_reason().unwrap()));
    let close = connection::Close { reply_code: 320, reply_text: "FORCED".into(), ..Default::default() };
    scene.wire.say(0, close);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.connection.close().send(), Err(scene.connection.close_reason().unwrap()));
}

/// C4, D5: requests are not held back, and neither is the close behind them.
fn what_was_called_before_a_close_goes_out_before_it() {
    let (mut scene, mut log, channel) = consuming();
    for name in ["a", "b"] {
        channel.queue_declare(name).then(move |log: &mut Log, _, ok| log.push(format!("{name} {}", ok.is_ok())));
        channel.basic_publish("", name, "").send().unwrap();
    }
    channel.close().send().unwrap();
    scene.run(&mut log).unwrap();
    let names: Vec<_> = scene.wire.heard_methods().iter().map(|(_, method)| method.name()).collect();
    assert_eq!(names, ["queue.declare", "basic.publish", "queue.declare", "basic.publish", "channel.close"]);
    deliver(&scene, 1, "c", 1, b"nobody wants it", 99);
    for name in ["a", "b"] {
        scene.wire.say(1, queue::DeclareOk { queue: name.into(), ..Default::default() });
    }
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    let closed = "channel closed: channel 1 was closed by this program: 200 Normal shutdown";
    assert_eq!(log, ["a true", "b true", closed]);
}

/// C7
fn both_sides_may_close_a_channel_and_the_broker_s_reason_is_told() {
    let (mut scene, mut log, channel) = with_channel();
    channel.close().then(|log: &mut Log, _, closed| log.push(format!("{closed:?}")));
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.heard_methods(), [(1, channel::CloseOk {}.into())]);
    assert_eq!(log, [""; 0], "our own is not answered yet");
    assert_eq!(scene.connection.channel().send().unwrap().channel_number(), 2);
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(log[0], "channel closed: channel 1 was closed by the broker: 404 NOT_FOUND");
    assert_eq!((log.len(), &*log[1]), (2, "Ok(CloseOk)"));
}

/// C9, C13: and only if the arguments are those that were asked for.
fn a_hook_hears_its_methods_once_or_always() {
    let (mut scene, mut log, channel) = with_channel();
    let hook = |name: &'static str| {
        move |log: &mut Log, _: &Channel<Log>, method: &Method| log.push(format!("{name} {}", method.name()))
    };
    let declare_ok = queue::DeclareOk::ID;
    channel.add_callback(&[declare_ok, queue::PurgeOk::ID], Terms::one_shot(), hook("once"));
    channel.add_callback(&[declare_ok], Terms::persistent(), hook("always"));
    let b = Terms::persistent().arguments(Table::new().with("queue", "b"));
    channel.add_callback(&[declare_ok], b, hook("b"));
    for name in ["a", "b"] {
        channel.queue_declare(name).then(|log: &mut Log, _, _| log.push("reply".into()));
        scene.wire.say(1, queue::DeclareOk { queue: name.into(), ..Default::default() });
    }
    scene.run(&mut log).unwrap();
    let ok = |name: &str| format!("{name} queue.declare-ok");
    assert_eq!(log, [ok("once"), ok("always"), "reply".into(), ok("always"), ok("b"), "reply".into()]);
}

/// K4, K7, K8: its manager is the one that the loop asks.
fn the_callbacks_of_a_connection_are_within_reach() {
    let (mut scene, mut log, channel) = with_channel();
    let (connection, number) = (channel.connection(), channel.channel_number());
    let callbacks = connection.callbacks();
    let declared = Key::from(queue::DeclareOk::ID);
    let callback: Arc<EventCallback<Log>> = Arc::new(|log: &mut Log, source, event| {
        let (Source::Channel(channel), Event::Method(method)) = (source, event) else { return Ok(()) };
        log.push(format!("{} on {}", method.name(), channel.channel_number()));
        Ok(())
    });
    callbacks.add(number, declared, callback.clone(), Terms::one_shot());
    let kept = callbacks.add(number, declared, callback.clone(), Terms::persistent());
    assert_eq!(callbacks.pending(number, declared), Some(2));
    channel.queue_declare("q").then(|_: &mut Log, _, _| ());
    scene.wire.say(1, queue::DeclareOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["queue.declare-ok on 1"; 2]);
    assert_eq!(callbacks.pending(number, declared), Some(1));

    // What the program processes itself comes to the same callbacks.
    let (source, event) =
        (Source::Channel(channel.clone()), Event::Method(Box::new(queue::DeclareOk::default().into())));
    let waited = callbacks.process(number, declared, None, &event, |callback| {
        callback(&mut log, &source, &event).unwrap();
    });
    assert!(waited);
    assert_eq!(log.len(), 3);

    assert!(callbacks.remove(kept) && callbacks.pending(number, declared).is_none());
    // And what an `add_…` method has registered is there, until its channel is closed.
    channel.add_on_cancel_callback(|_: &mut Log, _, _| ());
    assert_eq!(callbacks.pending(number, Key::Cancel), Some(1));
    channel.close().then(|_: &mut Log, _, _| ());
    scene.wire.say(1, channel::CloseOk {});
    scene.run(&mut log).unwrap();
    assert_eq!(callbacks.pending(number, Key::Cancel), None);
}

/// S5
fn a_loop_that_was_stopped_before_its_start_ends_at_once_and_can_be_started() {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    scene.ioloop().stop();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert!(scene.connection.is_open());
    scene.connection.channel().then(|log: &mut Log, _, opened| log.push(opened.is_ok().to_string()));
    assert_eq!(scene.turn(&mut log), Ok(false));
    scene.open_channel(1, &mut log).unwrap();
    assert_eq!(log, ["true"]);
}

/// S1, S6: nothing waits for a socket that could not be written anyway.
fn room_is_asked_for_while_there_is_something_to_write() {
    let (mut scene, mut log, channel) = with_channel();
    assert!(!scene.wire.asks_for_room());
    scene.wire.room(Some(10));
    channel.queue_declare("q").send().unwrap();
    assert_eq!(scene.wire.heard_octets(), [0; 0], "a call writes nothing itself");
    scene.run(&mut log).unwrap();
    assert!(scene.wire.asks_for_room());
    scene.wire.room(None);
    scene.writable();
    scene.run(&mut log).unwrap();
    assert!(!scene.wire.asks_for_room());
    assert_eq!(scene.connection.outbound_len(), 0);
}

/// Trial T22: and one that is taken back does not, nor does a wait for confirms that is over.
fn a_timer_that_is_pending_keeps_a_loop_without_connections() {
    let (mut scene, mut log, channel) = with_channel();
    channel.confirm_select().then(|_: &mut Log, _, _| ());
    channel.basic_publish("", "q", "never confirmed").send().unwrap();
    channel.wait_for_confirms().within(Duration::from_secs(100)).then(|log: &mut Log, _, confirmed| {
        log.push(format!("confirmed: {}", confirmed.is_ok()));
    });
    scene.connection.add_on_close_callback(|_: &mut Log, connection, _| {
        connection.ioloop().add_timeout(Duration::from_secs(5), |log: &mut Log| log.push("reconnects".into()));
    });
    scene.run(&mut log).unwrap();
    scene.wire.hang_up();
    assert_eq!(scene.turn(&mut log), Ok(false), "its timer is pending");
    assert!(scene.connection.is_closed());
    log.clear();
    let forgotten = scene.ioloop().add_timeout(Duration::MAX, |_: &mut Log| ());
    scene.advance(Duration::from_secs(5), &mut log).unwrap();
    assert_eq!(log, ["reconnects"]);
    assert_eq!(scene.turn(&mut log), Ok(false), "a timer that is never due is pending, too");
    assert!(scene.ioloop().remove_timeout(forgotten));
    assert_eq!(scene.turn(&mut log), Ok(true), "what waited for confirms is over");
    scene.ioloop().add_timeout(Duration::MAX, |_: &mut Log| ());
    scene.ioloop().stop();
    assert_eq!(scene.turn(&mut log), Ok(true), "it is stopped");
}

/// S11: whatever it is added by.
fn a_timer_or_a_post_that_adds_another_has_it_in_the_next_turn() {
    let (mut scene, mut log) = scene(ConnectionParameters::default());
    let ioloop = scene.ioloop();
    let inner = ioloop.clone();
    ioloop.post(move |log: &mut Log| {
        log.push("post".into());
        inner.post(|log: &mut Log| log.push("its post".into()));
        inner.add_timeout(Duration::ZERO, |log: &mut Log| log.push("its timer".into()));
    });
    ioloop.post(|log: &mut Log| log.push("beside it".into()));
    let inner = ioloop.clone();
    ioloop.add_timeout(Duration::ZERO, move |log: &mut Log| {
        log.push("timer".into());
        inner.post(|log: &mut Log| log.push("the timer's post".into()));
        inner.add_timeout(Duration::ZERO, |log: &mut Log| log.push("the timer's timer".into()));
    });
    scene.run(&mut log).unwrap();
    assert_eq!(log[..3], ["post", "beside it", "timer"]);
    assert_eq!(log[3..], ["its post", "the timer's post", "its timer", "the timer's timer"]);
}

/// D11, D16: as pika's documentation writes them, and puka's.
#[test]
fn urls_of_pika_and_puka_mean_what_they_say() {
    let of = |url: &str| url.parse::<ConnectionParameters>().unwrap();
    let example = of("amqp://www-data:rabbit_pwd@rabbit1/web_messages");
    assert_eq!((example.host(), example.port(), example.virtual_host()), ("rabbit1", 5672, "web_messages"));
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    assert_eq!(of("amqps://h:1/v").port(), 1);
    let vhosts = ["amqp://h/d", "amqp://h", "amqp://h/", "amqp://h/%2F", "amqp://h/%2Fd"];
    assert_eq!(vhosts.map(|url| of(url).virtual_host().to_string()), ["d", "/", "/", "/", "/d"]);
}
