//! From the protocol header to connection.open-ok [§2.2.4]: what each step answers, and what it may be answered with.

use crate::{
    credentials::offers,
    error::Violation,
    parameters::ConnectionParameters,
    protocol::PROVISIONAL_FRAME_MAX,
    spec::{FRAME_MIN_SIZE, Method, connection},
    table::Table,
};

/// What the client waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// connection.start: the protocol header has been sent.
    #[default]
    Start,
    /// connection.tune: the credentials have been presented.
    Tune,
    /// connection.open-ok: limits are agreed, a virtual host has been asked for.
    Open(Limits),
    /// Nothing: the connection is usable.
    Done,
}

/// What both peers agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The highest channel number.
    pub(crate) channel_max: u16,
    /// Octets in a frame, its envelope included.
    pub(crate) frame_max: usize,
    /// Seconds; 0 is off.
    pub(crate) heartbeat: u16,
}

/// What a step of the handshake leads to.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) replies: Vec<Method>,
    pub(crate) server_properties: Option<Table>,
    pub(crate) tuned: Option<Limits>,
    pub(crate) opened: bool,
}

/// Why the handshake cannot go on.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    Violation(Violation),
    /// connection.start announced this version.
    Version(u8, u8),
    /// The broker offers these mechanisms only.
    Mechanisms(String),
}

impl Handshake {
    pub(crate) fn on_method(
        &mut self,
        method: connection::Method,
        parameters: &ConnectionParameters,
    ) -> Result<Progress, Refusal> {
        let mut progress = Progress::default();
        *self = match (*self, method) {
            (Self::Start, connection::Method::Start(start)) => {
                progress.replies.push(start_ok(&start, parameters)?.into());
                progress.server_properties = Some(start.server_properties);
                Self::Tune
            }
            (Self::Tune, connection::Method::Tune(tune)) => {
                let limits = tuned(&tune, parameters)?;
                progress.replies.push(
                    connection::TuneOk {
                        channel_max: limits.channel_max,
                        frame_max: limits.frame_max as u32,
                        heartbeat: limits.heartbeat,
                    }
                    .into(),
                );
                progress.replies.push(
                    connection::Open { virtual_host: parameters.virtual_host().into(), ..Default::default() }.into(),
                );
                progress.tuned = Some(limits);
                Self::Open(limits)
            }
            (Self::Open(_), connection::Method::OpenOk(_)) => {
                progress.opened = true;
                Self::Done
            }
            _ => return Err(Refusal::Violation(Violation::command("a method out of turn in the handshake"))),
        };
        Ok(progress)
    }
}

/// Credentials are presented only to a broker that speaks our protocol and asks for them.
fn start_ok(start: &connection::Start, parameters: &ConnectionParameters) -> Result<connection::StartOk, Refusal> {
    if (start.version_major, start.version_minor) != (0, 9) {
        return Err(Refusal::Version(start.version_major, start.version_minor));
    }
    let mechanisms = String::from_utf8_lossy(start.mechanisms.as_bytes());
    let credentials = parameters.credentials();
    if !offers(&mechanisms, credentials.mechanism()) {
        return Err(Refusal::Mechanisms(mechanisms.into_owned()));
    }
    Ok(connection::StartOk {
        client_properties: parameters.start_properties(),
        mechanism: credentials.mechanism().into(),
        response: credentials.response(),
        locale: parameters.locale().into(),
    })
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
    let heartbeat = parameters.heartbeat().unwrap_or(tune.heartbeat);
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

    #[test]
    fn a_method_out_of_turn_is_a_violation() {
        let mut handshake = Handshake::Tune;
        let again = connection::Method::OpenOk(connection::OpenOk::default());
        assert!(matches!(
            handshake.on_method(again, &ConnectionParameters::default()),
            Err(Refusal::Violation(Violation { code: Some(503), .. }))
        ));
    }
}
