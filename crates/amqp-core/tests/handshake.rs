//! How the handshake with a peer may fail, against a scripted one.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stories;

use amqp_core::{ConnectionParameters, Result, spec::connection};
use pooka_testkit::scripted_peer::{Frame, Scene, start};
use std::time::Duration;
use stories::{Log, Script};

stories! {
    a_stranger_gets_128_kib_for_a_frame
    server_properties_that_cannot_be_decoded_end_the_connection
    nothing_is_presented_where_it_is_not_asked_for
    a_handshake_that_goes_on_slowly_is_over_at_its_deadline
    a_handshake_that_fails_says_what_happened_and_where
    a_close_before_the_connection_is_open_is_told_to_the_open_callback
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
