//! Who the client says it is: SASL mechanisms and their responses [§4.7.1].

use std::{fmt, sync::Arc};

use crate::secret::Secret;

/// How a client proves who it is. Connections share one, so a response is made each time that one is asked for.
///
/// `Debug` must not show secrets.
///
/// A mechanism of one's own needs three methods:
///
/// ```
/// # use amqp_core::{credentials::Credentials, secret::Secret};
/// /// The broker lets everybody in, and logs who says to come.
/// #[derive(Debug)]
/// struct Anonymous;
///
/// impl Credentials for Anonymous {
///     fn mechanism(&self) -> &str {
///         "ANONYMOUS"
///     }
///     fn user(&self) -> &str {
///         "(anonymous)"
///     }
///     fn response(&self) -> Secret {
///         Secret::default()
///     }
/// }
/// ```
pub trait Credentials: Send + Sync + fmt::Debug {
    /// The SASL mechanism, as the broker offers it. Nothing is presented to a broker that does not [offer](offers) it.
    fn mechanism(&self) -> &str;

    /// The user's name, for error messages only.
    fn user(&self) -> &str;

    /// What connection.start-ok says to the broker.
    fn response(&self) -> Secret;
}

/// A user and a password: the mechanism PLAIN.
///
/// ```
/// # use amqp_core::credentials::PlainCredentials;
/// let credentials = PlainCredentials::new("guest", "guest");
/// assert_eq!(format!("{credentials:?}"), r#"PlainCredentials { username: "guest", password: [redacted] }"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainCredentials {
    username: String,
    password: Secret,
}

impl PlainCredentials {
    /// The password is wiped from memory with the last copy of these credentials.
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

/// `guest`, whom brokers let in from localhost only.
impl Default for PlainCredentials {
    fn default() -> Self {
        Self::new("guest", "guest")
    }
}

impl Credentials for PlainCredentials {
    fn mechanism(&self) -> &str {
        "PLAIN"
    }

    fn user(&self) -> &str {
        &self.username
    }

    /// The user and the password, each behind a zero octet.
    fn response(&self) -> Secret {
        let (user, password) = (self.username.as_bytes(), self.password.expose());
        // All at once: a buffer that grew would leave copies of the password behind.
        let mut octets = Vec::with_capacity(user.len() + password.len() + 2);
        for part in [user, password] {
            octets.push(0);
            octets.extend_from_slice(part);
        }
        octets.into()
    }
}

/// The broker knows the user by the client certificate of TLS: the mechanism EXTERNAL.
///
/// RabbitMQ offers it with its plugin rabbitmq_auth_mechanism_ssl. The certificate is presented by
/// [`TlsOptions::client_certificate_files`](crate::TlsOptions::client_certificate_files).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalCredentials;

impl Credentials for ExternalCredentials {
    fn mechanism(&self) -> &str {
        "EXTERNAL"
    }

    fn user(&self) -> &str {
        "(the certificate's)"
    }

    /// Nothing: the certificate says it.
    fn response(&self) -> Secret {
        Secret::default()
    }
}

impl<C: Credentials + ?Sized> Credentials for Arc<C> {
    fn mechanism(&self) -> &str {
        (**self).mechanism()
    }

    fn user(&self) -> &str {
        (**self).user()
    }

    fn response(&self) -> Secret {
        (**self).response()
    }
}

/// Whether a broker that lists `mechanisms`, separated by spaces, offers exactly the `wanted` one.
pub fn offers(mechanisms: &str, wanted: &str) -> bool {
    mechanisms.split_ascii_whitespace().any(|mechanism| mechanism == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A1.
    #[test]
    fn plain_says_user_and_password_each_behind_a_zero() {
        let credentials = PlainCredentials::new("user", "pass");
        assert_eq!((credentials.mechanism(), credentials.user()), ("PLAIN", "user"));
        assert_eq!(credentials.response().expose(), b"\0user\0pass");
        assert_eq!(PlainCredentials::default().response().expose(), b"\0guest\0guest");
        assert_eq!(PlainCredentials::new("", "").response().expose(), b"\0\0");
    }

    /// A3.
    #[test]
    fn external_says_nothing() {
        assert_eq!(ExternalCredentials.mechanism(), "EXTERNAL");
        assert!(ExternalCredentials.response().is_empty());
    }

    /// A1: a reconnect says the same.
    #[test]
    fn a_response_can_be_made_again() {
        let credentials = PlainCredentials::new("user", vec![0xFF]);
        assert_eq!(credentials.response(), credentials.response());
        assert_eq!(credentials.response().expose(), b"\0user\0\xFF", "a password is octets");
    }

    /// Faults 15.
    #[test]
    fn the_password_is_not_shown() {
        let shown = format!("{:?} {0:#?}", PlainCredentials::new("alice", "hunter2"));
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
        let octets = format!("{:?}", b"hunter2");
        assert!(!shown.contains(octets.trim_matches(['[', ']'])), "{shown}");
    }

    /// A4, faults 14: tokens compared whole.
    #[test]
    fn a_mechanism_is_offered_if_it_is_a_whole_word() {
        assert!(offers("PLAIN AMQPLAIN", "PLAIN") && offers("AMQPLAIN PLAIN", "PLAIN") && offers(" PLAIN\n", "PLAIN"));
        assert!(!offers("AMQPLAIN PLAINTEXT PLAIN-X", "PLAIN"));
        assert!(!offers("plain", "PLAIN"), "and written as it is registered");
        assert!(!offers("GSSAPI", "PLAIN") && !offers("", "PLAIN") && !offers("PLAIN", "") && !offers("", ""));
        assert!(!offers("PLAIN AMQPLAIN", "PLAIN AMQPLAIN"));
    }
}
