//! Logins: SASL mechanisms and their responses [§4.7.1].

use std::{error, fmt, sync::Arc};

use crate::{
    config::uri::bad,
    sync::{Mutex, MutexGuard},
    wire::secret::Secret,
};

/// Proves to the broker who the client is, by a SASL mechanism.
///
/// Several connections may share one value, so a response is made anew for each login. `Debug` and errors must not show
/// secrets. The loop calls these methods, so they must not block.
///
/// A mechanism of your own implements three methods, and [`begin`](Self::begin) if the broker sends challenges:
///
/// ```
/// # use amqp_core::{credentials::{Credentials, Exchange, Failure}, secret::Secret};
/// /// RabbitMQ's demonstration of a challenge: it asks for the password in a sentence.
/// #[derive(Debug)]
/// struct CrDemo {
///     user: String,
///     password: Secret,
/// }
///
/// impl Credentials for CrDemo {
///     fn mechanism(&self) -> &str {
///         "RABBIT-CR-DEMO"
///     }
///     fn user(&self) -> &str {
///         &self.user
///     }
///     fn response(&self) -> Secret {
///         self.user.as_str().into()
///     }
///     fn begin(&self) -> Result<Exchange, Failure> {
///         let password = self.password.clone();
///         Ok(Exchange::of(self.response()).on_challenge(move |challenge| match challenge {
///             b"Please tell me your password" => Ok([b"My password is ", password.expose()].concat().into()),
///             _ => Err("not the question that was expected".into()),
///         }))
///     }
/// }
/// ```
pub trait Credentials: Send + Sync + fmt::Debug {
    /// Returns the SASL mechanism, as the broker offers it. Nothing is sent to a broker that does not [offer](offers) it.
    fn mechanism(&self) -> &str;

    /// Returns the user's name, for error messages only.
    fn user(&self) -> &str;

    /// Returns the response that connection.start-ok carries [§1.4.2.2].
    fn response(&self) -> Secret;

    /// Begins the login of one connection: its first response, and how it answers [connection.secure](Exchange::on_challenge).
    /// By default it sends the [response](Self::response), and answers no challenge.
    ///
    /// # Errors
    /// There is nothing to log in with, because no token could be fetched for example. Nothing is sent, no other endpoint is
    /// tried, and connecting fails with [`Error::CredentialsFailed`](crate::Error::CredentialsFailed).
    fn begin(&self) -> Result<Exchange, Failure> {
        Ok(Exchange::of(self.response()))
    }

    /// Checks that the mechanism can carry these credentials; [`build`](crate::ParametersBuilder::build) asks. By default it can.
    ///
    /// # Errors
    /// They would become another login on the wire.
    fn check(&self) -> crate::Result<()> {
        Ok(())
    }

    /// Called when a connection that logged in with these credentials is open, before its open callback. Does nothing by default.
    fn connected(&self) {}
}

/// Says why credentials could not answer.
pub type Failure = Box<dyn error::Error + Send + Sync>;

/// One login of one connection. It may keep state between challenges.
pub struct Exchange {
    pub(crate) response: Secret,
    answer: Answer,
}

type Answer = Box<dyn FnMut(&[u8]) -> Result<Secret, Failure> + Send>;

impl Exchange {
    /// Returns a login that sends this response, and answers no challenge.
    pub fn of(response: impl Into<Secret>) -> Self {
        let answer = |_: &[u8]| Err("the broker asks back, which this mechanism does not know".into());
        Self { response: response.into(), answer: Box::new(answer) }
    }

    /// Sets the answer to each challenge [§1.4.2.3], of which the broker may send any number within `stack_timeout`. An error
    /// ends the connection.
    #[must_use]
    pub fn on_challenge(mut self, answer: impl FnMut(&[u8]) -> Result<Secret, Failure> + Send + 'static) -> Self {
        self.answer = Box::new(answer);
        self
    }

    pub(crate) fn challenged(&mut self, challenge: &[u8]) -> Result<Secret, Failure> {
        (self.answer)(challenge)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("response", &self.response).finish_non_exhaustive()
    }
}

/// Logs in with a user and a password: the mechanism PLAIN.
///
/// Clones share the password, so that [erasing](Self::erase_on_connect) it erases it for all of them.
///
/// ```
/// # use amqp_core::credentials::PlainCredentials;
/// let credentials = PlainCredentials::new("guest", "guest");
/// assert_eq!(format!("{credentials:?}"), r#"PlainCredentials { username: "guest", password: [redacted] }"#);
/// ```
#[derive(Clone)]
pub struct PlainCredentials {
    username: String,
    /// `None` after it was erased.
    password: Arc<Mutex<Option<Secret>>>,
    erase_on_connect: bool,
}

impl PlainCredentials {
    /// Returns credentials for this user. The password is wiped from memory with the last copy of these credentials.
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        let password = Arc::new(Mutex::new(Some(password.into())));
        Self { username: username.into(), password, erase_on_connect: false }
    }

    /// Sets whether the password is wiped as soon as a connection that logged in with it is open. Connecting again with these
    /// credentials is then an error, and nothing is sent.
    #[must_use]
    pub fn erase_on_connect(mut self, erase_on_connect: bool) -> Self {
        self.erase_on_connect = erase_on_connect;
        self
    }

    /// Returns whether the password was wiped.
    pub fn is_erased(&self) -> bool {
        self.password().is_none()
    }

    fn password(&self) -> MutexGuard<'_, Option<Secret>> {
        self.password.lock()
    }

    fn known(&self) -> Result<Secret, Failure> {
        self.password().clone().ok_or_else(|| "the password was erased when a connection was open".into())
    }

    /// The user and the password, each after a zero octet.
    fn plain(&self, password: &Secret) -> Secret {
        let (user, password) = (self.username.as_bytes(), password.expose());
        // All at once: a buffer that grew would leave copies of the password behind.
        let mut octets = Vec::with_capacity(user.len() + password.len() + 2);
        for part in [user, password] {
            octets.push(0);
            octets.extend_from_slice(part);
        }
        octets.into()
    }
}

/// The user `guest`, whom RabbitMQ accepts from localhost only.
impl Default for PlainCredentials {
    fn default() -> Self {
        Self::new("guest", "guest")
    }
}

impl PartialEq for PlainCredentials {
    fn eq(&self, other: &Self) -> bool {
        let theirs = other.password().clone(); // one lock at a time
        self.username == other.username && self.erase_on_connect == other.erase_on_connect && *self.password() == theirs
    }
}

impl Eq for PlainCredentials {}

impl fmt::Debug for PlainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = Secret::default();
        f.debug_struct("PlainCredentials").field("username", &self.username).field("password", &password).finish()
    }
}

impl Credentials for PlainCredentials {
    fn mechanism(&self) -> &str {
        "PLAIN"
    }

    fn user(&self) -> &str {
        &self.username
    }

    /// The user and the password, each after a zero octet; nothing when the password is erased.
    fn response(&self) -> Secret {
        self.known().map_or_else(|_| Secret::default(), |password| self.plain(&password))
    }

    fn begin(&self) -> Result<Exchange, Failure> {
        self.known().map(|password| Exchange::of(self.plain(&password)))
    }

    /// PLAIN ends a user and a password with a zero octet [RFC 4616 §2].
    fn check(&self) -> crate::Result<()> {
        let password = self.password().as_ref().is_some_and(|password| password.expose().contains(&0));
        for (name, has_zero) in [("user", self.username.contains('\0')), ("password", password)] {
            if has_zero {
                return bad(name, "a zero octet would be taken for its end");
            }
        }
        Ok(())
    }

    fn connected(&self) {
        if self.erase_on_connect {
            self.password().take();
        }
    }
}

/// Logs in with a user and a password in a table: the mechanism AMQPLAIN, AMQP's own.
///
/// It protects no more than PLAIN, and is for brokers that offer nothing else.
///
/// ```
/// # use amqp_core::credentials::{AmqplainCredentials, PlainCredentials};
/// let credentials = AmqplainCredentials::from(PlainCredentials::new("guest", "guest"));
/// assert_eq!(credentials, AmqplainCredentials::new("guest", "guest"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmqplainCredentials(PlainCredentials);

impl AmqplainCredentials {
    /// Returns credentials for this user, as [`PlainCredentials::new`].
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        PlainCredentials::new(username, password).into()
    }

    /// `LOGIN` and `PASSWORD`: the entries of a table, without its length.
    fn amqplain(&self, password: &Secret) -> Secret {
        let (user, password) = (self.0.username.as_bytes(), password.expose());
        let mut octets = Vec::with_capacity(user.len() + password.len() + 26);
        for (name, value) in [(&b"\x05LOGINS"[..], user), (b"\x08PASSWORDS", password)] {
            octets.extend_from_slice(name);
            // Over 4 GiB it is too long for a frame anyway, and refused there.
            octets.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            octets.extend_from_slice(value);
        }
        octets.into()
    }
}

/// Keeps `erase_on_connect`, and shares the password.
impl From<PlainCredentials> for AmqplainCredentials {
    fn from(credentials: PlainCredentials) -> Self {
        Self(credentials)
    }
}

impl Credentials for AmqplainCredentials {
    fn mechanism(&self) -> &str {
        "AMQPLAIN"
    }

    fn user(&self) -> &str {
        self.0.user()
    }

    /// A table's entries; nothing when the password is erased.
    fn response(&self) -> Secret {
        self.0.known().map_or_else(|_| Secret::default(), |password| self.amqplain(&password))
    }

    fn begin(&self) -> Result<Exchange, Failure> {
        self.0.known().map(|password| Exchange::of(self.amqplain(&password)))
    }

    fn connected(&self) {
        self.0.connected();
    }
}

/// Logs in with the client certificate of TLS: the mechanism EXTERNAL.
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

    /// Returns nothing: the certificate names the user.
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

    fn begin(&self) -> Result<Exchange, Failure> {
        (**self).begin()
    }

    fn check(&self) -> crate::Result<()> {
        (**self).check()
    }

    fn connected(&self) {
        (**self).connected();
    }
}

/// Returns whether a broker that lists `mechanisms`, separated by spaces, offers exactly the `wanted` one.
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

    /// A2: pika logged in as `None` after that.
    #[test]
    fn an_erased_password_is_erased_for_all_clones_and_never_presented() {
        let kept = PlainCredentials::new("user", "pass");
        kept.connected();
        assert!(!kept.is_erased() && kept.begin().is_ok(), "by default a reconnect says the same");
        let credentials = PlainCredentials::new("user", "pass").erase_on_connect(true);
        let (clone, amqplain) = (credentials.clone(), AmqplainCredentials::from(credentials.clone()));
        assert_eq!(credentials.begin().unwrap().response.expose(), b"\0user\0pass");
        assert!(!credentials.is_erased(), "the next endpoint may need it");
        let shared: Arc<dyn Credentials> = Arc::new(clone);
        shared.connected();
        assert!(credentials.is_erased() && credentials.response().is_empty());
        for refused in [credentials.begin(), shared.begin(), amqplain.begin()] {
            assert_eq!(refused.unwrap_err().to_string(), "the password was erased when a connection was open");
        }
        assert_ne!(credentials, kept);
    }

    /// A7: a table's entries without its length.
    #[test]
    fn amqplain_says_user_and_password_in_a_table() {
        let credentials = AmqplainCredentials::new("user", vec![0xFF]);
        assert_eq!((credentials.mechanism(), credentials.user()), ("AMQPLAIN", "user"));
        assert_eq!(credentials.response().expose(), b"\x05LOGINS\0\0\0\x04user\x08PASSWORDS\0\0\0\x01\xFF");
        assert_eq!(credentials.response(), credentials.begin().unwrap().response);
        assert!(!format!("{:?}", AmqplainCredentials::new("alice", "hunter2")).contains("hunter2"));
    }

    /// A7: each login has a memory of its own.
    #[test]
    fn an_exchange_answers_challenges_or_says_why_not() {
        let mut rounds = 0;
        let mut exchange = Exchange::of("first").on_challenge(move |challenge| {
            rounds += 1;
            if rounds < 3 { Ok([challenge, b"!"].concat().into()) } else { Err("enough".into()) }
        });
        assert_eq!(exchange.response.expose(), b"first");
        assert_eq!(exchange.challenged(b"a").unwrap().expose(), b"a!");
        assert_eq!(exchange.challenged(b"b").unwrap().expose(), b"b!");
        assert_eq!(exchange.challenged(b"c").unwrap_err().to_string(), "enough");
        assert!(PlainCredentials::default().begin().unwrap().challenged(b"?").is_err());
        assert!(!format!("{:?}", Exchange::of("hunter2")).contains("hunter2"));
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
