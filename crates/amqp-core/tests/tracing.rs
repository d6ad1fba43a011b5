//! What is told to `tracing`: by the level, by the target, and never a secret.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    BasicProperties, Channel, ConnectionParameters, Credentials, Delivery, Error, Secret,
    hub::{Hub, Interest, Network, Token},
    spec::{basic, channel, connection},
};
use pooka_testkit::scripted_peer::{Cut, Scene, start};
use std::{
    fmt::{self, Write},
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::with_default,
};

/// What was told, each event as `LEVEL target: message field=value …`.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

thread_local! {
    /// The next event with this in it panics.
    static PANICS_AT: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

impl Ear {
    /// What is told while `story` is.
    fn hear(story: impl FnOnce()) -> Vec<String> {
        let ear = Self::default();
        with_default(ear.clone(), story);
        ear.0.lock().unwrap().clone()
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("amqp_core")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let mut line = Line(format!("{level} {}:", target.strip_prefix("amqp_core::").unwrap()));
        event.record(&mut line);
        if PANICS_AT.get().is_some_and(|text| line.0.contains(text)) {
            PANICS_AT.set(None);
            panic!("a subscriber panics");
        }
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}"),
            "endpoint" => Ok(()),
            name => write!(self.0, " {name}={value:?}"),
        }
        .unwrap();
    }
}

fn at(level: Level, lines: &[String]) -> Vec<&str> {
    let level = level.to_string();
    lines.iter().filter_map(|line| line.strip_prefix(&level)).map(str::trim).collect()
}

/// What came by, without what it says in detail.
fn frames(lines: &[String], way: &str) -> Vec<String> {
    let told = at(Level::TRACE, lines).into_iter().filter_map(|line| line.strip_prefix("frame: "));
    let came = told.filter_map(|line| line.strip_prefix(way)).map(str::trim);
    came.map(|line| line.split(": ").next().unwrap().to_owned()).collect()
}

fn deliver(scene: &Scene<()>, tag: u64, body: &[u8], chunk: usize) {
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: tag, ..Default::default() });
    scene.wire.content(1, &BasicProperties::new(), body, chunk);
}

fn opened(parameters: ConnectionParameters) -> (Scene<()>, Channel<()>) {
    let mut scene = Scene::new(parameters, |(), _, _| ());
    scene.connection.add_on_close_callback(|(), _, _| ());
    scene.open(&mut ()).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    channel.add_on_close_callback(|(), _, _| ());
    scene.open_channel(1, &mut ()).unwrap();
    (scene, channel)
}

fn acking((): &mut (), channel: &Channel<()>, delivery: Delivery<'_>) {
    channel.basic_ack(delivery.delivery_tag).unwrap();
}

/// A session as it should be: open, consume, publish, close.
fn session(cut: Cut) {
    let (mut scene, channel) = opened(ConnectionParameters::default());
    channel.basic_consume("q").consumer_tag("c").on_message(acking).send().unwrap();
    channel.basic_publish("", "q", vec![7; 200_000]).send().unwrap();
    scene.run(&mut ()).unwrap();
    scene.wire.cut(cut);
    deliver(&scene, 1, b"whole", 5);
    deliver(&scene, 2, &[8; 10_000], 4000);
    deliver(&scene, 3, b"", 1);
    scene.run(&mut ()).unwrap();
    scene.advance(Duration::from_secs(31), &mut ()).unwrap();
    scene.wire.frame(8, 0, b"");
    scene.connection.close().send().unwrap();
    scene.run(&mut ()).unwrap();
    scene.wire.say(0, connection::CloseOk {});
    scene.run(&mut ()).unwrap();
}

/// E5.
#[test]
fn a_session_in_which_nothing_goes_wrong_says_nothing_above_debug() {
    let told = Ear::hear(|| session(Cut::Whole));
    for level in [Level::ERROR, Level::WARN, Level::INFO] {
        assert_eq!(at(level, &told), [""; 0]);
    }
    let closed = "reason=the connection was closed by this program: 200 Normal shutdown";
    assert_eq!(
        at(Level::DEBUG, &told),
        [
            "dial: connecting",
            "dial: the name is resolved addresses=1",
            "dial: trying address=127.0.0.1:5672",
            "dial: connected address=127.0.0.1:5672",
            "handshake: the broker's greeting is answered product=\"\" version=\"\" mechanism=\"PLAIN\"",
            "handshake: limits are agreed channel_max=2047 frame_max=131072 heartbeat=60",
            "connection: open",
            "channel: open channel=1",
            "heartbeat: sent",
            &format!("connection: closed {closed}"),
            &format!("channel: closed channel=1 {closed}"),
        ]
    );
}

#[test]
fn every_frame_is_told_however_it_is_cut() {
    let told = Ear::hear(|| session(Cut::Whole));
    let content = |pieces: usize| {
        let head = ["basic.deliver", "a content header"].map(str::to_owned);
        head.into_iter().chain(vec!["a body frame".to_owned(); pieces])
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut received = names(&["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"]);
    received.extend(content(1).chain(content(3)).chain(content(0)));
    received.extend(names(&["a heartbeat", "connection.close-ok"]));
    let kinds = |lines: &[String], way| {
        let told = frames(lines, way);
        told.iter().map(|line| line.split(" endpoint").next().unwrap().to_owned()).map(bare).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&told, "received"), received);
    let sent = names(&[
        "the protocol header, 0-9-1",
        "connection.start-ok",
        "connection.tune-ok",
        "connection.open",
        "channel.open",
        "basic.consume",
        "basic.publish",
        "a content header",
        "a body frame",
        "a body frame",
        "basic.ack",
        "basic.ack",
        "basic.ack",
        "a heartbeat",
        "connection.close",
    ]);
    assert_eq!(kinds(&told, "sent"), sent);
    for cut in [Cut::Halves, Cut::Octets(vec![1]), Cut::Octets(vec![7, 1, 300])] {
        let told = Ear::hear(|| session(cut.clone()));
        assert_eq!((kinds(&told, "received"), kinds(&told, "sent")), (received.clone(), sent.clone()), "{cut:?}");
    }
}

/// Without its numbers.
fn bare(line: String) -> String {
    line.split(" channel=").next().unwrap().to_owned()
}

#[test]
fn who_begins_to_listen_in_the_middle_of_a_body_hears_the_next_frame() {
    for unheard in [1, 7, 500, 1007] {
        let (mut scene, channel) = opened(ConnectionParameters::default());
        channel.basic_consume("q").consumer_tag("c").on_message(acking).send().unwrap();
        scene.run(&mut ()).unwrap();
        scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() });
        scene.wire.frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 7, 208, 0, 0]);
        scene.wire.frame(3, 1, &[9; 1000]);
        let body = [&[3, 0, 1, 0, 0, 3, 232][..], &[9; 1000], &[0xCE]].concat();
        let (before, behind) = body.split_at(unheard);
        scene.wire.octets(before);
        scene.run(&mut ()).unwrap();
        let told = Ear::hear(|| {
            scene.wire.octets(behind);
            scene.wire.frame(8, 0, b"");
            scene.run(&mut ()).unwrap();
        });
        let heard = frames(&told, "received");
        assert_eq!(heard.last().unwrap(), "a heartbeat", "{unheard}: {told:?}");
        assert!(heard.len() <= 2, "{unheard}: {told:?}");
        assert_eq!(frames(&told, "sent").len(), 1, "{unheard}: the ack");
    }
}

#[test]
fn what_is_no_frame_is_left_to_the_connection_to_tell() {
    let told = Ear::hear(|| {
        let (mut scene, _channel) = opened(ConnectionParameters::default());
        scene.wire.octets(&[7, 0, 0, 0, 0, 0, 0, 0xCE]);
        scene.run(&mut ()).unwrap();
    });
    let [warning] = at(Level::WARN, &told)[..] else { panic!("{told:?}") };
    assert!(warning.starts_with("connection: closed") && warning.contains("a frame of unknown type"), "{warning}");
}

#[derive(Debug)]
struct Token13;

impl Credentials for Token13 {
    fn mechanism(&self) -> &str {
        "PLAIN"
    }
    fn user(&self) -> &str {
        "somebody"
    }
    fn response(&self) -> Secret {
        Secret::from(SECRETS[0])
    }
}

const SECRETS: [&str; 5] = ["s3cret-response", "s3cret-password", "s3cret-token", "s3cret-body", "s3cret-header"];

/// Not at any level, in no event of a session that succeeds or is refused.
#[test]
fn a_secret_is_never_told() {
    let url = format!("amqp://user:{}@localhost", SECRETS[1]);
    let told = Ear::hear(|| {
        for refused in [false, true] {
            let from_url: ConnectionParameters = url.parse().unwrap();
            let own = ConnectionParameters::builder().credentials(Token13).build().unwrap();
            for parameters in [from_url, own] {
                let mut scene = Scene::new(parameters, |(), _, _| ());
                scene.run(&mut ()).unwrap();
                scene.wire.say(0, start());
                scene.run(&mut ()).unwrap();
                if refused {
                    scene
                        .wire
                        .say(0, connection::Close { reply_code: 403, reply_text: "no".into(), ..Default::default() });
                    scene.run(&mut ()).unwrap();
                    continue;
                }
                scene.wire.say(0, connection::Tune { channel_max: 9, frame_max: 131_072, heartbeat: 60 });
                scene.run(&mut ()).unwrap();
                scene.wire.say(0, connection::OpenOk::default());
                scene.run(&mut ()).unwrap();
                scene.connection.update_secret(SECRETS[2], "it expires").send().unwrap();
                let channel = scene.connection.channel().send().unwrap();
                scene.open_channel(1, &mut ()).unwrap();
                let properties = BasicProperties::new().header("token", SECRETS[4]);
                channel.basic_publish("", "q", SECRETS[3]).properties(&properties).send().unwrap();
                scene.wire.say(0, connection::UpdateSecretOk {});
                scene.run(&mut ()).unwrap();
            }
        }
    });
    let all = told.join("\n");
    for shown in ["connection.start-ok", "[redacted]", "connection.update-secret:", "the new secret counts", "login"] {
        assert!(all.contains(shown), "{shown} was to be told: {all}");
    }
    for secret in SECRETS {
        let octets = secret.as_bytes();
        let list = format!("{octets:?}");
        let hex = octets.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"));
        for form in [secret, list.trim_matches(['[', ']']), &hex] {
            assert!(!all.contains(form), "{form} was told: {all}");
        }
    }
}

/// What goes wrong, and the one line at `warn` that tells of it.
#[test]
fn what_goes_wrong_is_warned_of_once() {
    let warned = |wanted: &[&str], story: &dyn Fn(&mut Scene<()>, &Channel<()>)| {
        let told = Ear::hear(|| {
            let (mut scene, channel) = opened(ConnectionParameters::default());
            story(&mut scene, &channel);
        });
        let warnings = at(Level::WARN, &told);
        assert_eq!(warnings.len(), wanted.len(), "{warnings:?}");
        for (warning, wanted) in warnings.iter().zip(wanted) {
            assert!(warning.starts_with(wanted), "{warning:?} should be {wanted:?}");
        }
        told
    };
    warned(&["channel: closed channel=1 reason=channel 1 was closed by the broker: 404 gone"], &|scene, _| {
        scene.wire.say(1, channel::Close { reply_code: 404, reply_text: "gone".into(), ..Default::default() });
        scene.run(&mut ()).unwrap();
    });
    warned(&["connection: closed reason=localhost:5672 closed the connection: 320 by an operator"], &|scene, _| {
        let reply_text = "by an operator".into();
        scene.wire.say(0, connection::Close { reply_code: 320, reply_text, ..Default::default() });
        scene.run(&mut ()).unwrap();
    });
    warned(&["connection: closed reason=the connection to localhost:5672 was lost"], &|scene, _| {
        scene.wire.hang_up();
        scene.run(&mut ()).unwrap();
    });
    let blocked = "connection: the broker has stopped reading what is published reason=memory";
    let told = warned(&[blocked], &|scene, _| {
        scene.wire.say(0, connection::Blocked { reason: "memory".into() });
        scene.wire.say(0, connection::Unblocked {});
        scene.run(&mut ()).unwrap();
    });
    assert_eq!(at(Level::INFO, &told), ["connection: the broker reads again"]);
    warned(&["consumer: cancelled by the broker channel=1 consumer_tag=c"], &|scene, channel| {
        channel.add_on_cancel_callback(|(): &mut (), _, _| ());
        channel.basic_consume("q").consumer_tag("c").on_message(acking).send().unwrap();
        scene.wire.say(1, basic::Cancel { consumer_tag: "c".into(), nowait: true });
        scene.run(&mut ()).unwrap();
    });
    // T29: a broker that delivers what nobody consumes is at fault, and is told so once for each tag.
    let strangers = ["x", "y"].map(|tag| {
        format!("consumer: a message for a consumer that there is not is given back channel=1 consumer_tag={tag}")
    });
    warned(&[&strangers[0], &strangers[1]], &|scene, channel| {
        channel.basic_consume("q").consumer_tag("c").on_message(acking).send().unwrap();
        for (delivery_tag, consumer_tag) in [(1, "x"), (2, "x"), (3, "c"), (4, "y"), (5, "x")] {
            scene.wire.say(1, basic::Deliver { consumer_tag: consumer_tag.into(), delivery_tag, ..Default::default() });
            scene.wire.content(1, &BasicProperties::new(), b"x", 9);
        }
        scene.run(&mut ()).unwrap();
        let given_back = scene.wire.heard_methods().into_iter().filter(|(_, method)| method.name() == "basic.reject");
        assert_eq!(given_back.count(), 4);
    });
    // What was on its way when the program cancelled is no trouble.
    warned(&[], &|scene, channel| {
        for nowait in [false, true] {
            let consumer = channel.basic_consume("q").consumer_tag("c").on_message(acking);
            consumer.send().unwrap();
            scene.run(&mut ()).unwrap();
            if nowait {
                channel.basic_cancel("c").send().unwrap();
            } else {
                channel.basic_cancel("c").then(|(), _, _| ());
            }
            deliver(scene, 1, b"x", 1);
            if !nowait {
                scene.wire.say(1, basic::CancelOk { consumer_tag: "c".into() });
            }
            scene.run(&mut ()).unwrap();
        }
    });
    warned(&["request: a request is not answered channel=1 error=queue.declare-ok from"], &|scene, channel| {
        channel.queue_declare("q").then(|(), _, declared| drop(declared));
        scene.run(&mut ()).unwrap();
        scene.advance(Duration::from_secs(29), &mut ()).unwrap();
        scene.wire.frame(8, 0, b"");
        scene.advance(Duration::from_secs(3), &mut ()).unwrap();
    });
    let silent = "connection: closed reason=nothing heard from localhost:5672";
    warned(&["heartbeat: missed", "heartbeat: missed", silent], &|scene, _| {
        for _ in 0..4 {
            scene.advance(Duration::from_secs(30), &mut ()).unwrap();
        }
    });
    warned(&["callback: a callback panicked", "channel: closed channel=1"], &|scene, channel| {
        let panics = |(): &mut (), _: &Channel<()>, _: Delivery<'_>| -> () { panic!("mine") };
        channel.basic_consume("q").consumer_tag("c").on_message(panics).send().unwrap();
        deliver(scene, 1, b"x", 1);
        assert!(catch_unwind(AssertUnwindSafe(|| scene.run(&mut ()))).is_err());
        scene.run(&mut ()).unwrap();
        scene.wire.say(1, channel::CloseOk {});
        scene.run(&mut ()).unwrap();
    });
}

/// They are the program's affair, and common; who looks for them finds them.
#[test]
fn failing_callbacks_and_back_pressure_are_told_at_debug() {
    let told = Ear::hear(|| {
        let (mut scene, channel) = opened(ConnectionParameters::default());
        scene.ioloop().post(|()| Err::<(), _>("a reason"));
        assert!(scene.run(&mut ()).is_err());
        scene.wire.room(Some(1000));
        channel.basic_publish("", "q", vec![0; 5 * 1024 * 1024]).send().unwrap();
        scene.run(&mut ()).unwrap();
        scene.wire.room(None);
        scene.writable();
        scene.run(&mut ()).unwrap();
    });
    let debug = at(Level::DEBUG, &told).join("\n");
    for line in [
        "callback: an error comes out of the loop error=a callback failed: a reason",
        "connection: back-pressure: more",
        "connection: back-pressure is",
    ] {
        assert!(debug.contains(line), "{line}: {debug}");
    }
    assert_eq!(at(Level::WARN, &told), [""; 0]);
}

/// Trial T33: what the first endpoint said behind its violation is no part of what the second one says.
#[test]
fn every_endpoint_is_told_from_its_first_frame_on() {
    let told = Ear::hear(|| {
        let builder = ConnectionParameters::builder().endpoint("a", 1).endpoint("b", 2);
        let mut scene = Scene::new(builder.build().unwrap(), |(), _, _| ());
        scene.run(&mut ()).unwrap();
        scene.wire.say(0, start());
        scene.wire.say(0, connection::OpenOk::default());
        scene.wire.frame(8, 0, b"");
        scene.wire.frame(8, 0, b"");
        scene.open(&mut ()).unwrap();
    });
    let a = ["connection.start", "connection.open-ok", "a heartbeat", "a heartbeat"];
    let b = ["connection.start", "connection.tune", "connection.open-ok"];
    assert_eq!(frames(&told, "received"), [&a[..], &b[..]].concat());
}

/// Trial T10: whatever panics inside the loop, everything outstanding is answered: while octets are read, and while those that a
/// post has sent are written at the end of its turn.
#[test]
fn a_subscriber_that_panics_leaves_nobody_waiting() {
    type Act = fn(&mut Scene<()>, &Channel);
    let moments: [(&str, Act); 2] = [
        ("received a heartbeat", |scene, _| scene.wire.frame(8, 0, b"")),
        ("sent queue.purge", |scene, channel| {
            let channel = channel.clone();
            scene.ioloop().post(move |()| channel.queue_purge("q").send());
        }),
    ];
    for (event, act) in moments {
        Ear::hear(|| {
            let (mut scene, channel) = opened(ConnectionParameters::default());
            let answer = Arc::new(Mutex::new(None));
            let told = answer.clone();
            channel.queue_declare("q").then(move |(), _, declared| *told.lock().unwrap() = Some(declared.err()));
            scene.run(&mut ()).unwrap();
            PANICS_AT.set(Some(event));
            act(&mut scene, &channel);
            assert!(catch_unwind(AssertUnwindSafe(|| scene.run(&mut ()))).is_err(), "{event}");
            assert_eq!(scene.turn(&mut ()), Ok(true), "the loop goes on, and is over");
            assert_eq!(*answer.lock().unwrap(), Some(Some(Error::Panicked { channel: 0 })), "{event}");
        });
    }
}

/// A network where nobody answers.
struct Desert;

impl Network for Desert {
    type Socket = io::Cursor<Vec<u8>>;

    fn resolve(&mut self, _: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        then(Ok(["127.0.0.1", "::1"].map(|ip| (ip.parse::<std::net::IpAddr>().unwrap(), port).into()).to_vec()));
    }

    fn connect(&mut self, _: SocketAddr, _: Token) -> io::Result<Self::Socket> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn connected(&mut self, _: &Self::Socket) -> io::Result<bool> {
        Ok(false)
    }

    fn watch(&mut self, _: &Self::Socket, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn forget(&mut self, _: Self::Socket, _: Token) {}
}

#[test]
fn addresses_that_fail_are_told_at_debug_and_the_round_is_warned_of() {
    let told = Ear::hear(|| {
        let mut hub = Hub::new(Desert);
        let builder = ConnectionParameters::builder().connection_attempts(2).retry_delay(Duration::ZERO);
        hub.handle().connect(builder.build().unwrap()).then(|(), _, _| ());
        #[expect(clippy::disallowed_methods, reason = "some instant to begin with")]
        let now = std::time::Instant::now();
        for _ in 0..9 {
            hub.turn(&|| now, &mut ()).unwrap();
        }
    });
    let failed = at(Level::DEBUG, &told).into_iter().filter(|line| line.contains("an address failed")).count();
    assert_eq!(failed, 4, "{told:?}");
    let [retry, over] = at(Level::WARN, &told)[..] else { panic!("{told:?}") };
    assert!(retry.starts_with("dial: all addresses failed, and will be tried again attempts_left=1"), "{retry}");
    assert!(over.starts_with("connection: closed reason=cannot connect to localhost:5672"), "{over}");
}

#[cfg(feature = "rustls")]
#[test]
fn tls_is_told_and_its_keys_are_not() {
    use pooka_testkit::scripted_peer::{Secrecy, secure_everything};
    secure_everything(Secrecy::new(amqp_core::TlsBackend::Rustls).unwrap());
    let told = Ear::hear(|| drop(opened(ConnectionParameters::default())));
    let up = told.iter().filter(|line| line.contains("TLS is up")).count();
    assert_eq!(up, 1, "{told:?}");
    assert!(!told.join("\n").contains("PRIVATE KEY"));
    assert!(frames(&told, "received").len() > 3, "plaintext is told: {told:?}");
}
