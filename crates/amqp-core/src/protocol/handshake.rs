//! From the protocol header to connection.open-ok [§2.2.4]: what each step answers, and what it may be answered with.

use crate::{
    config::{
        credentials::{Credentials, Exchange, Failure, offers},
        parameters::ConnectionParameters,
    },
    protocol::limits::{Limits, PROVISIONAL_FRAME_MAX},
    wire::{
        fault::Violation,
        spec::{FRAME_MIN_SIZE, Method, connection},
        table::{Table, Value},
    },
};
use std::sync::Arc;

/// What the client waits for, with what it still needs for the steps after that.
#[derive(Debug, Default)]
pub(crate) enum Handshake {
    /// connection.start: the protocol header has been sent.
    #[default]
    Start,
    /// connection.tune, or a challenge: the credentials have been presented.
    Tune(Login),
    /// connection.open-ok: limits are agreed, a virtual host has been asked for. The password is gone.
    Open(Accepted),
}

/// Which of the credentials are presented, and what more they have to say.
#[derive(Debug)]
pub(crate) struct Login {
    accepted: Accepted,
    exchange: Exchange,
    /// Octets in a frame that the broker takes before limits are agreed.
    pub(crate) frame_max: usize,
}

/// What is kept of the handshake until the connection is open.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) credentials: Arc<dyn Credentials>,
    /// Told when the connection is open: until then it may be with another broker.
    pub(crate) server_properties: Table,
}

/// What a step of the handshake leads to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The broker's greeting is answered with a login, which is secret.
    Greeted(Login, Method),
    /// A challenge is answered, which is secret, too.
    Challenged(Login, Method),
    /// Limits are agreed, and a virtual host is asked for.
    Tuned(Accepted, Limits, [Method; 2]),
    /// The connection is usable.
    Opened(Accepted),
}

/// Why the handshake cannot go on.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    Violation(Violation),
    /// connection.start announced this version.
    Version(u8, u8),
    /// The broker offers these mechanisms only.
    Mechanisms(String),
    /// The credentials with this mechanism had nothing to say.
    Credentials(String, String),
}

/// RabbitMQ takes more than [`FRAME_MIN_SIZE`] since 4.1, for the sake of long tokens.
const FRAME_MAX_OF_RABBITMQ_4_1: usize = 8192;

impl Handshake {
    /// The next step, which consumes this one.
    pub(crate) fn on_method(
        self,
        method: connection::Method,
        parameters: &ConnectionParameters,
    ) -> Result<Progress, Refusal> {
        match (self, method) {
            (Self::Start, connection::Method::Start(start)) => {
                let mut login = chosen(start, parameters)?;
                let reply = start_ok(&mut login, parameters).into();
                Ok(Progress::Greeted(login, reply))
            }
            (Self::Tune(mut login), connection::Method::Secure(secure)) => {
                let answer = login.exchange.challenged(secure.challenge.as_bytes());
                let response = answer.map_err(|failure| failed(&*login.accepted.credentials, &failure))?;
                Ok(Progress::Challenged(login, connection::SecureOk { response }.into()))
            }
            (Self::Tune(login), connection::Method::Tune(tune)) => {
                let limits = tuned(&tune, parameters)?;
                let tune_ok = connection::TuneOk {
                    channel_max: limits.channel_max,
                    frame_max: limits.frame_max as u32,
                    heartbeat: limits.heartbeat,
                };
                let open = connection::Open { virtual_host: parameters.virtual_host().into(), ..Default::default() };
                Ok(Progress::Tuned(login.accepted, limits, [tune_ok.into(), open.into()]))
            }
            (Self::Open(accepted), connection::Method::OpenOk(_)) => Ok(Progress::Opened(accepted)),
            _ => Err(Refusal::Violation(Violation::command("a method out of turn in the handshake"))),
        }
    }
}

impl Login {
    pub(crate) fn credentials(&self) -> &dyn Credentials {
        &*self.accepted.credentials
    }

    pub(crate) fn server_properties(&self) -> &Table {
        &self.accepted.server_properties
    }
}

/// Credentials are presented only to a broker that speaks our protocol and asks for them: the first ones whose mechanism
/// it offers.
fn chosen(start: connection::Start, parameters: &ConnectionParameters) -> Result<Login, Refusal> {
    if (start.version_major, start.version_minor) != (0, 9) {
        return Err(Refusal::Version(start.version_major, start.version_minor));
    }
    let mechanisms = String::from_utf8_lossy(start.mechanisms.as_bytes());
    let mut all = parameters.all_credentials();
    let Some(credentials) = all.find(|credentials| offers(&mechanisms, credentials.mechanism())).cloned() else {
        return Err(Refusal::Mechanisms(mechanisms.into_owned()));
    };
    let exchange = credentials.begin().map_err(|failure| failed(&*credentials, &failure))?;
    let frame_max = frame_max_before_tune(&start.server_properties);
    Ok(Login { accepted: Accepted { credentials, server_properties: start.server_properties }, exchange, frame_max })
}

fn start_ok(login: &mut Login, parameters: &ConnectionParameters) -> connection::StartOk {
    connection::StartOk {
        client_properties: parameters.start_properties(),
        mechanism: login.credentials().mechanism().into(),
        response: std::mem::take(&mut login.exchange.response),
        locale: parameters.locale().into(),
    }
}

fn failed(credentials: &dyn Credentials, failure: &Failure) -> Refusal {
    Refusal::Credentials(credentials.mechanism().into(), failure.to_string())
}

/// What every peer takes [§4.2.3], or what RabbitMQ says that it takes.
fn frame_max_before_tune(server_properties: &Table) -> usize {
    let text = |key| server_properties.get(key).and_then(Value::as_str);
    let mut version = text("version").unwrap_or_default().split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (version.next().unwrap_or(0), version.next().unwrap_or(0));
    if text("product") == Some("RabbitMQ") && version >= (4, 1) {
        FRAME_MAX_OF_RABBITMQ_4_1
    } else {
        FRAME_MIN_SIZE as usize
    }
}

/// The smaller of both wishes; RabbitMQ hangs up on an answer that is larger than its offer, or 0 where it offered a limit.
fn tuned(tune: &connection::Tune, parameters: &ConnectionParameters) -> Result<Limits, Refusal> {
    if tune.frame_max != 0 && tune.frame_max < FRAME_MIN_SIZE {
        return Err(Refusal::Violation(Violation::syntax("frame_max is below 4096 octets")));
    }
    let frame_max = match smaller(tune.frame_max, parameters.frame_max()) {
        0 => PROVISIONAL_FRAME_MAX as u32,
        agreed => agreed.min(i32::MAX as u32),
    };
    let channel_max = match smaller(u32::from(tune.channel_max), u32::from(parameters.channel_max())) {
        0 => u16::MAX,
        agreed => u16::try_from(agreed).unwrap_or(u16::MAX),
    };
    let heartbeat = parameters.heartbeat_for(tune.heartbeat);
    Ok(Limits { channel_max, frame_max: frame_max as usize, heartbeat })
}

/// 0 is "no limit".
fn smaller(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(frame_max: u32, channel_max: u16, heartbeat: Option<u16>) -> ConnectionParameters {
        let builder = ConnectionParameters::builder().frame_max(frame_max).channel_max(channel_max);
        builder.heartbeat(heartbeat).build().unwrap()
    }

    fn tune(frame_max: u32, channel_max: u16, heartbeat: u16) -> connection::Tune {
        connection::Tune { channel_max, frame_max, heartbeat }
    }

    /// F9, faults 4
    #[test]
    fn never_more_than_offered_and_never_none_where_a_limit_was_offered() {
        let limits = |t: connection::Tune, p: ConnectionParameters| {
            tuned(&t, &p).map(|l| (l.frame_max, l.channel_max, l.heartbeat)).unwrap()
        };
        assert_eq!(limits(tune(131_072, 2047, 60), parameters(131_072, 0, None)), (131_072, 2047, 60));
        assert_eq!(limits(tune(8192, 10, 60), parameters(131_072, 2047, Some(5))), (8192, 10, 5));
        assert_eq!(limits(tune(0, 0, 60), parameters(0, 0, Some(0))), (131_072, 65535, 0));
        assert_eq!(limits(tune(u32::MAX, 0, 0), parameters(4096, 7, None)), (4096, 7, 0));
        assert_eq!(
            limits(tune(u32::MAX, 0, 0), parameters(0, 7, None)),
            (i32::MAX as usize, 7, 0),
            "no answer is more"
        );
        assert!(tuned(&tune(4095, 0, 0), &parameters(0, 0, None)).is_err());
    }

    /// Faults 14: the token is compared whole, and the version is looked at before credentials are presented.
    #[test]
    fn credentials_are_presented_only_where_they_are_asked_for() {
        let start = |version_major, mechanisms: &str| {
            connection::Method::Start(connection::Start {
                version_major,
                version_minor: 9,
                mechanisms: mechanisms.into(),
                ..Default::default()
            })
        };
        let try_it = |method| Handshake::Start.on_method(method, &ConnectionParameters::default());
        assert!(try_it(start(0, "AMQPLAIN PLAIN")).is_ok());
        assert_eq!(try_it(start(0, "AMQPLAIN GSSAPI")).unwrap_err(), Refusal::Mechanisms("AMQPLAIN GSSAPI".into()));
        assert_eq!(try_it(start(8, "PLAIN")).unwrap_err(), Refusal::Version(8, 9));
    }

    /// A5: 4096 by the specification, 8192 since RabbitMQ 4.1.
    #[test]
    fn a_login_may_be_as_large_as_the_broker_says_that_it_takes() {
        let limit = |product: &str, version: &str| {
            frame_max_before_tune(&Table::new().with("product", product).with("version", version))
        };
        for old in ["3.10.8", "4.0.9", "3.13.0-rc.1", "", "x", "4", "4.x", "-4.1"] {
            assert_eq!(limit("RabbitMQ", old), 4096, "{old}");
        }
        for new in ["4.1.0", "4.1.0-beta.1", "4.10", "5.0.0"] {
            assert_eq!(limit("RabbitMQ", new), 8192, "{new}");
        }
        assert_eq!(limit("LavinMQ", "4.1.0"), 4096);
        assert_eq!(frame_max_before_tune(&Table::new()), 4096);
    }

    #[test]
    fn a_method_out_of_turn_is_a_violation() {
        let again = connection::Method::OpenOk(connection::OpenOk::default());
        assert!(matches!(
            Handshake::Start.on_method(again, &ConnectionParameters::default()),
            Err(Refusal::Violation(Violation { code: Some(503), .. }))
        ));
    }
}
