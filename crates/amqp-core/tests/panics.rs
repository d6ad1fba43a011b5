//! Panics that are not a callback's: of what else the program has given to a connection.
#![allow(clippy::unwrap_used)]

use amqp_core::{ConnectionParameters, Credentials, Error, ParametersBuilder, Secret, spec::connection};
use pooka_testkit::scripted_peer::{Scene, start};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Log = Vec<String>;

/// Panics in one of its methods.
#[derive(Debug)]
struct Careless(&'static str);

impl Credentials for Careless {
    fn mechanism(&self) -> &str {
        "PLAIN"
    }

    fn user(&self) -> &str {
        "guest"
    }

    fn response(&self) -> Secret {
        assert_ne!(self.0, "response");
        Secret::from("")
    }

    fn connected(&self) {
        assert_ne!(self.0, "connected");
    }
}

/// Opens a connection whose parameters panic; the panic comes out of the loop, once.
fn panics(builder: ParametersBuilder) {
    let parameters = builder.endpoint("a", 1).endpoint("b", 2).connection_attempts(3).build().unwrap();
    let mut scene = Scene::new(parameters, |log: &mut Log, _, opened| log.push(format!("{opened:?}")));
    let mut log = Log::new();
    scene.run(&mut log).unwrap();
    scene.wire.say(0, start());
    scene.wire.say(0, connection::Tune { channel_max: 7, frame_max: 4096, heartbeat: 10 });
    scene.wire.say(0, connection::OpenOk::default());
    let first = catch_unwind(AssertUnwindSafe(|| scene.run(&mut log)));
    assert!(first.is_err(), "the panic is the program's to see");
    assert_eq!(scene.turn(&mut log), Ok(true), "and the loop goes on, and is over");
    assert_eq!(scene.wire.tried(), ["a:1"], "it would panic again");
    assert_eq!(scene.connection.close_reason(), Some(Error::Panicked { channel: 0 }));
    assert_eq!(log, ["Err(the connection was closed because a callback panicked)"]);
}

/// Trial T27: it was "login refused", 15 s later.
#[test]
fn a_panic_in_the_choice_of_the_heartbeat_ends_the_connection() {
    panics(ConnectionParameters::builder().heartbeat_by(|_| panic!("no heartbeat")));
}

/// Trial T27: a token that cannot be fetched, for example.
#[test]
fn a_panic_in_credentials_ends_the_connection() {
    for place in ["response", "connected"] {
        panics(ConnectionParameters::builder().credentials(Careless(place)));
    }
}
