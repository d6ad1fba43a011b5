//! TLS against a scripted peer: the traps of both back ends, without a socket.
#![allow(clippy::unwrap_used)]
#![cfg(any(feature = "rustls", feature = "native-tls"))]

use amqp_core::{
    ConnectionParameters, Error, PublishOutcome, Result, TlsBackend, TlsOptions, TlsProblem,
    error::Stage,
    spec::{basic, connection},
};
use pooka_testkit::{
    Authority,
    rustls::{self, ServerConfig},
    scripted_peer::{Cut, Frame, Scene, Secrecy, cut_everything, secure_everything, start},
};
use proptest::prelude::*;
use std::{
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Each test is run with every back end that is built in.
macro_rules! both {
    ($($test:ident)*) => {
        #[cfg(feature = "rustls")]
        mod over_rustls {
            $( #[test] fn $test() { super::$test(amqp_core::TlsBackend::Rustls); } )*
        }
        #[cfg(feature = "native-tls")]
        mod over_native_tls {
            $( #[test] fn $test() { super::$test(amqp_core::TlsBackend::NativeTls); } )*
        }
    };
}

both! {
    a_connection_opens_however_its_octets_are_cut
    tls_1_2_is_spoken_too
    what_comes_with_the_handshake_is_read_in_the_same_turn
    what_is_held_back_counts_as_readable
    an_end_right_behind_the_last_frame_is_heard
    a_full_stream_leaves_what_is_held_back_until_there_is_room
    a_large_message_leaves_in_batches_and_in_order
    a_stream_that_is_cut_off_is_an_error
    a_stream_that_is_cut_off_behind_close_ok_is_closed
    a_closed_connection_has_said_goodbye
    the_broker_hears_which_certificate_is_refused
    a_certificate_is_for_a_name_and_a_time
    a_client_certificate_that_is_missing_is_told_behind_the_handshake
    a_client_certificate_is_presented
    a_peer_without_tls_is_told_as_such
    a_peer_that_stalls_in_the_handshake_is_over_at_its_deadline
    a_peer_that_hangs_up_in_the_handshake_is_told_as_such
    no_octets_panic
}

type Log = Vec<String>;

/// A connection that logs how it went.
fn scene(secrecy: Secrecy) -> (Scene<Log>, Log) {
    secure_everything(secrecy);
    let scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened| match opened {
        Ok(()) => log.push("open".into()),
        Err(error) => log.push(error.to_string()),
    });
    scene.connection.add_on_close_callback(|log: &mut Log, _, error| log.push(format!("closed: {error}")));
    (scene, Log::new())
}

fn open(backend: TlsBackend) -> (Scene<Log>, Log) {
    let (mut scene, mut log) = scene(Secrecy::new(backend).unwrap());
    scene.open(&mut log).unwrap();
    assert_eq!(log, ["open"]);
    log.clear();
    (scene, log)
}

/// The error of a connection that cannot be opened.
fn refusal(secrecy: Secrecy) -> (Scene<Log>, String) {
    let (mut scene, mut log) = scene(secrecy);
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log.len(), 1, "{log:?}");
    (scene, log.remove(0))
}

fn with(backend: TlsBackend, options: TlsOptions, server: Arc<ServerConfig>) -> Secrecy {
    Secrecy { options: options.backend(backend), server }
}

fn a_connection_opens_however_its_octets_are_cut(backend: TlsBackend) {
    for cut in [Cut::Whole, Cut::Halves, Cut::Octets(vec![1]), Cut::Octets(vec![7, 1, 300])] {
        cut_everything(cut.clone());
        let (mut scene, mut log) = open(backend);
        scene.connection.close().send().unwrap();
        scene.run(&mut log).unwrap();
        scene.wire.say(0, connection::CloseOk {});
        assert_eq!(scene.turn(&mut log), Ok(true), "{cut:?}");
        assert!(log[0].contains("200 Normal shutdown"), "{log:?}");
    }
}

fn tls_1_2_is_spoken_too(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let issued = authority.server(&["localhost"]).unwrap();
    let server = issued.server_config(None, &[&rustls::version::TLS12]).unwrap();
    let (mut scene, mut log) = scene(with(backend, TlsOptions::new().ca_pem(authority.certificate()), server));
    scene.open(&mut log).unwrap();
    assert_eq!(log, ["open"]);
}

/// The peer's last flight and its first frame come together, and nothing behind them.
fn what_comes_with_the_handshake_is_read_in_the_same_turn(backend: TlsBackend) {
    let mut secrecy = Secrecy::new(backend).unwrap();
    let mut server = ServerConfig::clone(&secrecy.server);
    server.send_half_rtt_data = true;
    secrecy.server = Arc::new(server);
    let (mut scene, mut log) = scene(secrecy);
    scene.wire.say(0, start());
    scene.run(&mut log).unwrap();
    let heard = scene.wire.heard();
    assert!(matches!(heard[..], [Frame::Header, Frame::Method(0, _)]), "{heard:?}");
}

/// A poller tells of octets in the socket, of which there are none any more; and there are more than one turn reads.
fn what_is_held_back_counts_as_readable(backend: TlsBackend) {
    const ALL: u64 = 40_000;
    let (mut scene, mut log) = open(backend);
    let channel = scene.connection.channel().send().unwrap();
    let on_message = |log: &mut Log, _: &_, _: amqp_core::Delivery<'_>| log.push(String::new());
    channel.basic_consume("q").consumer_tag("c").on_message(on_message).send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    for tag in 1..=ALL {
        deliver(&scene, tag);
    }
    scene.run(&mut log).unwrap();
    assert_eq!((scene.wire.unread(), log.len() as u64), (0, ALL));
}

/// The same for an end that is in the octets, with a socket that stays open: a goodbye, or something that is no TLS.
fn an_end_right_behind_the_last_frame_is_heard(backend: TlsBackend) {
    let ends: [fn(&Scene<Log>); 2] = [
        |scene| scene.wire.say_goodbye(),
        |scene| scene.wire.raw_octets(&[0x17, 3, 3, 0, 30, 0, 0, 0, 0, 0].repeat(4)),
    ];
    for (end, told) in ends.into_iter().zip(["was lost", "TLS with localhost:5672 failed"]) {
        let (mut scene, mut log) = open(backend);
        scene.connection.add_on_connection_blocked_callback(|log: &mut Log, _, _| log.push("blocked".into()));
        scene.wire.say(0, connection::Blocked { reason: "low on memory".into() });
        end(&scene);
        scene.run(&mut log).unwrap();
        assert!(log.len() == 2 && log[0] == "blocked" && log[1].contains(told), "{log:?}");
    }
}

fn deliver<S>(scene: &Scene<S>, delivery_tag: u64) {
    scene.wire.say(1, basic::Deliver { consumer_tag: "c".into(), delivery_tag, ..Default::default() });
    scene.wire.content(1, &Default::default(), &delivery_tag.to_be_bytes(), 100);
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn a_full_stream_leaves_what_is_held_back_until_there_is_room(backend: TlsBackend) {
    secure_everything(Secrecy::new(backend).unwrap());
    let mut scene = Scene::new(ConnectionParameters::default(), |_: &mut (), _, opened| opened.unwrap());
    scene.open(&mut ()).unwrap();
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut ()).unwrap();
    let mut consumer = pin!(channel.basic_consume("q").consumer_tag("c").no_ack(true).capacity(4).into_future());
    assert!(poll(consumer.as_mut()).is_pending());
    scene.run(&mut ()).unwrap();
    scene.wire.say(1, basic::ConsumeOk { consumer_tag: "c".into() });
    scene.run(&mut ()).unwrap();
    let Poll::Ready(Ok(mut consumer)) = poll(consumer.as_mut()) else { panic!("it should be there") };
    // Far more than the inbox takes in one read.
    const ALL: u64 = 5000;
    (1..=ALL).for_each(|tag| deliver(&scene, tag));
    let mut seen = 0;
    while seen < ALL {
        scene.run(&mut ()).unwrap();
        let before = seen;
        while let Poll::Ready(Some(message)) = poll(pin!(consumer.next())) {
            seen += 1;
            assert_eq!(message.unwrap().body[..], seen.to_be_bytes());
        }
        assert!(seen > before, "stuck behind {seen}, with {} unread", scene.wire.unread());
    }
}

/// The socket takes a little at a time. Were it all encrypted at once, each 16 KiB of it would have its own overhead.
fn a_large_message_leaves_in_batches_and_in_order(backend: TlsBackend) {
    const SIZE: usize = 8 << 20;
    let (mut scene, mut log) = open(backend);
    let channel = scene.connection.channel().send().unwrap();
    scene.open_channel(1, &mut log).unwrap();
    channel.confirm_delivery(|_, _, _| ()).send().unwrap();
    scene.run(&mut log).unwrap();
    scene.wire.heard();
    scene.wire.room(Some(0));
    let body: Vec<u8> = (0..SIZE).map(|n| (n * 31 % 251) as u8).collect();
    channel.basic_publish("", "q", body.clone()).then(|log: &mut Log, _, outcome| log.push(format!("{outcome:?}")));
    let plain = scene.connection.outbound_len();
    scene.run(&mut log).unwrap();
    let overhead = scene.connection.outbound_len() - plain;
    assert!(overhead > 0 && overhead < 1024, "{overhead}");
    assert!(scene.wire.asks_for_room());
    let mut octets = vec![];
    while scene.connection.outbound_len() > 0 {
        scene.wire.room(Some(100_001));
        scene.writable();
        scene.run(&mut log).unwrap();
        octets.extend(scene.wire.heard_octets());
    }
    let parts = Frame::all(&octets).into_iter().filter_map(|frame| match frame {
        Frame::Body(1, part) => Some(part),
        _ => None,
    });
    assert!(parts.flatten().eq(body));
    assert!(!scene.wire.asks_for_room());
    scene.wire.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    scene.run(&mut log).unwrap();
    assert_eq!(log, [format!("{:?}", Ok::<_, Error>(PublishOutcome::Acked))]);
}

/// Faults 18.
fn a_stream_that_is_cut_off_is_an_error(backend: TlsBackend) {
    for (cut_off, told) in [(true, "not even TLS's close_notify"), (false, "without a word")] {
        let (mut scene, mut log) = open(backend);
        if cut_off {
            scene.wire.cut_off();
        } else {
            scene.wire.hang_up();
        }
        assert_eq!(scene.turn(&mut log), Ok(true));
        assert!(log[0].starts_with("closed: the connection to localhost:5672 was lost: "), "{log:?}");
        assert!(log[0].ends_with(told), "{log:?}");
    }
}

/// Faults 18: lapin fails here.
fn a_stream_that_is_cut_off_behind_close_ok_is_closed(backend: TlsBackend) {
    let (mut scene, mut log) = open(backend);
    scene.connection.close().then(|log: &mut Log, _, closed| log.push(format!("{closed:?}")));
    scene.run(&mut log).unwrap();
    scene.wire.say(0, connection::CloseOk {});
    scene.wire.cut_off();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log[0], "Ok(())");
}

fn a_closed_connection_has_said_goodbye(backend: TlsBackend) {
    let (mut scene, mut log) = open(backend);
    scene.wire.say(0, connection::Close { reply_code: 320, ..Default::default() });
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(scene.wire.heard_methods().last().unwrap().1, connection::CloseOk {}.into());
    assert_eq!(scene.wire.complaint().as_deref(), Some("goodbye"));
}

/// The alert goes out although the handshake has failed.
fn the_broker_hears_which_certificate_is_refused(backend: TlsBackend) {
    let authority = Authority::named("rabbit").unwrap();
    let server = authority.server(&["localhost"]).unwrap().server_config(None, rustls::ALL_VERSIONS).unwrap();
    for stranger in ["hare", "rabbit"] {
        let options = TlsOptions::new().ca_pem(Authority::named(stranger).unwrap().certificate());
        let (scene, error) = refusal(with(backend, options, server.clone()));
        assert_eq!(error, format!("TLS with localhost:5672 failed: {}", TlsProblem::UnknownIssuer));
        let complaint = scene.wire.complaint();
        assert!(complaint.as_deref().is_some_and(|alert| alert.contains("received fatal alert")), "{complaint:?}");
    }
}

fn a_certificate_is_for_a_name_and_a_time(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let trusting = || TlsOptions::new().ca_pem(authority.certificate());
    let error = |options: TlsOptions, names: &[&str]| {
        let issued = authority.server(names).unwrap();
        refusal(with(backend, options, issued.server_config(None, rustls::ALL_VERSIONS).unwrap())).1
    };
    for names in [&["rabbit.example", "10.0.0.1"][..], &["10.0.0.2"]] {
        let wrong = error(trusting(), names);
        assert!(wrong.contains("is not for \"localhost\"") && wrong.contains("server_name"), "{wrong}");
        if backend == TlsBackend::Rustls {
            assert!(wrong.contains(&format!("but for {}", names.join(", "))), "{wrong}");
        }
    }
    let address = error(trusting().server_name("10.0.0.9"), &["10.0.0.1"]);
    assert!(address.contains("is not for \"10.0.0.9\""), "{address}");

    let issued = authority.expired_server(&["localhost"]).unwrap();
    let server = issued.server_config(None, rustls::ALL_VERSIONS).unwrap();
    let (_, expired) = refusal(with(backend, trusting(), server));
    assert_eq!(expired, format!("TLS with localhost:5672 failed: {}", TlsProblem::Expired));

    let issued = authority.server(&["rabbit.example"]).unwrap();
    let server = issued.server_config(None, rustls::ALL_VERSIONS).unwrap();
    let (mut scene, mut log) = scene(with(backend, trusting().server_name("rabbit.example"), server));
    scene.open(&mut log).unwrap();
    assert_eq!(log, ["open"]);
}

/// In TLS 1.3 our handshake is over before the peer looks at our certificate; its alert is told, and not that it hung up.
fn a_client_certificate_that_is_missing_is_told_behind_the_handshake(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let issued = authority.server(&["localhost"]).unwrap();
    for (version, alert) in [(&rustls::version::TLS13, "certificate required"), (&rustls::version::TLS12, "")] {
        let server = issued.server_config(Some(&authority), &[version]).unwrap();
        let options = TlsOptions::new().ca_pem(authority.certificate());
        let (mut scene, mut log) = scene(with(backend, options, server));
        scene.wire.cut(Cut::Octets(vec![1]));
        while scene.wire.complaint().is_none() {
            scene.run(&mut log).unwrap();
        }
        scene.wire.cut_off();
        scene.run(&mut log).unwrap();
        let told = format!("TLS with localhost:5672 failed: the peer refused with the alert \"{alert}");
        assert!(log[0].starts_with(&told) && log[0].contains("client_certificate_files"), "{log:?}");
    }
}

fn a_client_certificate_is_presented(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let server =
        authority.server(&["localhost"]).unwrap().server_config(Some(&authority), rustls::ALL_VERSIONS).unwrap();
    let trusted = authority.client("rabbit").unwrap();
    let options = || TlsOptions::new().ca_pem(authority.certificate());
    let identified = options().client_certificate_pem(trusted.certificate, trusted.key.as_str());
    let (mut good, mut log) = scene(with(backend, identified, server.clone()));
    good.open(&mut log).unwrap();
    assert_eq!(log, ["open"]);

    let stranger = Authority::new().unwrap().client("rabbit").unwrap();
    let unknown = options().client_certificate_pem(stranger.certificate, stranger.key.as_str());
    let (mut bad, mut log) = scene(with(backend, unknown, server));
    bad.run(&mut log).unwrap();
    assert!(log[0].contains("the peer refused with the alert") && log[0].contains("our certificate"), "{log:?}");
}

/// For a peer that is a wire and nothing behind it.
fn unanswered(backend: TlsBackend) -> ConnectionParameters {
    ConnectionParameters::builder().tls(TlsOptions::new().backend(backend)).port(5672).build().unwrap()
}

/// The error behind these words of such a peer, which then hangs up.
fn refusal_behind(words: &[u8], backend: TlsBackend) -> Error {
    let on_open = |log: &mut Vec<Error>, _: &_, opened: Result<()>| log.push(opened.unwrap_err());
    let mut scene = Scene::new(unanswered(backend), on_open);
    let mut log = vec![];
    scene.wire.raw_octets(words);
    scene.wire.cut_off();
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log.len(), 1, "{log:?}");
    log.remove(0)
}

fn a_peer_without_tls_is_told_as_such(backend: TlsBackend) {
    for words in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n", b"\0"] {
        let problem = TlsProblem::NotTls;
        assert_eq!(refusal_behind(words, backend), Error::Tls { endpoint: "localhost:5672".into(), problem });
    }
}

/// Faults 13: also if it says something again and again.
fn a_peer_that_stalls_in_the_handshake_is_over_at_its_deadline(backend: TlsBackend) {
    let mut scene = Scene::new(unanswered(backend), |log: &mut Vec<Error>, _, opened: Result<()>| {
        log.push(opened.unwrap_err());
    });
    let mut log = vec![];
    scene.run(&mut log).unwrap();
    // The beginning of a record that would be a ServerHello.
    scene.wire.raw_octets(&[0x16, 3, 3, 0x0F, 0xFF, 2, 0, 0x0F, 0xFB]);
    for _ in 0..14 {
        scene.advance(Duration::from_secs(1), &mut log).unwrap();
        scene.wire.raw_octets(&[0]);
    }
    assert_eq!(log, []);
    assert!(!scene.wire.asks_for_room(), "which there is all the time, and it would never sleep");
    scene.advance(Duration::from_secs(1), &mut log).unwrap();
    let what = "the TLS handshake with localhost:5672".into();
    assert_eq!(log, [Error::Timeout { stage: Stage::Tls, what, after: Duration::from_secs(15) }]);
    assert!(log[0].to_string().ends_with("took longer than 15 s - is this the TLS port (5671)?"), "{}", log[0]);
}

fn a_peer_that_hangs_up_in_the_handshake_is_told_as_such(backend: TlsBackend) {
    for words in [&b""[..], &[0x16, 3, 3, 0, 50]] {
        let problem = TlsProblem::HungUp;
        assert_eq!(refusal_behind(words, backend), Error::Tls { endpoint: "localhost:5672".into(), problem });
    }
}

/// PR16, with a peer that says anything instead of its handshake, or behind it.
fn no_octets_panic(backend: TlsBackend) {
    let secrecy = Secrecy::new(backend).unwrap();
    let record = (20..24_u8, prop::collection::vec(any::<u8>(), 0..90))
        .prop_map(|(kind, payload)| [&[kind, 3, 3, 0, payload.len() as u8][..], &payload].concat());
    let runner = &mut proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(100));
    let records = prop::collection::vec(record, 1..6);
    let outcome = runner.run(&(any::<bool>(), records, 1..40_usize), |(is_open, records, cut)| {
        let (mut scene, mut log) = scene(secrecy.clone());
        if is_open {
            scene.open(&mut log).unwrap();
        }
        scene.wire.cut(Cut::Octets(vec![cut]));
        scene.wire.raw_octets(&records.concat());
        scene.run(&mut log).unwrap();
        scene.wire.cut_off();
        prop_assert_eq!(scene.turn(&mut log), Ok(true));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn options_that_cannot_be_are_refused_when_parameters_are_built() {
    let refused = |options: TlsOptions| match ConnectionParameters::builder().tls(options).build() {
        Err(Error::BadParameter { name: "tls", problem }) => problem.to_string(),
        other => panic!("{other:?}"),
    };
    let backends =
        [(TlsBackend::Rustls, cfg!(feature = "rustls")), (TlsBackend::NativeTls, cfg!(feature = "native-tls"))];
    for (backend, is_built_in) in backends {
        let options = || TlsOptions::new().backend(backend);
        if !is_built_in {
            assert!(refused(options()).contains("lacks the cargo feature"));
            continue;
        }
        assert!(refused(options().ca_file("/no/such/ca.pem")).contains("/no/such/ca.pem"));
        assert!(refused(options().ca_pem("rabbit")).starts_with("CA certificate: "));
        let issued = Authority::new().unwrap().client("rabbit").unwrap();
        let (certificate, key) = (issued.certificate.as_str(), issued.key.as_str());
        assert!(refused(options().client_certificate_pem("rabbit", key)).starts_with("client certificate"));
        assert!(refused(options().client_certificate_pem(certificate, "hunter2")).starts_with("client "));
        let options = options().ca_pem("hunter2").client_certificate_pem("hunter2", "hunter2");
        assert!(!format!("{options:?} {}", refused(options.clone())).contains("hunter2"));
    }
}

/// What a program made itself is used, and everything else is left to it.
#[test]
fn a_configuration_of_the_programs_own_is_used() {
    let authority = Authority::new().unwrap();
    let issued = authority.server(&["localhost"]).unwrap();
    let server = issued.server_config(None, rustls::ALL_VERSIONS).unwrap();
    let mut all = vec![];
    #[cfg(feature = "rustls")]
    {
        use amqp_core::rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, pem::PemObject},
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        all.push(TlsOptions::new().rustls_config(config));
    }
    #[cfg(feature = "native-tls")]
    {
        use amqp_core::native_tls::{Certificate, TlsConnector};
        let root = Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
        let connector = TlsConnector::builder().disable_built_in_roots(true).add_root_certificate(root).build();
        all.push(TlsOptions::new().native_tls_connector(connector.unwrap()));
    }
    for options in all {
        let (mut scene, mut log) = scene(Secrecy { options, server: server.clone() });
        scene.open(&mut log).unwrap();
        assert_eq!(log, ["open"]);
    }
}

/// The platform's roots, which know nothing of a test's authority.
#[test]
fn without_a_ca_file_the_platform_is_trusted() {
    let backend = if cfg!(feature = "rustls") { TlsBackend::Rustls } else { TlsBackend::NativeTls };
    let mut secrecy = Secrecy::new(backend).unwrap();
    secrecy.options = TlsOptions::new();
    let (_, error) = refusal(secrecy);
    assert!(error.contains(&TlsProblem::UnknownIssuer.to_string()), "{error}");
}

/// The reverse: plain text to a TLS port, which answers with an alert.
#[test]
fn a_tls_port_is_told_as_such_to_who_speaks_plain_text() {
    let mut scene = Scene::new(ConnectionParameters::default(), |log: &mut Log, _, opened: Result<()>| {
        log.push(opened.unwrap_err().to_string());
    });
    let mut log = Log::new();
    scene.wire.octets(b"\x15\x03\x03\x00\x02\x02\x46");
    assert_eq!(scene.turn(&mut log), Ok(true));
    assert_eq!(log, ["localhost:5672 speaks TLS: connect with amqps:// instead of amqp://"]);
}
