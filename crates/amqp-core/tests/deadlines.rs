//! Heartbeats and everything else that must not take too long, under a clock that jumps.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    Channel, ConnectionParameters, Error,
    error::Stage,
    spec::{Method, basic, connection, queue},
};
use pooka_testkit::scripted_peer::{Frame, Scene};
use std::time::Duration;
use stories::{Log, deliver, logging, scene, with_channel};

stories! {
    a_broker_that_blocks_for_too_long_is_given_up
    a_heartbeat_goes_out_after_half_an_interval_and_silence_of_two_is_death
    whatever_moves_is_as_good_as_a_heartbeat
    heartbeats_do_not_pile_up_where_nothing_can_be_written
    a_reply_that_does_not_come_is_a_timeout_and_a_late_one_is_swallowed
    who_waits_while_too_much_arrives_is_answered_and_the_channel_stays_in_step
    more_that_arrives_than_is_taken_ends_the_connection_with_a_word
    a_request_made_by_a_post_has_its_deadline_too
    a_request_that_cannot_be_written_has_its_deadline_too
    a_close_that_cannot_be_written_is_over_at_its_deadline
    a_close_that_is_not_answered_is_over_at_its_deadline
    what_may_take_for_ever_is_waited_for
}

/// Trial T10: so long that the time when it is over cannot be said.
fn what_may_take_for_ever_is_waited_for() {
    for most in [Duration::MAX, Duration::MAX / 2, Duration::from_secs(i64::MAX as u64)] {
        let builder = ConnectionParameters::builder().rpc_timeout(Some(most)).close_timeout(most).stack_timeout(most);
        let builder = builder.blocked_connection_timeout(Some(most)).socket_timeout(most).retry_delay(most);
        let (mut scene, mut log) = scene(builder.heartbeat(Some(0)).build().unwrap());
        let channel = scene.connection.channel().send().unwrap();
        scene.open_channel(1, &mut log).unwrap();
        scene.ioloop().add_timeout(most, |log: &mut Log| log.push("timer".into()));
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(format!("{}", declared.is_ok())));
        scene.run(&mut log).unwrap();
        scene.advance(Duration::from_secs(1 << 30), &mut log).unwrap();
        scene.wire.say(1, queue::DeclareOk { queue: "q".into(), ..Default::default() });
        scene.run(&mut log).unwrap();
        scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{}", closed.is_ok())));
        scene.run(&mut log).unwrap();
        scene.advance(Duration::from_secs(1 << 30), &mut log).unwrap();
        scene.wire.say(0, connection::CloseOk {});
        scene.run(&mut log).unwrap();
        assert_eq!(log.iter().filter(|line| *line == "true").count(), 2, "{log:?}");
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

/// A channel whose requests have 32 seconds; nothing else of its connection has a deadline.
fn requesting() -> (Scene<Log>, Log, Channel<Log>) {
    let builder = ConnectionParameters::builder().rpc_timeout(Some(Duration::from_secs(32))).heartbeat(Some(0));
    let (mut scene, mut log) = scene(builder.build().unwrap());
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    (scene, log, channel)
}

/// Faults 23: whoever waits is told, and the channel stays in step when the reply comes late.
fn a_reply_that_does_not_come_is_a_timeout_and_a_late_one_is_swallowed() {
    let (mut scene, mut log, channel) = requesting();
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

const FULL: Error = Error::InboundFull { held: 2, limit: 1 };

/// Trial T12: replies, outcomes and waits for confirms; each is told once, and reading for their sake is over.
fn who_waits_while_too_much_arrives_is_answered_and_the_channel_stays_in_step() {
    let (mut scene, mut log, channel) = requesting();
    channel.confirm_select().send().unwrap();
    channel.queue_declare("slow").then(|log: &mut Log, _, declared| {
        assert_eq!(declared, Err(FULL));
        log.push("declare".into());
    });
    channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| {
        assert_eq!(outcome, Err(FULL));
        log.push("publish".into());
    });
    channel.wait_for_confirms().then(|log: &mut Log, _, all| {
        assert_eq!(all, Err(FULL));
        log.push("confirms".into());
    });
    scene.run(&mut log).unwrap();
    assert_eq!(log, [] as [&str; 0]);
    let hold = scene.connection.hold();
    scene.connection.overwhelmed(FULL);
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["declare", "publish", "confirms"]);
    scene.wire.say(1, queue::DeclareOk { queue: "slow".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    drop(hold);
    channel.queue_declare("fast").then(|log: &mut Log, _, declared| log.push(declared.unwrap().queue.to_string()));
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.wire.say(1, queue::DeclareOk { queue: "fast".into(), ..Default::default() });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["declare", "publish", "confirms", "fast"]);
    assert_eq!(channel.unconfirmed(), 0);
    // Nobody waits: there is nothing to say.
    scene.connection.overwhelmed(FULL);
    scene.advance(Duration::from_secs(40), &mut log).unwrap();
    assert_eq!(log.len(), 4);
}

/// Trial T14
fn more_that_arrives_than_is_taken_ends_the_connection_with_a_word() {
    let (mut scene, mut log, channel) = requesting();
    channel.queue_declare("q").then(|log: &mut Log, _, declared| log.push(declared.unwrap_err().to_string()));
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    scene.connection.drowned(FULL);
    scene.connection.drowned(FULL);
    scene.run(&mut log).unwrap();
    assert_eq!(log, [FULL.to_string(), format!("closed: {FULL}")]);
    assert_eq!(scene.connection.close_reason(), Some(FULL));
    let heard = scene.wire.heard();
    let is_close = |frame: &Frame| matches!(frame, Frame::Method(0, method) if matches!(method, Method::Connection(connection::Method::Close(close)) if close.reply_code == 506));
    assert_eq!(heard.iter().filter(|frame| is_close(frame)).count(), 1, "{heard:?}");
}

/// Faults 23, PR12: a wait is bounded wherever it was begun.
fn a_request_made_by_a_post_has_its_deadline_too() {
    let (mut scene, mut log, channel) = requesting();
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
    let (mut scene, mut log, channel) = requesting();
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
