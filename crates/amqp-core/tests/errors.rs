//! pika's exceptions, and what each of them is here.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{
    BasicProperties, ConnectionHandle, ConnectionParameters, Error, PlainCredentials, Result, ShortString, TlsProblem,
    error::{Invalid, Stage},
    spec::{basic, channel, connection},
    table::Value,
};
use pooka_testkit::scripted_peer::{Scene, start};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use stories::{Log, consuming, logging, scene, with_channel};

stories! {
    an_opening_that_fails_has_an_error_for_each_stage
    a_connection_that_ends_says_by_whose_doing
    a_channel_that_ends_says_by_whose_doing
    what_a_program_cannot_do_is_its_own_mistake
    a_broker_s_words_do_nothing_to_a_terminal_or_a_log
}

/// The error that the open callback was given.
fn opening(builder: amqp_core::ParametersBuilder, script: impl Fn(&mut Scene<Log>, &mut Log)) -> Error {
    let told = Arc::new(Mutex::new(None));
    let here = told.clone();
    let mut log = Log::new();
    let on_open = move |_: &mut Log, _: &ConnectionHandle<Log>, opened: Result<()>| {
        *here.lock().unwrap() = opened.err();
    };
    let mut scene = Scene::new(builder.build().unwrap(), on_open);
    scene.run(&mut log).unwrap();
    script(&mut scene, &mut log);
    scene.run(&mut log).unwrap();
    let error = told.lock().unwrap().take();
    error.unwrap()
}

fn tune() -> connection::Tune {
    connection::Tune { channel_max: 9, frame_max: 4096, heartbeat: 0 }
}

/// E1, E4: IncompatibleProtocolError, AuthenticationError and both probable ones, ConnectionOpenAborted, the timeout.
fn an_opening_that_fails_has_an_error_for_each_stage() {
    let builder = ConnectionParameters::builder;
    let incompatible = opening(builder(), |scene, _| scene.wire.octets(b"AMQP\0\0\x08\0"));
    assert!(matches!(incompatible, Error::IncompatibleProtocol { .. }), "{incompatible:?}");
    let mechanism = opening(builder(), |scene, _| {
        scene.wire.say(0, connection::Start { mechanisms: "X".into(), ..start() });
    });
    assert!(matches!(mechanism, Error::MechanismNotOffered { .. }), "{mechanism:?}");
    let login = opening(builder().credentials(PlainCredentials::new("me", "secret")), |scene, log| {
        scene.wire.say(0, start());
        scene.run(log).unwrap();
        scene.wire.hang_up();
    });
    assert!(matches!(&login, Error::AuthenticationRefused { user, .. } if &**user == "me"), "{login:?}");
    let vhost = opening(builder().virtual_host("v"), |scene, log| {
        scene.wire.say(0, start());
        scene.wire.say(0, tune());
        scene.run(log).unwrap();
        scene.wire.hang_up();
    });
    assert!(matches!(&vhost, Error::AccessRefused { vhost, .. } if &**vhost == "v"), "{vhost:?}");
    let aborted = opening(builder(), |scene, _| scene.connection.close().send().unwrap());
    assert!(matches!(aborted, Error::OpenAborted { .. }), "{aborted:?}");
    let late = opening(builder(), |scene, log| scene.advance(Duration::from_secs(15), log).unwrap());
    assert!(matches!(late, Error::Timeout { stage: Stage::Connect, .. }), "{late:?}");
}

/// E1, E4: ConnectionClosedByBroker and …ByClient, StreamLostError, AMQPHeartbeatTimeout, ConnectionBlockedTimeout, and what
/// pika 0.9 called UnexpectedFrameError, BodyTooLongError and InvalidFrameError.
fn a_connection_that_ends_says_by_whose_doing() {
    let ended = |end: fn(&mut Scene<Log>, &mut Log)| {
        let blocked = Some(Duration::from_secs(5));
        let builder = ConnectionParameters::builder().heartbeat(Some(60)).blocked_connection_timeout(blocked);
        let (mut scene, mut log) = scene(builder.build().unwrap());
        end(&mut scene, &mut log);
        scene.run(&mut log).unwrap();
        let reason = scene.connection.close_reason().unwrap();
        assert_eq!(log, [format!("closed: {reason}")]);
        assert_eq!(scene.connection.channel().send().unwrap_err(), reason, "and every later call");
        reason
    };
    let broker = ended(|scene, _| scene.wire.say(0, connection::Close { reply_code: 320, ..Default::default() }));
    assert!(matches!(&broker, Error::ConnectionClosedByBroker { reason, .. } if reason.code == 320), "{broker:?}");
    let client = ended(|scene, log| {
        scene.connection.close().reply_code(320).send().unwrap();
        scene.run(log).unwrap();
        scene.wire.say(0, connection::CloseOk {});
    });
    assert!(matches!(client, Error::ConnectionClosedByClient { code: 320, .. }), "{client:?}");
    let lost = ended(|scene, _| scene.wire.hang_up());
    assert!(matches!(lost, Error::StreamLost { .. }), "{lost:?}");
    let silent = ended(|scene, log| scene.advance(Duration::from_secs(121), log).unwrap());
    assert!(matches!(silent, Error::HeartbeatTimeout { .. }), "{silent:?}");
    let blocked = ended(|scene, log| {
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        scene.run(log).unwrap();
        scene.advance(Duration::from_secs(5), log).unwrap();
    });
    assert!(matches!(&blocked, Error::BlockedTimeout { reason, .. } if &**reason == "memory"), "{blocked:?}");
    for (octets, code) in [(&[1, 0, 0, 0, 0, 0, 0][..], Some(501)), (&[8, 0, 0, 0, 0, 0, 0, 0], None)] {
        let (mut scene, mut log) = scene(ConnectionParameters::default());
        scene.wire.octets(octets);
        scene.run(&mut log).unwrap();
        let reason = scene.connection.close_reason().unwrap();
        assert!(matches!(&reason, Error::Protocol { violation, .. } if violation.code == code), "{reason:?}");
    }
}

/// E1, E4: ChannelClosedByBroker and …ByClient, ConsumerCancelled of pika 0.9, and the broker's codes.
fn a_channel_that_ends_says_by_whose_doing() {
    let (mut scene, mut log, channel) = with_channel();
    channel.close().send().unwrap();
    let reason = channel.close_reason().unwrap();
    assert!(matches!(reason, Error::ChannelClosedByClient { channel: 1, code: 200, .. }), "{reason:?}");
    assert_eq!(reason.reply_code(), Some(200));
    let other = scene.connection.channel().send().unwrap();
    scene.open_channel(2, &mut log).unwrap();
    scene.wire.say(2, channel::Close { reply_code: 403, reply_text: "no".into(), class_id: 60, method_id: 20 });
    let raised = scene.run(&mut log).unwrap_err();
    let reason = other.close_reason().unwrap();
    assert_eq!(raised, reason, "nobody else was told");
    assert!(matches!(&reason, Error::ChannelClosedByBroker { channel: 2, .. }), "{reason:?}");
    assert_eq!(reason.reply_code(), Some(403));
}

/// E1, E4: ShortStringTooLong, DuplicateConsumerTag, NoFreeChannels, ConnectionWrongStateError, InvalidChannelNumber, and
/// what pika sends although RabbitMQ has it not.
fn what_a_program_cannot_do_is_its_own_mistake() {
    let (mut scene, mut log, channel) = consuming();
    let long = channel.queue_declare("x".repeat(256)).send();
    assert_eq!(long, Err(Error::Invalid(Invalid::NameTooLong(256))));
    let twice = channel.basic_consume("q").consumer_tag("c").on_message(logging).send();
    assert_eq!(twice, Err(Error::Invalid(Invalid::DuplicateConsumerTag("c".into()))));
    let number = scene.connection.channel().channel_number(1).send();
    assert_eq!(number.unwrap_err(), Error::Invalid(Invalid::ChannelNumber(1)));
    assert!(matches!(channel.flow(false).send(), Err(Error::Invalid(Invalid::NotImplemented(_)))));
    channel.basic_publish("", "q", "x").then(|log: &mut Log, _, outcome| {
        assert_eq!(outcome, Err(Error::Invalid(Invalid::NotInConfirmMode)));
        log.push("not in confirm mode".into());
    });
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["not in confirm mode"]);
    assert_eq!(scene.wire.heard(), []);
    assert!(channel.is_open());

    let mut log = Log::new();
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut Log, _, _| ());
    assert_eq!(scene.connection.channel().send().unwrap_err(), Error::NotOpen);
    scene.open_with(connection::Tune { channel_max: 1, ..tune() }, &mut log).unwrap();
    let only = scene.connection.channel().send().unwrap();
    let none = scene.connection.channel().send().unwrap_err();
    assert!(matches!(none, Error::NoFreeChannels { limit: 1, .. }), "{none:?}");
    drop(only);
}

/// Trial T31: what the broker says is shown escaped in every error and every text of its own, and kept as it came.
fn a_broker_s_words_do_nothing_to_a_terminal_or_a_log() {
    const EVIL: &str = "a\u{1b}[2J\r\nb\u{9b}\u{202e}\u{7f}\0ä🐇";
    const SHOWN: &str = "a\\u{1b}[2J\\r\\nb\\u{9b}\\u{202e}\\u{7f}\\u{0}ä🐇";
    let evil = || ShortString::from(EVIL);
    assert_eq!((evil().to_string(), &*evil().to_string_lossy(), evil().as_str()), (SHOWN.into(), EVIL, Some(EVIL)));
    let Value::LongString(long) = Value::from(EVIL) else { panic!() };
    assert_eq!(long.to_string(), SHOWN);
    let mechanism = opening(ConnectionParameters::builder(), |scene, _| {
        scene.wire.say(0, connection::Start { mechanisms: EVIL.into(), ..start() });
    });
    let login = opening(ConnectionParameters::builder(), |scene, _| {
        scene.wire.say(0, start());
        scene.wire.say(0, connection::Close { reply_code: 403, reply_text: evil(), ..Default::default() });
    });
    let vhost = opening(ConnectionParameters::builder(), |scene, _| {
        scene.wire.say(0, start());
        scene.wire.say(0, tune());
        scene.wire.say(0, connection::Close { reply_code: 530, reply_text: evil(), ..Default::default() });
    });
    let (mut scene, mut log, channel) = with_channel();
    channel.add_on_return_callback(|log: &mut Log, _, returned| {
        log.push(format!("{} {}", returned.reply_text, Error::Unroutable(returned.clone().into())));
    });
    scene.connection.add_on_connection_blocked_callback(|log: &mut Log, _, reason| log.push(reason.to_string()));
    scene.wire.say(1, basic::Return { reply_code: 312, reply_text: evil(), exchange: evil(), routing_key: evil() });
    scene.wire.content(1, &BasicProperties::new(), b"x", 9);
    scene.wire.say(0, connection::Blocked { reason: evil() });
    scene.wire.say(1, channel::Close { reply_code: 404, reply_text: evil(), ..Default::default() });
    scene.run(&mut log).unwrap();
    let closed = channel.close_reason().unwrap();
    let Error::ChannelClosedByBroker { reason, .. } = &closed else { panic!("{closed:#?}") };
    assert_eq!(&*reason.text, EVIL);
    scene.wire.say(0, connection::Close { reply_code: 320, reply_text: evil(), ..Default::default() });
    scene.run(&mut log).unwrap();
    let ended = scene.connection.close_reason().unwrap();
    let cancelled = Error::ConsumerCancelled { channel: 1, consumer_tag: EVIL.into() };
    let blocked = Error::BlockedTimeout { endpoint: "x".into(), reason: EVIL.into(), after: Duration::from_secs(1) };
    let tls = Error::Tls { endpoint: "x".into(), problem: TlsProblem::BadCertificate(EVIL.into()) };
    let errors = [mechanism, login, vhost, closed, ended, cancelled, blocked, tls];
    let told = errors.iter().flat_map(|error| [error.to_string(), format!("{error:?}"), format!("{error:#?}")]);
    assert!(log.len() == 4, "{log:?}");
    for text in told.chain(log) {
        assert!(text.contains(SHOWN) && !text.contains(|c: char| c.is_control()), "{text:?}");
    }
}
