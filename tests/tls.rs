//! TLS with a real RabbitMQ, and with what else may be at a port: what the user is told, and who is let in.
#![allow(clippy::unwrap_used)]

use pooka::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, Result, SelectConnection, TlsOptions,
    config::{ExternalCredentials, ParametersBuilder},
    tls::{TlsBackend, TlsProblem},
};
use pooka_testkit::{
    Authority, Issued, RabbitNode, Watchdog,
    rustls::{self, ServerConfig, ServerConnection, StreamOwned},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

/// Each test is run with both back ends.
macro_rules! both {
    ($($test:ident)*) => {
        mod over_rustls {
            $( #[test] fn $test() { super::$test(pooka::tls::TlsBackend::Rustls); } )*
        }
        mod over_native_tls {
            $( #[test] fn $test() { super::$test(pooka::tls::TlsBackend::NativeTls); } )*
        }
    };
}

both! {
    the_certificate_is_for_another_host
    the_authority_is_unknown
    the_certificate_has_expired
    the_port_is_plain_text
    the_peer_stalls_in_the_handshake
    a_client_certificate_is_wanted_and_not_there
    a_client_certificate_is_not_trusted
    who_has_a_certificate_logs_in_as_its_common_name
    a_url_says_it_all
}

/// One for all tests: none of them does it any harm.
fn node() -> &'static RabbitNode {
    static NODE: OnceLock<RabbitNode> = OnceLock::new();
    NODE.get_or_init(|| RabbitNode::start().unwrap())
}

fn trusting(backend: TlsBackend) -> TlsOptions {
    TlsOptions::new().backend(backend).ca_file(node().ca_file())
}

fn at_node(tls: TlsOptions) -> ParametersBuilder {
    ConnectionParameters::builder().host("127.0.0.1").port(node().tls_port()).tls(tls)
}

/// How opening a connection goes; it is closed again.
fn opened(parameters: ParametersBuilder) -> Result<()> {
    let on_open = |told: &mut Option<Result<()>>, connection: &ConnectionHandle<_>, opened: Result<()>| {
        let is_open = opened.is_ok();
        *told = Some(opened);
        if is_open { connection.close().send() } else { Ok(()) }
    };
    let mut connection = SelectConnection::open(parameters.build().unwrap(), on_open).unwrap();
    let ioloop = connection.ioloop().handle();
    let _watchdog = Watchdog::new(ioloop, Duration::from_secs(60), |_: &mut _| "it hangs".into());
    let mut told = None;
    connection.ioloop().start(&mut told).unwrap();
    told.unwrap()
}

fn problem(parameters: ParametersBuilder) -> TlsProblem {
    let endpoint = parameters.clone().build().unwrap().endpoint();
    match opened(parameters) {
        Err(error @ Error::Tls { .. }) => {
            let told = error.to_string();
            assert!(told.starts_with(&format!("TLS with {endpoint} failed: ")) && !told.contains('\n'), "{told}");
            let Error::Tls { problem, .. } = error else { unreachable!() };
            problem
        }
        other => panic!("{other:?}"),
    }
}

/// A server that shakes hands once.
fn serving(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        // It ends with the client, one way or the other.
        let _ = stream.read_to_end(&mut vec![]);
    });
    address
}

fn at(address: SocketAddr, tls: TlsOptions) -> ParametersBuilder {
    ConnectionParameters::builder().host(address.ip().to_string()).port(address.port()).tls(tls)
}

fn the_certificate_is_for_another_host(backend: TlsBackend) {
    let told = problem(at_node(trusting(backend).server_name("rabbit.example")));
    let TlsProblem::WrongName { expected, presented } = &told else { panic!("{told:?}") };
    assert_eq!(&**expected, "rabbit.example");
    let line = told.to_string();
    assert!(line.contains("is not for \"rabbit.example\"") && line.contains("server_name"), "{line}");
    if backend == TlsBackend::Rustls {
        assert!(presented.iter().any(|name| name == "localhost"), "{presented:?}");
    }
}

fn the_authority_is_unknown(backend: TlsBackend) {
    let stranger = TlsOptions::new().backend(backend).ca_pem(Authority::new().unwrap().certificate());
    for options in [stranger, TlsOptions::new().backend(backend)] {
        let told = problem(at_node(options));
        assert_eq!(told, TlsProblem::UnknownIssuer);
        assert!(told.to_string().contains("ca_file"), "{told}");
    }
}

fn the_certificate_has_expired(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let issued = authority.expired_server(&["127.0.0.1"]).unwrap();
    let address = serving(issued.server_config(None, rustls::ALL_VERSIONS).unwrap());
    let options = TlsOptions::new().backend(backend).ca_pem(authority.certificate());
    assert_eq!(problem(at(address, options)), TlsProblem::Expired);
}

fn the_port_is_plain_text(backend: TlsBackend) {
    let told = problem(at_node(trusting(backend)).port(node().port()));
    assert_eq!(told, TlsProblem::NotTls);
    assert_eq!(told.to_string(), "the peer is not speaking TLS - port 5672 is usually plain text, amqps is 5671");
}

/// Faults 13.
fn the_peer_stalls_in_the_handshake(backend: TlsBackend) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(&[0x16, 3, 3, 0x0F, 0xFF, 2, 0, 0x0F, 0xFB]).unwrap();
        // A little all the time renews nothing.
        while socket.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let options = TlsOptions::new().backend(backend);
    let error = opened(at(address, options).stack_timeout(Duration::from_millis(300))).unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(10));
    assert_eq!(
        error.to_string(),
        format!("the TLS handshake with {address} took longer than 0.3 s - is this the TLS port (5671)?")
    );
    peer.join().unwrap();
}

fn a_client_certificate_is_wanted_and_not_there(backend: TlsBackend) {
    let authority = Authority::new().unwrap();
    let issued = authority.server(&["127.0.0.1"]).unwrap();
    let address = serving(issued.server_config(Some(&authority), rustls::ALL_VERSIONS).unwrap());
    let options = TlsOptions::new().backend(backend).ca_pem(authority.certificate());
    let told = problem(at(address, options));
    assert_eq!(told, TlsProblem::Alert("certificate required".into()));
    assert!(told.to_string().contains("client_certificate_files"), "{told}");
}

/// The broker's alert comes when the handshake is over on our side, and its hanging up right behind.
fn a_client_certificate_is_not_trusted(backend: TlsBackend) {
    let Issued { certificate, key } = Authority::new().unwrap().client("guest").unwrap();
    let told = problem(at_node(trusting(backend).client_certificate_pem(certificate, key.as_str())));
    assert_eq!(told, TlsProblem::Alert("unknown ca".into()));
    assert!(told.to_string().contains("does not trust our certificate"), "{told}");
}

/// EXTERNAL: the broker knows `guest`, and nobody called `nobody`.
fn who_has_a_certificate_logs_in_as_its_common_name(backend: TlsBackend) {
    let log_in = |common_name| {
        let Issued { certificate, key } = node().authority().client(common_name).unwrap();
        let options = trusting(backend).client_certificate_pem(certificate, key.as_str());
        opened(at_node(options).credentials(ExternalCredentials))
    };
    assert_eq!(log_in("guest"), Ok(()));
    let refused = log_in("nobody").unwrap_err();
    assert_eq!(refused.reply_code(), Some(403));
    assert!(refused.to_string().contains("EXTERNAL"), "{refused}");
    let without = opened(at_node(trusting(backend)).credentials(ExternalCredentials)).unwrap_err();
    assert!(matches!(without, Error::AuthenticationRefused { .. } | Error::MechanismNotOffered { .. }), "{without}");
}

/// RabbitMQ's options, for everything.
fn a_url_says_it_all(backend: TlsBackend) {
    let Issued { certificate, key } = node().authority().client("guest").unwrap();
    let path = |file: &str| node().folder().join(format!("{backend:?}.{file}"));
    fs::write(path("pem"), certificate).unwrap();
    fs::write(path("key"), key).unwrap();
    let url = format!(
        "amqps://127.0.0.1:{}?auth_mechanism=external&verify=verify_peer&server_name_indication=localhost\
         &cacertfile={}&certfile={}&keyfile={}",
        node().tls_port(),
        node().ca_file().display(),
        path("pem").display(),
        path("key").display(),
    );
    let parameters: ConnectionParameters = url.parse().unwrap();
    let options = parameters.tls().unwrap().clone().backend(backend);
    assert_eq!(opened(parameters.into_builder().tls(options)), Ok(()));
}

/// The reverse.
#[test]
fn the_port_is_tls_and_the_client_speaks_plain_text() {
    let parameters = ConnectionParameters::builder().host("127.0.0.1").port(node().tls_port());
    let error = opened(parameters).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("127.0.0.1:{} speaks TLS: connect with amqps:// instead of amqp://", node().tls_port())
    );
}
