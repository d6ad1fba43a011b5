//! `amqp[s]://user:password@host:port/vhost?option=value`, as RabbitMQ's URI specification has it.
//!
//! The `url` crate alone cannot read it: it refuses an empty host, takes an absent password for an empty one, decodes
//! nothing, removes dots from the virtual host and spaces from around the whole. So the URL is cut up here, and only
//! the host and the options are left to that crate.

use std::{borrow::Cow, str::FromStr};

use percent_encoding::percent_decode_str;
use url::Host;

use crate::{
    config::{credentials::PlainCredentials, parameters::ConnectionParameters, uri_options},
    error::{Error, Result},
    tls,
    wire::secret::Secret,
};

/// Parses `amqp://user:password@host:port/vhost?heartbeat=60`.
///
/// User, password, host and vhost are percent-decoded. Absent parts have their defaults: `guest`, `guest`, `localhost`,
/// 5672, or 5671 for `amqps`, and `/`; the vhost also where it is empty. A user or a password that is there and empty stays empty. An `@` in
/// the password may be written as it is; an IPv6 address may have a zone, `[fe80::1%25eth0]`; `/`, `?`, `#` and `%` are written %2F, %3F, %23 and %25 everywhere.
///
/// The options are RabbitMQ's, pika's and two of our own. Any other option is an error, so that a misspelt one is not
/// overlooked, and so is one that occurs twice:
///
/// | option | meaning |
/// | --- | --- |
/// | `heartbeat` or `heartbeat_interval` | [seconds](ConnectionParameters::heartbeat) |
/// | `connection_timeout` | [milliseconds](ConnectionParameters::socket_timeout), as RabbitMQ counts |
/// | `socket_timeout` | the same in [seconds](ConnectionParameters::socket_timeout), as pika counts; a fraction is allowed here and below |
/// | `stack_timeout`, `retry_delay`, `blocked_connection_timeout` | [seconds](ConnectionParameters::stack_timeout) |
/// | `channel_max`, `frame_max`, `connection_attempts` | [numbers](ConnectionParameters::channel_max) |
/// | `locale`, `connection_name` | [text](ConnectionParameters::locale) |
/// | `backpressure_detection` | `t`, `true`, `1` or `f`, `false`, `0` |
/// | `client_properties` | a dictionary as Python writes it, `{'pod': 'a-1'}`, percent-encoded |
/// | `tcp_options` | such a dictionary with `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`, `TCP_USER_TIMEOUT`: [`TcpOptions`](crate::TcpOptions) |
/// | `connection_order` | `listed` or `random`: [`ConnectionOrder`](crate::ConnectionOrder) |
/// | `auth_mechanism` | `plain`, `amqplain`, or `external`: [ExternalCredentials](crate::ExternalCredentials) instead of a user and a password; may occur several times; the first that the broker offers is used |
/// | `ssl_options` | a dictionary with pika's names: `ca_certs` or `cafile`, `ca_data` or `cadata`, `certfile`, `keyfile`, `server_hostname`; this and the following for `amqps` only |
/// | `cacertfile` | [`TlsOptions::ca_file`](crate::TlsOptions::ca_file) |
/// | `certfile`, `keyfile` | [`TlsOptions::client_certificate_files`](crate::TlsOptions::client_certificate_files) |
/// | `server_name_indication` | [`TlsOptions::server_name`](crate::TlsOptions::server_name) |
/// | `verify` | `verify_peer`, which is always done |
///
/// `amqps://` is an error in a build without TLS, and never a connection without it.
///
/// # Errors
/// [`Error::BadParameter`] names the part that is wrong, and never repeats it, since it may be a piece of a password.
impl FromStr for ConnectionParameters {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let url = Parts::cut(url)?;
        let mut builder = Self::builder().virtual_host(virtual_host(url.path)?);
        let plain = url.userinfo.map_or_else(|| Ok(PlainCredentials::default()), credentials)?;
        if !url.host.is_empty() {
            builder = builder.host(host(url.host)?);
        }
        if !url.port.is_empty() {
            builder = builder.port(number("port", "is not a number from 1 to 65535", url.port)?);
        }
        uri_options::apply(builder, url.query, url.is_secure, plain)?.build()
    }
}

/// Returns the URL with `***` for its password, for logs. Accepts any text, also one that is no URL.
///
/// Where it is unclear which part is the password, it hides too much rather than too little.
///
/// ```
/// # use amqp_core::uri::redacted;
/// assert_eq!(redacted("amqp://user:pass@host/vhost"), "amqp://user:***@host/vhost");
/// ```
pub fn redacted(url: &str) -> Cow<'_, str> {
    let is_scheme = |scheme: &str| scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
    let scheme = url.find("://").filter(|&end| url.get(..end).is_some_and(is_scheme)).map_or(0, |end| end + 3);
    let (scheme, rest) = url.split_at_checked(scheme).unwrap_or(("", url));
    match rest.rsplit_once('@').map(|(userinfo, rest)| (userinfo.split_once(':'), rest)) {
        Some((Some((user, _)), rest)) => format!("{scheme}{user}:***@{rest}").into(),
        _ => url.into(),
    }
}

/// The parts as they are written; an absent one is empty, where that makes no difference.
struct Parts<'a> {
    is_secure: bool,
    userinfo: Option<&'a str>,
    /// An IPv6 address with its brackets.
    host: &'a str,
    port: &'a str,
    /// With its first slash.
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn cut(url: &'a str) -> Result<Self> {
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return bad("url", "a space or a control character must be percent-encoded, %20 for example");
        }
        if url.contains('#') {
            return bad("url", "a '#' must be written %23");
        }
        let (is_secure, rest) = scheme(url)?;
        let (authority, rest) =
            rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len())).unwrap_or((rest, ""));
        if rest.contains('@') {
            return bad(
                "url",
                "in a password '/' must be written %2F and '?' %3F, behind the host '@' must be written %40",
            );
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address)?;
        Ok(Self { is_secure, userinfo, host, port, path, query })
    }
}

/// Whether it is `amqps`, and the rest.
fn scheme(url: &str) -> Result<(bool, &str)> {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqp") => Ok((false, rest)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqps") && tls::IS_BUILT_IN => Ok((true, rest)),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("amqps") => {
            bad("scheme", &format!("amqps is not possible: {}", tls::NOT_BUILT_IN))
        }
        _ => bad("scheme", "a URL begins with amqp:// or amqps://"),
    }
}

fn host_and_port(address: &str) -> Result<(&str, &str)> {
    let end = if address.starts_with('[') { address.find(']').map(|end| end + 1) } else { address.find(':') };
    let (host, rest) = address.split_at_checked(end.unwrap_or(address.len())).unwrap_or((address, ""));
    match rest.strip_prefix(':') {
        Some(port) if port.contains(':') => bad("host", "an IPv6 address is written in brackets: amqp://[::1]:5672"),
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => bad("host", "only a port may follow an address in brackets"),
    }
}

fn credentials(userinfo: &str) -> Result<PlainCredentials> {
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, decoded("password", password)?),
        None => (userinfo, Secret::from("guest")),
    };
    Ok(PlainCredentials::new(text("user", user)?, password))
}

/// Percent-decoding, IPv6 addresses and international names are all done by `url`, which knows no zones: `[fe80::1%25eth0]`
/// [RFC 6874], and with a bare `%` as people write it.
fn host(host: &str) -> Result<String> {
    if let Some((address, zone)) = host.strip_suffix(']').and_then(|host| host.split_once('%')) {
        let zone = text("host", zone.strip_prefix("25").unwrap_or(zone))?;
        return match Host::parse(&format!("{address}]")) {
            Ok(Host::Ipv6(address)) if !zone.is_empty() => Ok(format!("{address}%{zone}")),
            _ => bad("host", "a zone is written behind an IPv6 address: [fe80::1%25eth0]"),
        };
    }
    match Host::parse(host) {
        Ok(Host::Domain(name)) => Ok(name),
        Ok(Host::Ipv4(address)) => Ok(address.to_string()),
        Ok(Host::Ipv6(address)) => Ok(address.to_string()),
        Err(error) => bad("host", &error.to_string()),
    }
}

/// Without its slash; an absent or empty one means `/` (pika 1.x).
fn virtual_host(path: &str) -> Result<String> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok("/".into()),
        name if name.contains('/') => bad("virtual_host", "is one segment: a '/' within it must be written %2F"),
        name => text("virtual_host", name),
    }
}

/// Digits only, where Rust would also take a sign.
pub(crate) fn number<N: FromStr>(name: &'static str, problem: &str, digits: &str) -> Result<N> {
    match digits.parse() {
        Ok(number) if digits.bytes().all(|c| c.is_ascii_digit()) => Ok(number),
        _ => bad(name, problem),
    }
}

pub(crate) fn text(name: &'static str, encoded: &str) -> Result<String> {
    String::from_utf8(octets(name, encoded)?).or_else(|_| bad(name, "is not UTF-8 when it is percent-decoded"))
}

fn decoded(name: &'static str, encoded: &str) -> Result<Secret> {
    octets(name, encoded).map(Secret::from)
}

fn octets(name: &'static str, encoded: &str) -> Result<Vec<u8>> {
    let is_escape = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !encoded.split('%').skip(1).all(is_escape) {
        return bad(name, "a '%' must be followed by two hexadecimal digits; a '%' itself is written %25");
    }
    // All at once: a buffer that grew would leave copies of a password behind.
    let mut octets = Vec::with_capacity(encoded.len());
    octets.extend(percent_decode_str(encoded));
    Ok(octets)
}

pub(crate) fn bad<T>(name: &'static str, problem: &str) -> Result<T> {
    Err(Error::BadParameter { name, problem: problem.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;
    use crate::tls::TlsOptions;

    pub(crate) fn parse(url: &str) -> ConnectionParameters {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(crate) fn refused(url: &str) -> (&'static str, String) {
        match url.parse::<ConnectionParameters>() {
            Err(Error::BadParameter { name, problem }) => (name, problem.to_string()),
            other => panic!("{url}: {other:?}"),
        }
    }

    /// User, password, host, port, vhost.
    fn parts(url: &str) -> (String, String, String, u16, String) {
        let parameters = parse(url);
        let response = parameters.credentials().response();
        let mut login =
            response.expose().split(|&c| c == 0).skip(1).map(|part| String::from_utf8(part.into()).unwrap());
        let (user, password) = (login.next().unwrap(), login.next().unwrap());
        (user, password, parameters.host().into(), parameters.port(), parameters.virtual_host().into())
    }

    /// Trial T32.
    #[test]
    fn an_ipv6_address_may_have_a_zone() {
        for url in ["amqp://[fe80::1%25eth0]:5673", "amqp://[FE80:0:0::1%eth0]:5673"] {
            let parameters = parse(url);
            assert_eq!((parameters.host(), &*parameters.endpoint()), ("fe80::1%eth0", "[fe80::1%eth0]:5673"), "{url}");
        }
        assert_eq!(parse("amqp://[fe80::1%25en%2Da]").host(), "fe80::1%en-a");
        for url in ["amqp://[fe80::1%25]", "amqp://[fe80::1%]", "amqp://[1.2.3.4%25eth0]", "amqp://[x%25eth0]"] {
            assert_eq!(refused(url).0, "host", "{url}");
        }
        assert_eq!(refused("amqp://[fe80::1%25a%20b]").0, "host");
    }

    /// Trial T32: SASL PLAIN ends each part with a zero octet.
    #[test]
    fn what_would_become_another_login_is_refused_when_it_is_built() {
        assert_eq!(refused("amqp://me%00guest:guest@host").0, "user");
        assert_eq!(refused("amqp://me:pass%00word@host").0, "password");
        assert_eq!(refused("amqp://me:pass@host/a%00b").0, "virtual_host");
        let build = |user: &str, password: &[u8]| {
            let credentials = PlainCredentials::new(user, password.to_vec());
            match ConnectionParameters::builder().credentials(credentials).build() {
                Err(Error::BadParameter { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((build("a\0b", b"x"), build("a", b"x\0")), ("user", "password"));
        let table = crate::AmqplainCredentials::new("a", b"x\0".to_vec());
        assert!(ConnectionParameters::builder().credentials(table).build().is_ok(), "AMQPLAIN carries any octet");
    }

    /// U3, U4: the examples of RabbitMQ's URI specification. One deliberate difference: `amqp://host/` is vhost `/`.
    #[test]
    fn the_examples_of_the_specification_mean_what_it_says() {
        let examples = [
            ("amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10_000, "vhost"),
            ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10_000, "v/host"),
            ("amqp://", "guest", "guest", "localhost", 5672, "/"),
            ("amqp://:@/", "", "", "localhost", 5672, "/"),
            ("amqp://user@", "user", "guest", "localhost", 5672, "/"),
            ("amqp://user:pass@", "user", "pass", "localhost", 5672, "/"),
            ("amqp://host", "guest", "guest", "host", 5672, "/"),
            ("amqp://:10000", "guest", "guest", "localhost", 10_000, "/"),
            ("amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost"),
            ("amqp://host/", "guest", "guest", "host", 5672, "/"),
            ("amqp://host/%2f", "guest", "guest", "host", 5672, "/"),
            ("amqp://[::1]", "guest", "guest", "::1", 5672, "/"),
        ];
        for (url, user, password, host, port, vhost) in examples {
            assert_eq!(parts(url), (user.into(), password.into(), host.into(), port, vhost.into()), "{url}");
        }
    }

    /// U1, U2.
    #[test]
    fn the_scheme_is_amqp_and_its_port_5672() {
        assert_eq!(parse("AMQP://rabbit1/web_messages").port(), 5672);
        for url in
            ["http://host", "amqp+tls://host", "amqp:host", "amqp:/host", "localhost:5672", "host", "", "://", "//host"]
        {
            assert_eq!(refused(url).0, "scheme", "{url}");
        }
    }

    /// An error naming the feature, never plaintext.
    #[test]
    #[cfg(not(any(feature = "rustls", feature = "native-tls")))]
    fn amqps_is_refused_without_tls() {
        let (name, problem) = refused("amqps://user:pass@host");
        assert!(name == "scheme" && problem.contains("rustls") && problem.contains("native-tls"), "{problem}");
        let builder = ConnectionParameters::builder().tls(TlsOptions::new());
        assert!(matches!(builder.build(), Err(Error::BadParameter { name: "tls", .. })));
    }

    /// P6, U1, U2.
    #[test]
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    fn amqps_is_tls_with_a_port_and_options_of_its_own() {
        use crate::TlsBackend::{NativeTls, Rustls};
        let secure = |url: &str, options: TlsOptions| {
            let parameters = parse(url);
            assert_eq!(format!("{:?}", parameters.tls().unwrap()), format!("{options:?}"), "{url}");
            parameters.port()
        };
        assert_eq!(secure("AMQPS://host/v", TlsOptions::new()), 5671);
        assert_eq!(secure("amqps://host:5672?verify=verify_peer", TlsOptions::new()), 5672);
        assert_eq!(
            secure("amqps://host?server_name_indication=rabbit&heartbeat=1", TlsOptions::new().server_name("rabbit")),
            5671
        );
        let plain = |url: &str| parse(url).into_builder().tls(None).build().unwrap().port();
        assert_eq!((plain("amqps://host"), plain("amqps://host:5671")), (5672, 5671), "a port that was chosen stays");
        assert!(parse("amqp://host").tls().is_none());
        assert_eq!(parse("amqps://host?auth_mechanism=external").credentials().mechanism(), "EXTERNAL");
        for (url, name, problem) in [
            ("amqps://host?verify=verify_none", "verify", "cacertfile"),
            ("amqps://host?certfile=a", "url", "belong together"),
            ("amqps://host?auth_mechanism=x", "auth_mechanism", "none of"),
            ("amqp://host?cacertfile=a", "url", "amqps:// only"),
            ("amqps://host?cacertfile=/no/such/file", "tls", "ca_file /no/such/file: "),
            ("amqps://host?certfile=/no/such/file&keyfile=/no/key", "tls", "/no/such/file: "),
        ] {
            let (told, why) = refused(url);
            assert!(told == name && why.contains(problem), "{url}: {told}: {why}");
        }
        for (backend, is_there) in [(Rustls, cfg!(feature = "rustls")), (NativeTls, cfg!(feature = "native-tls"))] {
            let built = ConnectionParameters::builder().tls(TlsOptions::new().backend(backend)).build();
            assert_eq!(built.is_ok(), is_there, "{backend:?}: {built:?}");
        }
    }

    /// U3. Different: pika decoded neither.
    #[test]
    fn user_and_password_are_percent_decoded() {
        let (user, password, ..) = parts("amqp://a%40b:%3A%2F%3F%23%25+@host");
        assert_eq!((&*user, &*password), ("a@b", ":/?#%+"), "and + is no space");
        let octets = parse("amqp://u:%FF@host").credentials().response();
        assert_eq!(octets.expose(), b"\0u\0\xFF", "a password is octets");
    }

    /// Users paste those.
    #[test]
    fn a_password_may_hold_an_at_sign_and_a_colon_as_they_are() {
        assert_eq!(
            parts("amqp://user:p@ss:w@rd@host:1/v"),
            ("user".into(), "p@ss:w@rd".into(), "host".into(), 1, "v".into())
        );
    }

    /// U4. Different: pika dropped further segments without a word, and refused `/` alone.
    #[test]
    fn a_vhost_is_one_segment() {
        for url in ["amqp://host/a/b", "amqp://host//", "amqp://host/a/", "amqp://host//a"] {
            let (name, problem) = refused(url);
            assert!(name == "virtual_host" && problem.contains("%2F"), "{url}: {problem}");
        }
        assert_eq!(parse("amqp://host/a%2Fb").virtual_host(), "a/b");
        assert_eq!(parse("amqp://host/%C3%A9").virtual_host(), "é");
        for dots in [".", "..", "%2e%2E"] {
            let vhost = parse(&format!("amqp://host/{dots}")).virtual_host().to_owned();
            assert!(vhost.bytes().all(|c| c == b'.'), "{dots} is no way up, but a name: {vhost}");
        }
    }

    /// U5: lapin turns `[::1]` into localhost.
    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let parameters = parse("amqp://user@[2001:DB8::1]:5673/v");
        assert_eq!((parameters.host(), &*parameters.endpoint()), ("2001:db8::1", "[2001:db8::1]:5673"));
        for url in
            ["amqp://::1", "amqp://2001:db8::1:5672", "amqp://[::1", "amqp://[::1]x", "amqp://[]", "amqp://[rabbit]"]
        {
            assert_eq!(refused(url).0, "host", "{url}");
        }
    }

    #[test]
    fn a_host_is_a_name_that_can_exist() {
        assert_eq!(parse("amqp://my_rabbit-1.Example").host(), "my_rabbit-1.example");
        assert_eq!(parse("amqp://127.0.0.1").host(), "127.0.0.1");
        assert_eq!(parse("amqp://bücher.example").host(), "xn--bcher-kva.example");
        for url in ["amqp://a%20b", "amqp://a%00", "amqp://a%2fb", "amqp://%ff", "amqp://a%", "amqp://a|b"] {
            assert_eq!(refused(url).0, "host", "{url}");
        }
    }

    #[test]
    fn a_port_is_a_number_that_can_exist() {
        assert_eq!(parse("amqp://host:").port(), 5672, "RFC 3986 allows the colon alone");
        for port in ["0", "65536", "+5672", "-1", "amqp", "5672x", "99999999999999999999"] {
            assert_eq!(refused(&format!("amqp://host:{port}")).0, "port", "{port}");
        }
    }

    /// P5, U7.
    #[test]
    fn a_heartbeat_is_given_in_seconds() {
        assert_eq!(parse("amqp://host").heartbeat(), None);
        assert_eq!(parse("amqp://host?").heartbeat(), None);
        assert_eq!(parse("amqp://host?heartbeat=0").heartbeat(), Some(0));
        assert_eq!(parse("amqp://host/v?heartbeat=60").heartbeat(), Some(60));
        for value in ["", "x", "-1", "+1", "65536", "1.5"] {
            assert_eq!(refused(&format!("amqp://host?heartbeat={value}")).0, "heartbeat", "{value}");
        }
    }

    /// U9, U10. Different: 0.9 took the first and ignored the rest; 1.x refuses as we do.
    #[test]
    fn an_unknown_or_repeated_option_is_refused_by_name() {
        for url in ["amqp://host?hartbeat=60", "amqp://host/v?heartbeat=1&hartbeat=60", "amqp://host?hartbeat"] {
            let (name, problem) = refused(url);
            assert!(name == "url" && problem.contains("\"hartbeat\""), "{url}: {problem}");
        }
        assert!(refused("amqp://host?heartbeat=1&heartbeat=1").1.contains("twice"));
    }

    /// The `url` crate would drop these from the ends without a word.
    #[test]
    fn spaces_and_control_characters_are_refused() {
        for url in [" amqp://host", "amqp://host\n", "amqp://ho st", "amqp://host/\u{7f}", "amqp://us\ter@host"] {
            assert_eq!(refused(url).0, "url", "{url:?}");
        }
    }

    #[test]
    fn a_percent_sign_stands_before_two_digits() {
        for url in ["amqp://u:50%@host", "amqp://u:50%off@host", "amqp://u:%4@host"] {
            assert_eq!(refused(url).0, "password", "{url}");
        }
        assert_eq!(refused("amqp://u%:p@host").0, "user");
        assert_eq!(refused("amqp://%ff:p@host").0, "user");
        assert_eq!(refused("amqp://u%00admin:p@host").0, "user");
        assert_eq!(refused("amqp://host/%zz").0, "virtual_host");
        assert_eq!(refused("amqp://host/%ff").0, "virtual_host");
    }

    /// Faults 15, U11: a password that was not encoded is cut in the wrong place, and still not shown.
    #[test]
    fn a_password_is_not_repeated_in_an_error() {
        let passwords = [
            "hunter2%",
            "hunter2/x",
            "x/hunter2",
            "hunter2?x",
            "x?hunter2",
            "hunter2#x",
            "x#hunter2",
            "1/hunter2",
            "hunter2 x",
        ];
        for password in passwords {
            for url in [
                format!("amqp://user:{password}@host"),
                format!("amqps://user:{password}@host"),
                format!("amqp://user:{password}@host:port/v?heartbeat=x"),
                format!("user:{password}@host"),
            ] {
                let error = url.parse::<ConnectionParameters>().unwrap_err();
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error:?}");
                assert!(!redacted(&url).contains("hunter2"), "{url}: {}", redacted(&url));
            }
        }
        let parameters = parse("amqp://user:hunter2@host");
        assert!(!format!("{parameters:?}").contains("hunter2"));
    }

    /// U11.
    #[test]
    fn a_url_is_shown_without_its_password() {
        let shown = [
            ("amqp://user:pass@host:5672/v?heartbeat=1", "amqp://user:***@host:5672/v?heartbeat=1"),
            ("amqp://user:p@s:s@host", "amqp://user:***@host"),
            ("amqp://:pass@host", "amqp://:***@host"),
            ("amqp://user@host", "amqp://user@host"),
            ("amqp://host:5672/v", "amqp://host:5672/v"),
            ("user:pass@host", "user:***@host"),
            ("user:p://x@host", "user:***@host"),
            ("amqp:user:pass@host", "amqp:***@host"),
            ("", ""),
        ];
        for (url, expected) in shown {
            assert_eq!(redacted(url), expected);
        }
    }

    proptest! {
        /// Faults 16: what is encoded is what is decoded.
        #[test]
        fn what_is_encoded_comes_back(
            user in "[^\0]{0,20}",
            password in "[^\0]*",
            vhost in "\\PC{1,20}",
            port in 1..=u16::MAX,
        ) {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let url = format!("amqp://{}:{}@host:{port}/{}", encode(&user), encode(&password), encode(&vhost));
            prop_assert_eq!(parts(&url), (user, password, "host".into(), port, vhost));
        }

        #[test]
        fn no_text_panics(text in ".*", url in "amqp://[a-z:@/?#%\\[\\]0-9&=é]{0,40}") {
            for url in [text, url] {
                let _ = url.parse::<ConnectionParameters>();
                let _ = redacted(&url);
            }
        }
    }
}
