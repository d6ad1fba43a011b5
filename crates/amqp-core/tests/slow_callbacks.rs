//! Callbacks that take their time, under a clock that they move.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Delivery,
    spec::{Method, basic, connection},
};
use pooka_testkit::scripted_peer::{Clock, Frame, Scene, Wire};
use std::time::Duration;

/// What callbacks see of the outside.
struct Stage {
    clock: Clock,
    wire: Wire,
    /// How long each callback takes.
    takes: Duration,
    called: usize,
    /// What the broker has heard.
    heard: Vec<Frame>,
    /// When it heard something.
    times: Vec<Duration>,
    timer: Option<Duration>,
}

impl Stage {
    fn work(&mut self) {
        self.look();
        self.called += 1;
        self.clock.advance(self.takes);
    }

    fn look(&mut self) {
        let heard = self.wire.heard();
        if !heard.is_empty() {
            self.times.push(self.clock.elapsed());
        }
        self.heard.extend(heard);
    }

    fn acks(&self) -> usize {
        self.heard
            .iter()
            .filter(|frame| matches!(frame, Frame::Method(1, Method::Basic(basic::Method::Ack(_)))))
            .count()
    }
}

/// A connection with a heartbeat of 2 s and a consumer, to whom 100 messages are on their way.
fn scene(takes: Duration, no_ack: bool) -> (Scene<Stage>, Stage, Channel<Stage>) {
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Stage, _, opened| opened);
    let (clock, wire) = (scene.clock(), scene.wire.clone());
    let mut stage = Stage { clock, wire, takes, called: 0, heard: vec![], times: vec![], timer: None };
    scene.open_with(connection::Tune { channel_max: 7, frame_max: 131_072, heartbeat: 2 }, &mut stage).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut stage).unwrap();
    let consume = channel.basic_consume("q").consumer_tag("c");
    let consume = if no_ack { consume.no_ack(true) } else { consume };
    consume
        .on_message(move |stage: &mut Stage, channel: &Channel<Stage>, delivery: Delivery<'_>| {
            stage.work();
            if no_ack { Ok(()) } else { channel.basic_ack(delivery.delivery_tag) }
        })
        .send()
        .unwrap();
    for tag in 1..=100 {
        scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: tag, ..Default::default() });
        scene.wire.content(1, &BasicProperties::new(), b"job", 9);
    }
    stage.look();
    stage.heard.clear();
    stage.times.clear();
    (scene, stage, channel)
}

const SHORT: Duration = Duration::from_millis(100);

/// Trial T2: a broker with a heartbeat of 2 s would have given up after 4 s, and had none of the acks.
#[test]
fn what_slow_callbacks_say_goes_out_between_them() {
    let (mut scene, mut stage, _channel) = scene(SHORT, false);
    scene.run(&mut stage).unwrap();
    assert_eq!((stage.called, stage.clock.elapsed()), (100, SHORT * 100));
    assert!(stage.acks() >= 98, "{} of the first 99 acks were out before the last callback", stage.acks());
    for pair in stage.times.windows(2) {
        assert!(pair[1] - pair[0] <= SHORT * 2, "nothing was heard for {:?}", pair[1] - pair[0]);
    }
}

/// Trial T2: what is due is looked at between callbacks: heartbeats, and timers of the program's.
#[test]
fn what_is_due_is_done_between_slow_callbacks() {
    let (mut scene, mut stage, _channel) = scene(SHORT, true);
    scene.ioloop().add_timeout(Duration::from_secs(1), |stage: &mut Stage| stage.timer = Some(stage.clock.elapsed()));
    scene.run(&mut stage).unwrap();
    assert_eq!(stage.called, 100, "the broker's silence meanwhile is no silence");
    let beats = stage.heard.iter().filter(|frame| **frame == Frame::Heartbeat).count();
    assert!((8..=10).contains(&beats), "{beats} heartbeats in ten seconds");
    let timer = stage.timer.unwrap();
    assert!(timer <= Duration::from_millis(1200), "a timer of 1 s was called after {timer:?}");
}

/// Trial T2: posts are callbacks, too.
#[test]
fn slow_posts_starve_nobody() {
    let (mut scene, mut stage, _channel) = scene(Duration::ZERO, true);
    scene.run(&mut stage).unwrap();
    stage.takes = SHORT;
    for _ in 0..100 {
        scene.ioloop().post(|stage: &mut Stage| {
            stage.work();
            stage.wire.frame(8, 0, b"");
        });
    }
    scene.run(&mut stage).unwrap();
    assert_eq!(stage.called, 200);
    let beats = stage.heard.iter().filter(|frame| **frame == Frame::Heartbeat).count();
    assert!((8..=10).contains(&beats), "{beats} heartbeats in ten seconds");
}

/// Trial T2: a peer that says nothing more is given up all the same, when what it has said is handled.
#[test]
fn a_broker_that_falls_silent_behind_its_messages_is_given_up() {
    let (mut scene, mut stage, _channel) = scene(SHORT, true);
    scene.connection.add_on_close_callback(|stage: &mut Stage, _, _| stage.called = 0);
    scene.run(&mut stage).unwrap();
    assert_eq!(stage.called, 100);
    scene.advance(Duration::from_secs(4), &mut stage).unwrap();
    assert_eq!(stage.called, 0);
}
