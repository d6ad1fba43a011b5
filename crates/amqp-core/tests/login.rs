//! SASL: what is presented, what is answered to a challenge, and what is found before it is sent.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    AmqplainCredentials, ConnectionParameters, Credentials, Error, ExternalCredentials, ParametersBuilder,
    PlainCredentials, Secret, Table,
    credentials::{Exchange, Failure},
    spec::{Method, connection},
};
use pooka_testkit::scripted_peer::{Cut, Scene, cut_everything, start};

type Log = Vec<Error>;

fn scene(builder: ParametersBuilder) -> (Scene<Log>, Log) {
    let scene = Scene::new(builder.build().unwrap(), |log: &mut Log, _, opened| log.extend(opened.err()));
    let mut log = Log::new();
    let mut scene = scene;
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    (scene, log)
}

fn offering(mechanisms: &str) -> connection::Start {
    connection::Start { mechanisms: mechanisms.into(), ..start() }
}

fn presented(scene: &Scene<Log>) -> connection::StartOk {
    match scene.wire.heard_methods().pop() {
        Some((0, Method::Connection(connection::Method::StartOk(ok)))) => ok,
        other => panic!("{other:?}"),
    }
}

/// The password is in the answer to the second challenge.
#[derive(Debug)]
struct TwoRounds;

impl Credentials for TwoRounds {
    fn mechanism(&self) -> &str {
        "TWO"
    }

    fn user(&self) -> &str {
        "alice"
    }

    fn response(&self) -> Secret {
        "alice".into()
    }

    fn begin(&self) -> Result<Exchange, Failure> {
        let mut rounds = 0;
        Ok(Exchange::of(self.response()).on_challenge(move |challenge| {
            rounds += 1;
            match (rounds, challenge) {
                (1, b"nonce") => Ok("enonc".into()),
                (2, b"password?") => Ok("hunter2".into()),
                _ => Err("not the question that was expected".into()),
            }
        }))
    }
}

/// P2, A7: a mechanism of one's own, with rounds of connection.secure.
#[test]
fn a_mechanism_of_ones_own_answers_challenges() {
    for cut in [Cut::Whole, Cut::Halves, Cut::Octets(vec![1])] {
        cut_everything(cut);
        let (mut scene, mut log) = scene(ConnectionParameters::builder().credentials(TwoRounds));
        scene.wire.say(0, offering("PLAIN TWO"));
        scene.run(&mut log).unwrap();
        let ok = presented(&scene);
        assert_eq!((&*ok.mechanism.to_string(), ok.response), ("TWO", "alice".into()));
        for (challenge, response) in [("nonce", "enonc"), ("password?", "hunter2")] {
            scene.wire.say(0, connection::Secure { challenge: challenge.into() });
            scene.run(&mut log).unwrap();
            let response = connection::SecureOk { response: response.into() };
            assert_eq!(scene.wire.heard_methods(), [(0, response.into())]);
        }
        scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
        scene.wire.say(0, connection::OpenOk::default());
        scene.run(&mut log).unwrap();
        assert!(scene.connection.is_open() && log.is_empty(), "{log:?}");
    }
}

/// A7: a challenge without an answer ends the connection, whoever's fault that is.
#[test]
fn a_challenge_without_an_answer_ends_the_connection() {
    let plain = "the broker asks back, which this mechanism does not know";
    for (builder, mechanism, problem) in [
        (ConnectionParameters::builder().credentials(TwoRounds), "TWO", "not the question that was expected"),
        (ConnectionParameters::builder(), "PLAIN", plain),
    ] {
        let (mut scene, mut log) = scene(builder.endpoint("other", 1));
        scene.wire.say(0, offering("PLAIN TWO"));
        scene.wire.say(0, connection::Secure { challenge: "?".into() });
        assert!(scene.turn(&mut log).unwrap());
        let endpoint = "other:1".into();
        let (mechanism, problem) = (mechanism.into(), problem.into());
        assert_eq!(log, [Error::CredentialsFailed { endpoint, mechanism, problem }]);
        assert_eq!(scene.wire.tried().len(), 1, "no other endpoint is asked");
    }
}

/// A3, A7: the first credentials whose mechanism is offered are presented.
#[test]
fn credentials_stand_in_for_each_other() {
    let builder = || {
        ConnectionParameters::builder()
            .credentials(ExternalCredentials)
            .or_credentials(AmqplainCredentials::new("u", "p"))
            .or_credentials(PlainCredentials::new("u", "p"))
    };
    for (offered, mechanism, response) in [
        ("PLAIN EXTERNAL", "EXTERNAL", Secret::default()),
        ("PLAIN AMQPLAIN", "AMQPLAIN", AmqplainCredentials::new("u", "p").response()),
        ("PLAIN", "PLAIN", "\0u\0p".into()),
    ] {
        let (mut scene, mut log) = scene(builder());
        scene.wire.say(0, offering(offered));
        scene.run(&mut log).unwrap();
        let ok = presented(&scene);
        assert_eq!((&*ok.mechanism.to_string(), ok.response), (mechanism, response));
    }
}

/// A4: pika raised out of the frame handler and left the connection open.
#[test]
fn a_mechanism_that_is_not_offered_is_told_and_nothing_is_presented() {
    let builder = ConnectionParameters::builder().credentials(ExternalCredentials).or_credentials(TwoRounds);
    let (mut scene, mut log) = scene(builder);
    scene.wire.say(0, offering("PLAIN AMQPLAIN"));
    assert!(scene.turn(&mut log).unwrap(), "the connection is over");
    assert_eq!(scene.wire.heard(), []);
    let told = "localhost:5672 does not offer the SASL mechanism EXTERNAL or TWO, only: PLAIN AMQPLAIN";
    assert_eq!(log[0].to_string(), told);
}

/// A2: when the connection is open, and not before, because another endpoint may be next. pika logs in as `None` later.
#[test]
fn an_erased_password_is_not_presented_again() {
    let credentials = PlainCredentials::new("alice", "hunter2").erase_on_connect(true);
    let builder = ConnectionParameters::builder().credentials(credentials.clone());
    let (mut first, mut log) = scene(builder.clone());
    first.wire.say(0, start());
    first.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 0 });
    first.run(&mut log).unwrap();
    assert_eq!(presented_first(&first), Secret::from("\0alice\0hunter2"));
    assert!(!credentials.is_erased());
    first.wire.say(0, connection::OpenOk::default());
    first.run(&mut log).unwrap();
    assert!(first.connection.is_open() && credentials.is_erased());
    let (mut again, mut log) = scene(builder);
    again.wire.say(0, start());
    assert!(again.turn(&mut log).unwrap());
    assert_eq!(again.wire.heard(), [], "nothing is sent");
    assert!(matches!(&log[..], [Error::CredentialsFailed { problem, .. }] if problem.contains("erased")), "{log:?}");
}

fn presented_first(scene: &Scene<Log>) -> Secret {
    match scene.wire.heard_methods().into_iter().next() {
        Some((0, Method::Connection(connection::Method::StartOk(ok)))) => ok.response,
        other => panic!("{other:?}"),
    }
}

/// A5: a login over the limit before tune, the specification's or RabbitMQ 4.1's, is found before it is sent.
#[test]
fn a_login_that_is_too_large_is_found_before_it_is_sent() {
    let rabbit = Table::new().with("product", "RabbitMQ").with("version", "4.1.0");
    for (properties, limit) in [(Table::new(), 4096), (rabbit, 8192)] {
        let try_it = |token: usize| {
            let builder = ConnectionParameters::builder().credentials(PlainCredentials::new("u", vec![b'x'; token]));
            let (mut scene, mut log) = scene(builder);
            scene.wire.say(0, connection::Start { server_properties: properties.clone(), ..start() });
            scene.run(&mut log).unwrap();
            (scene.wire.heard_octets().len(), log)
        };
        let (empty, _) = try_it(0);
        let (sent, log) = try_it(limit - empty);
        assert_eq!((sent, log.len()), (limit, 0), "the largest that fits");
        let (sent, log) = try_it(limit - empty + 1);
        let (endpoint, mechanism) = ("localhost:5672".into(), "PLAIN".into());
        assert_eq!((sent, log), (0, vec![Error::LoginTooLarge { endpoint, mechanism, length: limit + 1, limit }]));
    }
}

/// P5: pika 1.x's callable.
#[test]
fn a_heartbeat_can_be_chosen_when_the_broker_has_proposed_one() {
    let (mut scene, mut log) = scene(ConnectionParameters::builder().heartbeat_by(|proposed| proposed / 2));
    scene.wire.say(0, start());
    scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 60 });
    scene.run(&mut log).unwrap();
    let tune_ok = connection::TuneOk { channel_max: 7, frame_max: 4096, heartbeat: 30 };
    assert!(scene.wire.heard_methods().contains(&(0, tune_ok.into())));
}

/// P10, P12: what is presented besides the login.
#[test]
fn locale_and_client_properties_are_presented() {
    let theirs = Table::new().with("pod", "a-1");
    let builder = ConnectionParameters::builder().locale("de_DE").client_properties(theirs).connection_name("w");
    let expected = builder.clone().build().unwrap().start_properties();
    let (mut scene, mut log) = scene(builder);
    scene.wire.say(0, start());
    scene.run(&mut log).unwrap();
    let ok = presented(&scene);
    assert_eq!(ok.locale, "de_DE");
    assert_eq!(ok.client_properties, expected);
    assert_eq!(ok.client_properties.get("pod"), Some(&"a-1".into()));
}
