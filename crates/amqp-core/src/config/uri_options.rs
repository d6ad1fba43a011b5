//! The query of a URL: the options of RabbitMQ's URI specification, of pika, and our own.

use std::{borrow::Cow, collections::BTreeMap, num::NonZero, sync::Arc, time::Duration};

use url::form_urlencoded;

use crate::{
    config::{
        credentials::{AmqplainCredentials, Credentials, ExternalCredentials, PlainCredentials},
        endpoint::ConnectionOrder,
        parameters::ParametersBuilder,
        python_literal::{Literal, literal},
        tcp_options::TcpOptions,
        uri::{bad, number, text},
    },
    error::{Error, Result},
    tls::TlsOptions,
    wire::table::{Table, Value},
};

/// Sets the options in `query`. `plain` are the URL's user and password.
pub(crate) fn apply(
    mut builder: ParametersBuilder,
    query: &str,
    is_secure: bool,
    plain: PlainCredentials,
) -> Result<ParametersBuilder> {
    let given = Given::new(query)?;
    let mut tls = Tls::default();
    let mut mechanisms = given.mechanisms.iter();
    builder = match mechanisms.next() {
        Some(mechanism) => builder.credentials(credentials(mechanism, &plain)?),
        None => builder.credentials(plain.clone()),
    };
    for mechanism in mechanisms {
        builder = builder.or_credentials(credentials(mechanism, &plain)?);
    }
    for (name, value) in given.options {
        let Some(&name) = NAMES.iter().find(|known| **known == name) else {
            return bad("url", &format!("there is no option {name:?}; there are: {}", NAMES.join(", ")));
        };
        if TLS_NAMES.contains(&name) && !is_secure {
            if name == "ssl_options" && literal(&value) == Some(Literal::None) {
                continue;
            }
            return bad("url", &format!("the option {name:?} is for amqps:// only"));
        }
        builder = match name {
            "heartbeat" | "heartbeat_interval" => {
                builder.heartbeat(Some(number(name, "is not a number of seconds up to 65535", &value)?))
            }
            "connection_timeout" => {
                let problem = "is not a number of milliseconds over 0";
                let milliseconds: NonZero<u64> = number(name, problem, &value)?;
                builder.socket_timeout(Duration::from_millis(milliseconds.get()))
            }
            "socket_timeout" => builder.socket_timeout(seconds(name, &value)?),
            "stack_timeout" => builder.stack_timeout(seconds(name, &value)?),
            "retry_delay" => builder.retry_delay(seconds(name, &value)?),
            "blocked_connection_timeout" => builder.blocked_connection_timeout(Some(seconds(name, &value)?)),
            "channel_max" => builder.channel_max(number(name, "is not a number up to 65535", &value)?),
            "frame_max" => builder.frame_max(number(name, "is not a number of octets", &value)?),
            "connection_attempts" => builder.connection_attempts(number(name, "is not a number", &value)?),
            "locale" => builder.locale(value),
            "connection_name" => builder.connection_name(value),
            "backpressure_detection" => builder.backpressure_detection(flag(name, &value)?),
            "client_properties" => builder.client_properties(table(name, dictionary(name, &value)?)?),
            "tcp_options" => builder.tcp_options(tcp_options(dictionary(name, &value)?)?),
            "connection_order" => builder.connection_order(match &*value {
                "listed" => ConnectionOrder::Listed,
                "random" => ConnectionOrder::Random,
                _ => return bad(name, "is neither listed nor random"),
            }),
            _ => {
                tls.set(name, value)?;
                builder
            }
        };
    }
    Ok(if is_secure { builder.tls(tls.options()?) } else { builder })
}

/// Options by name, none of them twice.
struct Given<'a> {
    options: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    mechanisms: Vec<Cow<'a, str>>,
}

impl<'a> Given<'a> {
    fn new(query: &'a str) -> Result<Self> {
        text("url", query)?; // or what it cannot decode would be taken as it is
        let mut given = Self { options: BTreeMap::new(), mechanisms: vec![] };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name == "auth_mechanism" {
                given.mechanisms.push(value);
            } else if given.options.insert(name.clone(), value).is_some() {
                return bad("url", &format!("the option {name:?} is given twice"));
            }
        }
        for (one, other) in SYNONYMS {
            if given.options.contains_key(one) && given.options.contains_key(other) {
                return bad("url", &format!("the options {one:?} and {other:?} say the same"));
            }
        }
        Ok(given)
    }
}

fn credentials(mechanism: &str, plain: &PlainCredentials) -> Result<Arc<dyn Credentials>> {
    match &*mechanism.to_ascii_lowercase() {
        "plain" => Ok(Arc::new(plain.clone())),
        "amqplain" => Ok(Arc::new(AmqplainCredentials::from(plain.clone()))),
        "external" => Ok(Arc::new(ExternalCredentials)),
        _ => bad("auth_mechanism", "is none of: plain, amqplain, external"),
    }
}

/// The URL's options of TLS, by all their names.
#[derive(Default)]
struct Tls {
    options: TlsOptions,
    certificate: Option<String>,
    key: Option<String>,
    seen: Vec<&'static str>,
}

impl Tls {
    fn set(&mut self, name: &'static str, value: Cow<'_, str>) -> Result<()> {
        match name {
            "ssl_options" => self.set_all(&value),
            "verify" if value == "verify_peer" => Ok(()),
            "verify" => bad(name, "can only be verify_peer: name the CA of a private broker in cacertfile"),
            _ => self.set_text(name, value.into_owned()),
        }
    }

    /// pika's dictionary.
    fn set_all(&mut self, value: &str) -> Result<()> {
        let name = "ssl_options";
        if literal(value) == Some(Literal::None) {
            return bad(name, "cannot be None for amqps://");
        }
        for (key, value) in dictionary(name, value)? {
            let Some(&known) = SSL_NAMES.iter().find(|known| **known == key) else {
                return bad(name, &format!("has no entry {key:?}; there are: {}", SSL_NAMES.join(", ")));
            };
            match (known, value) {
                (_, Literal::None) | ("cert_reqs", Literal::Int(2)) => {}
                ("cert_reqs", _) => return bad(name, "cert_reqs can only be ssl.CERT_REQUIRED, which is 2"),
                ("protocol" | "ssl_version", Literal::Int(PROTOCOL_TLS | PROTOCOL_TLS_V1_2 | PROTOCOL_TLS_CLIENT)) => {}
                ("protocol" | "ssl_version", _) => return bad(name, "TLS is at least 1.2 here: leave the version out"),
                (_, Literal::Text(text)) => self.set_text(known, text)?,
                _ => return bad(name, &format!("the entry {known:?} is no text")),
            }
        }
        Ok(())
    }

    fn set_text(&mut self, name: &'static str, text: String) -> Result<()> {
        let what = match name {
            "ca_certs" | "cafile" | "cacertfile" => "cacertfile",
            "ca_data" | "cadata" => "cadata",
            "server_hostname" => "server_name_indication",
            "ca_path" | "capath" => return bad(name, "a folder cannot be given: name the file in cafile"),
            "password" => return bad(name, "an encrypted key cannot be read: decrypt it first, or use TlsOptions"),
            "ciphers" => return bad(name, "cannot be chosen here: give TlsOptions a configuration of your own"),
            other => other,
        };
        if self.seen.contains(&what) {
            return bad("url", &format!("the options say twice what {name:?} says"));
        }
        self.seen.push(what);
        let options = std::mem::take(&mut self.options);
        self.options = match what {
            "cacertfile" => options.ca_file(text),
            "cadata" => options.ca_pem(text),
            "server_name_indication" => options.server_name(text),
            "certfile" => {
                self.certificate = Some(text);
                options
            }
            _ => {
                self.key = Some(text);
                options
            }
        };
        Ok(())
    }

    fn options(self) -> Result<TlsOptions> {
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(self.options.client_certificate_files(certificate, key)),
            (None, None) => Ok(self.options),
            _ => bad("url", "certfile and keyfile belong together"),
        }
    }
}

fn tcp_options(entries: Vec<(String, Literal)>) -> Result<TcpOptions> {
    let name = "tcp_options";
    let mut options = TcpOptions::default();
    for (key, value) in entries {
        let Literal::Int(value) = value else { return bad(name, &format!("the entry {key:?} is no number")) };
        let Ok(value) = u32::try_from(value) else {
            return bad(name, &format!("the entry {key:?} is negative or too large"));
        };
        match &*key {
            "TCP_KEEPIDLE" => options.keep_idle = Some(Duration::from_secs(value.into())),
            "TCP_KEEPINTVL" => options.keep_interval = Some(Duration::from_secs(value.into())),
            "TCP_KEEPCNT" => options.keep_count = Some(value),
            "TCP_USER_TIMEOUT" => options.user_timeout = Some(Duration::from_millis(value.into())),
            _ => {
                let all = "TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT";
                return bad(name, &format!("has no entry {key:?}; there are: {all}"));
            }
        }
    }
    Ok(options)
}

fn seconds(name: &'static str, value: &str) -> Result<Duration> {
    let digits = value.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    match value.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(seconds)) if digits => Ok(seconds),
        _ => bad(name, "is not a number of seconds"),
    }
}

fn flag(name: &'static str, value: &str) -> Result<bool> {
    match value {
        "t" | "true" | "1" => Ok(true),
        "f" | "false" | "0" => Ok(false),
        _ => bad(name, "is neither t (true, 1) nor f (false, 0)"),
    }
}

fn dictionary(name: &'static str, value: &str) -> Result<Vec<(String, Literal)>> {
    match literal(value) {
        Some(Literal::Dict(entries)) => Ok(entries),
        _ => bad(name, "is no dictionary as Python writes it, {'name': 'value'} for example"),
    }
}

fn table(name: &'static str, entries: Vec<(String, Literal)>) -> Result<Table> {
    let mut table = Table::new();
    for (key, value) in entries {
        let value = match value {
            Literal::None => Value::Void,
            Literal::Bool(value) => value.into(),
            Literal::Int(value) => value.into(),
            Literal::Float(value) => value.into(),
            Literal::Text(value) => value.into(),
            Literal::Dict(entries) => Value::Table(self::table(name, entries)?),
        };
        if key.len() > 255 {
            return Err(Error::BadParameter { name, problem: "has a name longer than 255 octets".into() });
        }
        table.insert(key, value);
    }
    Ok(table)
}

const NAMES: [&str; 24] = [
    "auth_mechanism",
    "backpressure_detection",
    "blocked_connection_timeout",
    "cacertfile",
    "certfile",
    "channel_max",
    "client_properties",
    "connection_attempts",
    "connection_name",
    "connection_order",
    "connection_timeout",
    "frame_max",
    "heartbeat",
    "heartbeat_interval",
    "keyfile",
    "locale",
    "password",
    "retry_delay",
    "server_name_indication",
    "socket_timeout",
    "ssl_options",
    "stack_timeout",
    "tcp_options",
    "verify",
];

const TLS_NAMES: [&str; 7] =
    ["cacertfile", "certfile", "keyfile", "password", "server_name_indication", "ssl_options", "verify"];

/// The keys that pika's dictionary may have, in 0.9 and 1.x.
const SSL_NAMES: [&str; 14] = [
    "ca_certs",
    "ca_data",
    "ca_path",
    "cadata",
    "cafile",
    "capath",
    "cert_reqs",
    "certfile",
    "ciphers",
    "keyfile",
    "password",
    "protocol",
    "server_hostname",
    "ssl_version",
];

const SYNONYMS: [(&str, &str); 2] = [("heartbeat", "heartbeat_interval"), ("socket_timeout", "connection_timeout")];

// Of Python's module ssl: the versions that TLS 1.2 is among.
const PROTOCOL_TLS: i64 = 2;
const PROTOCOL_TLS_V1_2: i64 = 5;
const PROTOCOL_TLS_CLIENT: i64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::uri::tests::{parse, refused};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    fn option(name: &str, literal: &str) -> String {
        format!("amqp://host?{name}={}", utf8_percent_encode(literal, NON_ALPHANUMERIC))
    }

    /// U7, D12.
    #[test]
    fn numbers_and_texts_are_options() {
        let all = parse(
            "amqp://host?channel_max=7&frame_max=8192&connection_attempts=3&heartbeat_interval=30&retry_delay=0.5\
             &socket_timeout=1.5&stack_timeout=20&blocked_connection_timeout=300&locale=de_DE&connection_name=a+b%26c",
        );
        assert_eq!((all.channel_max(), all.frame_max(), all.connection_attempts()), (7, 8192, 3));
        assert_eq!((all.heartbeat(), all.retry_delay()), (Some(30), Duration::from_millis(500)));
        assert_eq!((all.socket_timeout(), all.stack_timeout()), (Duration::from_millis(1500), Duration::from_secs(20)));
        assert_eq!(all.blocked_connection_timeout(), Some(Duration::from_secs(300)));
        assert_eq!((all.locale(), all.connection_name()), ("de_DE", Some("a b&c")));
        for (name, order) in [("listed", ConnectionOrder::Listed), ("random", ConnectionOrder::Random)] {
            assert_eq!(parse(&format!("amqp://host?connection_order={name}")).connection_order(), order);
        }
        let milliseconds = parse("amqp://host?connection_timeout=1500&retry_delay=0");
        assert_eq!(milliseconds.socket_timeout(), Duration::from_millis(1500), "RabbitMQ's unit");
        assert_eq!(milliseconds.retry_delay(), Duration::ZERO);
    }

    /// P13, U7: refused by name, and with the ranges of the builder.
    #[test]
    fn an_option_that_cannot_be_is_refused_by_name() {
        for (option, values) in [
            ("channel_max", ["", "x", "-1", "65536", "1.5"]),
            ("frame_max", ["", "4095", "-1", "2147483648", "1e4"]),
            ("connection_attempts", ["", "0", "-1", "x", "1.0"]),
            ("retry_delay", ["", "-1", "x", "nan", "1e400"]),
            ("socket_timeout", ["", "0", "-1", "inf", "1s"]),
            ("stack_timeout", ["", "0", "-1", "x", "+1"]),
            ("blocked_connection_timeout", ["", "0", "-1", "x", "1.1.1"]),
            ("backpressure_detection", ["", "T", "yes", "2", "tf"]),
            ("connection_order", ["", "Random", "x", "1", "shuffled"]),
            ("auth_mechanism", ["", "x", "PLAIN ", "login", "plain,external"]),
        ] {
            for value in values {
                let url = format!("amqp://host?{option}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
                assert_eq!(refused(&url).0, option, "{url}");
            }
        }
        for value in ["0", "1.5"] {
            assert_eq!(refused(&format!("amqp://host?connection_timeout={value}")).0, "connection_timeout", "{value}");
        }
        assert_eq!(refused(&format!("amqp://host?locale={}", "x".repeat(256))).0, "locale");
    }

    #[test]
    fn a_percent_sign_in_an_option_stands_before_two_digits() {
        for value in ["%", "50%", "%zz", "%4", "%ff", "a%C3"] {
            for option in ["connection_name", "server_name_indication", "auth_mechanism"] {
                assert_eq!(refused(&format!("amqp://host?heartbeat=1&{option}={value}")).0, "url", "{value}");
            }
        }
        assert_eq!(parse("amqp://host?connection_name=%C3%A9").connection_name(), Some("é"));
    }

    /// P11, U6.
    #[test]
    fn backpressure_detection_is_a_letter_a_word_or_a_digit() {
        assert!(!parse("amqp://host").backpressure_detection());
        for (value, is) in [("t", true), ("true", true), ("1", true), ("f", false), ("false", false), ("0", false)] {
            assert_eq!(parse(&format!("amqp://host?backpressure_detection={value}")).backpressure_detection(), is);
        }
    }

    /// P12, U7: dictionaries as pika writes them.
    #[test]
    fn client_properties_and_tcp_options_are_dictionaries() {
        let properties = parse(&option("client_properties", "{'pod': 'a-1', 'n': 7, 'capabilities': {'x': True}}"));
        assert_eq!(properties.client_properties().get("pod"), Some(&"a-1".into()));
        assert_eq!(properties.client_properties().get("n"), Some(&7i64.into()));
        let capabilities = properties.client_properties().get("capabilities").and_then(Value::as_table).unwrap();
        assert_eq!(capabilities.get("x"), Some(&true.into()));
        let tcp = "{'TCP_KEEPIDLE': 60, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 3, 'TCP_USER_TIMEOUT': 1500}";
        let expected = TcpOptions {
            keep_idle: Some(Duration::from_secs(60)),
            keep_interval: Some(Duration::from_secs(5)),
            keep_count: Some(3),
            user_timeout: Some(Duration::from_millis(1500)),
        };
        assert_eq!(*parse(&option("tcp_options", tcp)).tcp_options(), expected);
        for literal in ["", "None", "{", "{'x': 1}", "{'TCP_KEEPCNT': '3'}", "{'TCP_KEEPCNT': -1}"] {
            assert_eq!(refused(&option("tcp_options", literal)).0, "tcp_options", "{literal}");
        }
        assert_eq!(refused(&option("client_properties", "['a']")).0, "client_properties");
    }

    /// A7, U8: RabbitMQ's `auth_mechanism`, which may be there several times.
    #[test]
    fn the_first_mechanism_that_the_broker_offers_is_taken() {
        let mechanisms = |url: &str| {
            let parameters = parse(url);
            parameters.all_credentials().map(|c| format!("{} {}", c.mechanism(), c.user())).collect::<Vec<_>>()
        };
        assert_eq!(mechanisms("amqp://u:p@host"), ["PLAIN u"]);
        assert_eq!(mechanisms("amqp://u:p@host?auth_mechanism=AMQPLAIN"), ["AMQPLAIN u"]);
        assert_eq!(
            mechanisms("amqp://u:p@host?auth_mechanism=external&auth_mechanism=plain"),
            ["EXTERNAL (the certificate's)", "PLAIN u"]
        );
    }

    /// U9, U10.
    #[test]
    fn what_is_said_twice_in_other_words_is_refused() {
        for (url, both) in [
            ("amqp://host?heartbeat=1&heartbeat_interval=1", "\"heartbeat_interval\""),
            ("amqp://host?socket_timeout=1&connection_timeout=1000", "\"connection_timeout\""),
            ("amqp://host?retry_delay=1&retry_delay=1", "\"retry_delay\" is given twice"),
        ] {
            assert!(refused(url).1.contains(both), "{url}");
        }
        assert!(refused("amqp://host?verify_peer=1").1.contains("auth_mechanism, backpressure_detection"));
    }

    /// P6, U8: as pika writes it. Different: for `amqps` only, where pika turned TLS on by it; verification and TLS 1.2
    /// cannot be turned off; folders, ciphers and encrypted keys are refused by name.
    #[test]
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    fn ssl_options_are_read_as_pika_writes_them() {
        let secure = |literal: &str| option("ssl_options", literal).replace("amqp:", "amqps:");
        let shown = |url: &str| format!("{:?}", parse(url).tls().unwrap());
        let expected = TlsOptions::new().server_name("rabbit");
        let literal = "{'server_hostname': 'rabbit', 'cert_reqs': 2, 'ssl_version': 5, 'protocol': 16, 'cafile': None}";
        assert_eq!(shown(&secure(literal)), format!("{expected:?}"));
        for name in ["ca_certs", "cafile"] {
            let (told, why) = refused(&secure(&format!("{{'{name}': '/no/such/file'}}")));
            assert!(told == "tls" && why.starts_with("ca_file /no/such/file: "), "{why}");
        }
        for name in ["ca_data", "cadata"] {
            assert_eq!(refused(&secure(&format!("{{'{name}': 'no certificate'}}"))).0, "tls");
        }
        let (told, why) = refused(&secure("{'certfile': '/no/such/c', 'keyfile': '/no/such/k'}"));
        assert!(told == "tls" && why.contains("/no/such/c: "), "{why}");
        for (literal, name, problem) in [
            ("None", "ssl_options", "cannot be None"),
            ("{'cert_reqs': 0}", "ssl_options", "CERT_REQUIRED"),
            ("{'ssl_version': 3}", "ssl_options", "at least 1.2"),
            ("{'capath': '/etc'}", "capath", "cafile"),
            ("{'ciphers': 'ALL'}", "ciphers", "TlsOptions"),
            ("{'password': 'hunter2'}", "password", "encrypted"),
            ("{'certfile': 'a'}", "url", "belong together"),
            ("{'cafile': 1}", "ssl_options", "no text"),
            ("{'cafile': 'a', 'ca_certs': 'b'}", "url", "twice"),
            ("{'x': 1}", "ssl_options", "no entry \"x\""),
            ("{", "ssl_options", "dictionary"),
        ] {
            let (told, why) = refused(&secure(literal));
            assert!(told == name && why.contains(problem) && !why.contains("hunter2"), "{literal}: {told}: {why}");
        }
        for name in TLS_NAMES {
            assert!(refused(&option(name, "verify_peer")).1.contains("amqps:// only"), "{name}");
        }
        assert!(parse(&option("ssl_options", "None")).tls().is_none());
        let both = format!("{}&cacertfile=b", secure("{'cafile': 'a'}"));
        assert!(refused(&both).1.contains("twice"));
    }
}
