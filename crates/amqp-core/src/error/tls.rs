//! What can go wrong in TLS, the same for every library.

use crate::{error::attempt::IoError, wire::strings::Escaped};
use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

/// Says why TLS with a peer failed. `Display` adds what to do about it, where that is known.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// The peer does not speak TLS.
    #[error("the peer is not speaking TLS - port 5672 is usually plain text, amqps is 5671")]
    NotTls,
    /// The peer ended the connection in the handshake.
    #[error("the peer closed the connection in the handshake - is this the TLS port (5671)?")]
    HungUp,
    /// The network failed in the handshake.
    #[error("the handshake was interrupted: {0} - is this the TLS port (5671)?")]
    Interrupted(IoError),
    /// The peer's certificate was issued by an authority that is not trusted.
    #[error(
        "the issuer of the peer's certificate is not trusted - name the certificate of its CA (ca_file; cacertfile in a URL)"
    )]
    UnknownIssuer,
    /// The peer's certificate is for another host.
    #[error(
        "the peer's certificate is not for \"{expected}\"{} - is the host right? If so, name the one in the certificate \
         (server_name; server_name_indication in a URL)", but_for(.presented)
    )]
    WrongName {
        /// The expected host.
        expected: Arc<str>,
        /// The names in the certificate, where the library reports them.
        presented: Arc<[String]>,
    },
    /// The peer's certificate is no longer valid.
    #[error("the peer's certificate has expired - renew it, or set the clock of this machine")]
    Expired,
    /// The peer's certificate is not yet valid.
    #[error("the peer's certificate is not valid yet - is the clock of this machine right?")]
    NotYetValid,
    /// The peer's certificate is invalid in another way.
    #[error("the peer's certificate is refused: {}", Escaped(.0))]
    BadCertificate(Arc<str>),
    /// The peer sent an alert [RFC 8446 §6]. One about the client certificate comes after the handshake is over on the client's side.
    #[error("the peer refused with the alert \"{}\"{hint}", Escaped(.0), hint = hint(.0))]
    Alert(Arc<str>),
    /// The server's name is not valid.
    #[error("\"{0}\" is no name that a certificate could be for")]
    BadName(Arc<str>),
    /// Anything else, in the words of the library.
    #[error("{}", Escaped(.0))]
    Other(Arc<str>),
}

impl TlsProblem {
    /// The one that an error of a [session](super::Session) carries.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<TlsProblem> for io::Error {
    fn from(problem: TlsProblem) -> Self {
        Self::new(ErrorKind::InvalidData, problem)
    }
}

fn but_for(presented: &[String]) -> String {
    match presented {
        [] => String::new(),
        names => format!(", but for {}", Escaped(names.join(", "))),
    }
}

fn hint(alert: &str) -> &'static str {
    match alert {
        "certificate required" | "handshake failure" => {
            " - it may want a client certificate (client_certificate_files; certfile and keyfile in a URL)"
        }
        "unknown ca"
        | "decrypt error"
        | "bad certificate"
        | "certificate unknown"
        | "unsupported certificate"
        | "certificate revoked"
        | "access denied" => " - it does not trust our certificate",
        "certificate expired" => " - our certificate has expired",
        "protocol version" => " - it speaks no version of TLS from 1.2 on",
        "unrecognized name" => " - it does not know the name that we ask for (server_name)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_being_an_io_error() {
        let problem = TlsProblem::Alert("unknown ca".into());
        let error = io::Error::from(problem.clone());
        assert_eq!(TlsProblem::of(&error), Some(&problem));
        assert_eq!(
            error.to_string(),
            "the peer refused with the alert \"unknown ca\" - it does not trust our certificate"
        );
        assert_eq!(TlsProblem::of(&ErrorKind::WouldBlock.into()), None);
    }

    #[test]
    fn names_are_told_where_they_are_known() {
        let wrong = |presented: &[&str]| {
            let presented = presented.iter().map(ToString::to_string).collect();
            TlsProblem::WrongName { expected: "a".into(), presented }.to_string()
        };
        assert!(wrong(&["b", "c"]).starts_with("the peer's certificate is not for \"a\", but for b, c - is"));
        assert!(wrong(&[]).starts_with("the peer's certificate is not for \"a\" - is"));
    }
}
