//! Several endpoints, several attempts, and what is told when none is left.
#![allow(clippy::unwrap_used)]

use amqp_core::{ConnectionParameters, Error, ParametersBuilder, spec::connection};
use pooka_testkit::scripted_peer::{Frame, Scene, start};
use std::{io, time::Duration};

type Log = Vec<String>;

/// A connection, told about in a log.
fn scene(builder: ParametersBuilder) -> (Scene<Log>, Log) {
    let scene = Scene::new(builder.build().unwrap(), |log: &mut Log, connection, opened| {
        log.push(match opened {
            Ok(()) => format!("open: {}", connection.endpoint()),
            Err(error) => error.to_string(),
        });
    });
    (scene, Log::new())
}

fn cluster() -> ParametersBuilder {
    ConnectionParameters::builder().endpoint("a", 1).endpoint("b", 2).endpoint("c", 3)
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// P1, P7, F13: the next endpoint is tried at once, whether the one before was refused, no broker, or gone in the handshake.
#[test]
fn the_next_endpoint_is_tried_when_one_fails() {
    let (mut scene, mut log) = scene(cluster());
    scene.wire.close_port(1);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["a:1", "b:2"]);
    scene.wire.say(0, start());
    scene.run(&mut log).unwrap();
    assert!(matches!(&scene.wire.heard()[..], [Frame::Header, Frame::Method(0, _)]));
    assert_eq!(format!("{:?}", scene.connection), "ConnectionHandle(b:2)");
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["c:3"]);
    assert_eq!(scene.wire.heard(), [Frame::Header], "it begins from the beginning");
    scene.open(&mut log).unwrap();
    assert_eq!(log, ["open: c:3"], "and nothing was told before");
    scene.wire.hang_up();
    assert!(matches!(scene.turn(&mut log), Err(Error::StreamLost { .. })));
    assert!(scene.turn(&mut log).unwrap());
    assert_eq!(scene.wire.tried(), [""; 0], "a connection that was open is over when it is lost");
}

/// P7, P8, P12: each endpoint has its `stack_timeout`, each round but the first its `retry_delay`.
#[test]
fn each_endpoint_has_its_own_time_and_rounds_have_a_pause() {
    let builder = ConnectionParameters::builder().endpoint("a", 1).endpoint("b", 2).connection_attempts(2);
    let (mut scene, mut log) = scene(builder.stack_timeout(5 * second()).retry_delay(7 * second()));
    scene.wire.close_port(2);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["a:1"]);
    scene.advance(4 * second(), &mut log).unwrap();
    scene.wire.say(0, start());
    scene.run(&mut log).unwrap();
    assert_eq!(scene.sleeps_for(&mut log), Some(second()), "of five");
    scene.advance(second(), &mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["b:2"]);
    assert_eq!(scene.sleeps_for(&mut log), Some(7 * second()), "the pause, and no deadline of another kind");
    scene.advance(7 * second(), &mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["a:1"]);
    scene.advance(5 * second(), &mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["b:2"]);
    assert!(scene.turn(&mut log).unwrap());
    assert_eq!(
        log,
        [
            "cannot connect to a:1, b:2 (1 address tried, 4 attempts): opening the connection to a:1 took longer than 5 s - \
          is this the AMQP port (5672, or 5671 with TLS)?; b:2 (127.0.0.1:2): connection refused; the AMQP greeting of \
          a:1 took longer than 5 s - is this the AMQP port (5672, or 5671 with TLS)?; b:2 (127.0.0.1:2): connection \
          refused - is RabbitMQ running there? Start one with rabbitmq-server, or docker run -p 5672:5672 rabbitmq"
        ]
    );
    let Some(Error::CannotConnect { endpoint, attempts }) = scene.connection.close_reason() else { panic!() };
    assert_eq!((&*endpoint, attempts.len()), ("a:1, b:2", 4));
    assert!(matches!(attempts[0].error.as_deref(), Some(Error::Timeout { .. })));
    assert_eq!((&*attempts[1].address, attempts[1].cause.kind), ("127.0.0.1:2", io::ErrorKind::ConnectionRefused));
}

/// A6, P7: what the broker refuses in so many words it would refuse again.
#[test]
fn a_refused_login_or_vhost_is_final() {
    for (code, tuned) in [(403, false), (530, true)] {
        let (mut scene, mut log) = scene(cluster().connection_attempts(3).virtual_host("v"));
        scene.run(&mut log).unwrap();
        scene.wire.say(0, start());
        if tuned {
            scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
        }
        let close = connection::Close { reply_code: code, reply_text: "NO".into(), class_id: 0, method_id: 0 };
        scene.wire.say(0, close);
        assert!(scene.turn(&mut log).unwrap());
        assert_eq!(scene.wire.tried(), ["a:1"]);
        assert_eq!(scene.wire.heard_methods().last().unwrap().1, connection::CloseOk {}.into());
        let who =
            if tuned { "access to vhost \"v\" at a:1" } else { "login refused for user \"guest\" with PLAIN at a:1" };
        assert!(log.len() == 1 && log[0].starts_with(who) && log[0].contains(&format!("({code} NO)")), "{log:?}");
    }
}

/// Trial T20: what may be over at the next try is tried again, and neither the name of the vhost nor the password is blamed for it.
#[test]
fn a_limit_that_is_reached_and_a_vhost_that_is_down_are_tried_again() {
    let reached = [
        (530, "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (0) is reached"),
        (530, "NOT_ALLOWED - connection refused for user 'guest': user connection limit (3) is reached"),
        (530, "NOT_ALLOWED - connection refused: node connection limit (10) is reached"),
        (541, "INTERNAL_ERROR - access to vhost '/' refused for user 'guest': vhost '/' is down"),
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
    ];
    for (code, text) in reached {
        for tuned in [true, false] {
            let (mut scene, mut log) = scene(ConnectionParameters::builder().endpoint("a", 1).connection_attempts(2));
            for attempt in 1..=2 {
                scene.run(&mut log).unwrap();
                scene.wire.say(0, start());
                if tuned {
                    scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
                }
                let reply_text = text.into();
                scene.wire.say(0, connection::Close { reply_code: code, reply_text, class_id: 0, method_id: 0 });
                assert_eq!(scene.turn(&mut log).unwrap(), attempt == 2, "{text}");
                scene.wire.heard();
                if attempt == 1 {
                    scene.advance(Duration::from_secs(2), &mut log).unwrap();
                }
            }
            assert!(log.len() == 1 && log[0].contains(text), "{log:?}");
            assert!(!log[0].contains("%2F") && !log[0].contains("password"), "{log:?}");
        }
    }
}

/// Trial T20: a limit says nothing of the vhost's name, and what it does not like about the limits is no vhost's either.
#[test]
fn the_vhost_is_blamed_for_what_is_the_vhosts() {
    let told = |code, text: &str| {
        let (mut scene, mut log) = scene(ConnectionParameters::builder().connection_attempts(3).virtual_host("v"));
        scene.run(&mut log).unwrap();
        scene.wire.say(0, start());
        scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
        scene.wire.say(0, connection::Close { reply_code: code, reply_text: text.into(), class_id: 0, method_id: 0 });
        assert!(scene.turn(&mut log).unwrap(), "{text} is final");
        let reason = scene.connection.close_reason().unwrap();
        (matches!(reason, Error::AccessRefused { .. }), reason.to_string().contains("%2F"))
    };
    assert_eq!(told(530, "NOT_ALLOWED - vhost v not found"), (true, true));
    assert_eq!(told(530, "NOT_ALLOWED - vhost limit-is-reached not found"), (true, true));
    assert_eq!(told(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'guest'"), (true, true));
    assert_eq!(told(530, "some other broker's words"), (true, false));
    let negotiated = "NOT_ALLOWED - failed to negotiate connection parameters: negotiated channel_max = 7 is higher";
    assert_eq!(told(530, negotiated), (false, false));
}

/// A5, A6: an end of the stream in the handshake is what brokers say to a bad login, or a bad vhost; with one endpoint and
/// one attempt it is told as that.
#[test]
fn a_broker_that_hangs_up_has_refused_the_login_or_the_vhost() {
    for (tuned, told) in [(false, "login refused"), (true, "access to vhost \"/\"")] {
        let (mut scene, mut log) = scene(ConnectionParameters::builder());
        scene.run(&mut log).unwrap();
        scene.wire.say(0, start());
        if tuned {
            scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
        }
        scene.wire.hang_up();
        assert!(scene.turn(&mut log).unwrap());
        assert!(log.len() == 1 && log[0].starts_with(told) && log[0].contains("hung up without a word"), "{log:?}");
    }
}

/// PR27: the last of several failures does not stand for all of them.
#[test]
fn a_login_that_fails_last_does_not_hide_what_failed_before() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().endpoint("a", 1).endpoint("b", 2));
    scene.wire.close_port(1);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.wire.tried(), ["a:1", "b:2"]);
    scene.wire.say(0, start());
    scene.wire.hang_up();
    assert!(scene.turn(&mut log).unwrap());
    let Some(Error::CannotConnect { endpoint, attempts }) = scene.connection.close_reason() else { panic!("{log:?}") };
    assert_eq!((&*endpoint, attempts.len()), ("a:1, b:2", 2));
    assert_eq!((&*attempts[0].address, attempts[0].cause.kind), ("127.0.0.1:1", io::ErrorKind::ConnectionRefused));
    assert!(matches!(attempts[1].error.as_deref(), Some(Error::AuthenticationRefused { .. })), "{attempts:?}");
}

/// P7, P8: who closes while nothing is tried is told at once.
#[test]
fn a_close_during_the_pause_ends_it() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().endpoint("a", 1).connection_attempts(2));
    scene.wire.close_port(1);
    scene.run(&mut log).unwrap();
    assert_eq!(scene.sleeps_for(&mut log), Some(2 * second()));
    scene.connection.close().send().unwrap();
    assert!(scene.turn(&mut log).unwrap());
    assert_eq!(log, ["the connection to a:1 was closed by this program before it was open"]);
}

/// P3, P4, P14: what one broker agrees to is nothing to the next, and is not written into the parameters.
#[test]
fn negotiation_changes_no_parameters() {
    let parameters = cluster().channel_max(100).frame_max(8192).heartbeat(Some(30)).build().unwrap();
    let (mut scene, mut log) = scene(parameters.clone().into_builder());
    scene.run(&mut log).unwrap();
    scene.wire.say(0, start());
    scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
    scene.run(&mut log).unwrap();
    scene.wire.hang_up();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    scene.wire.say(0, start());
    scene.wire.say(0, connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 });
    scene.run(&mut log).unwrap();
    let tune_ok = connection::TuneOk { channel_max: 100, frame_max: 8192, heartbeat: 30 };
    assert!(scene.wire.heard_methods().contains(&(0, tune_ok.into())));
    scene.wire.say(0, connection::OpenOk::default());
    scene.run(&mut log).unwrap();
    assert_eq!(log, ["open: b:2"]);
    let kept = scene.connection.parameters();
    assert_eq!((kept.channel_max(), kept.frame_max(), kept.heartbeat()), (100, 8192, Some(30)));
    assert_eq!(kept.endpoints(), parameters.endpoints());
}
