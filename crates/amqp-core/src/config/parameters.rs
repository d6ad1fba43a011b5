//! Where to connect to, as whom, and within which limits.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    config::{
        credentials::{Credentials, PlainCredentials},
        endpoint::{ConnectionOrder, Endpoint, bare},
        tcp_options::TcpOptions,
    },
    error::{Error, Result},
    tls::{Tls, TlsOptions},
    wire::{
        codec::{Wire, Writer},
        table::{Table, Value},
    },
};

/// Holds what a connection is opened with: hosts, login, timeouts and limits, with the names and defaults of pika 1.x.
///
/// Parameters never change: negotiated values are not written back, so that the next connection from the same parameters
/// asks for the same. Cloning is cheap.
///
/// ```
/// # use amqp_core::parameters::ConnectionParameters;
/// let local = ConnectionParameters::default();
/// let remote: ConnectionParameters = "amqp://user:pass@rabbit.example/jobs".parse()?;
/// let other = ConnectionParameters::builder().host("rabbit.example").heartbeat(Some(30)).build()?;
/// assert_eq!(&*other.endpoint(), "rabbit.example:5672");
/// # Ok::<(), amqp_core::error::Error>(())
/// ```
#[doc(alias = "URLParameters")]
#[doc(alias = "AMQPUri")]
#[doc(alias = "OpenConnectionArguments")]
#[derive(Clone)]
pub struct ConnectionParameters {
    fields: Arc<Fields>,
    endpoint: Arc<str>,
}

/// Builds [`ConnectionParameters`], and checks them in [`build`](Self::build). Each setter is described at the getter of its name.
#[doc(alias = "ConnectionProperties")]
#[derive(Clone, Default)]
#[must_use]
pub struct ParametersBuilder(Fields);

/// From the broker's proposal to the interval, both in seconds.
type HeartbeatBy = Arc<dyn Fn(u16) -> u16 + Send + Sync>;

/// Parameters that are copied out: each line is a field with its default, a getter and a setter.
macro_rules! copied {
    ($( $(#[$doc:meta])* $name:ident: $Type:ty = $default:expr; )*) => {
        #[derive(Clone)]
        struct Fields {
            endpoints: Vec<Endpoint>,
            virtual_host: String,
            credentials: Arc<dyn Credentials>,
            more_credentials: Vec<Arc<dyn Credentials>>,
            heartbeat_by: Option<HeartbeatBy>,
            locale: String,
            client_properties: Table,
            connection_name: Option<String>,
            tcp_options: TcpOptions,
            tls: Option<Tls>,
            $( $name: $Type, )*
        }

        impl Default for Fields {
            fn default() -> Self {
                Self {
                    endpoints: vec![],
                    virtual_host: "/".into(),
                    credentials: Arc::new(PlainCredentials::default()),
                    more_credentials: vec![],
                    heartbeat_by: None,
                    locale: "en_US".into(),
                    client_properties: Table::new(),
                    connection_name: None,
                    tcp_options: TcpOptions::default(),
                    tls: None,
                    $( $name: $default, )*
                }
            }
        }

        impl ConnectionParameters {
            $(
                $(#[$doc])*
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                pub fn $name(&self) -> $Type {
                    self.fields.$name
                }
            )*
        }

        impl ParametersBuilder {
            $(
                #[doc = concat!("Sets [`ConnectionParameters::", stringify!($name), "`].")]
                pub fn $name(mut self, $name: $Type) -> Self {
                    self.0.$name = $name;
                    self
                }
            )*
        }
    };
}

copied! {
    /// Returns how many channels may be open at once. 0 takes what the broker offers; a larger value gets no more than that.
    channel_max: u16 = 0;

    /// Returns the largest frame in octets, including its envelope of 8: 4096 to 2^31 - 1, or 0 for what the broker offers. A
    /// larger value gets no more than that. RabbitMQ 4 wants at least 8192.
    frame_max: u32 = 131_072;

    /// Returns the seconds between heartbeats. `None` takes what the broker proposes, 0 turns heartbeats off, any other number
    /// replaces the broker's. After two intervals of silence the connection is closed.
    heartbeat: Option<u16> = None;

    /// Returns how often all endpoints, with all their addresses, are tried before connecting fails. At least 1.
    ///
    /// It is not tried again after the broker has explicitly refused the login or the virtual host; it is after a limit of
    /// connections is reached, and where a virtual host is down.
    connection_attempts: u32 = 1;

    /// Returns the pause before the next of the [`connection_attempts`](Self::connection_attempts). There is none between endpoints.
    retry_delay: Duration = Duration::from_secs(2);

    /// Returns how long one address may take to accept the TCP connection. Over 0.
    socket_timeout: Duration = Duration::from_secs(10);

    /// Returns how long one endpoint may take until the connection is open: name lookup, TCP, TLS and the AMQP handshake
    /// together. Each endpoint has that time, each time that it is tried. Over 0.
    stack_timeout: Duration = Duration::from_secs(15);

    /// Returns the order in which several endpoints are tried.
    connection_order: ConnectionOrder = ConnectionOrder::Listed;

    /// Returns whether back-pressure callbacks are also called when the outbound buffer is longer than ten average frames, or
    /// [another number of them](crate::ConnectionHandle::set_backpressure_multiplier).
    backpressure_detection: bool = false;

    /// Returns how long the broker may block publishers before the connection is closed; `None` is for ever. Over 0.
    blocked_connection_timeout: Option<Duration> = None;

    /// Returns how long the broker may take to reply to a method; `None` is for ever. The channel stays usable after a timeout. Over 0.
    rpc_timeout: Option<Duration> = Some(Duration::from_secs(30));

    /// Returns how long the broker may take to reply to connection.close before the socket is closed without a reply. Over 0.
    close_timeout: Duration = Duration::from_secs(10);

    /// Returns the largest body in octets of a message that is received; larger ones are refused at their header.
    max_message_size: u64 = 128 * 1024 * 1024;

    /// Returns the size of the outbound buffer in octets above which publishers are asked to wait. At least 1.
    outbound_high_water: usize = 4 * 1024 * 1024;
    /// Returns the size of the outbound buffer in octets at which waiting publishers continue; `None` is half of
    /// [`outbound_high_water`](Self::outbound_high_water).
    outbound_low_water: Option<usize> = None;

    /// Returns the size of the outbound buffer in octets above which publishes are refused; `None` is no limit. Not below
    /// [`outbound_high_water`](Self::outbound_high_water).
    outbound_limit: Option<usize> = Some(256 * 1024 * 1024);
}

impl ConnectionParameters {
    /// Returns the defaults for a broker on `host`.
    ///
    /// A host that does not exist is refused when it is looked up, not here.
    pub fn new(host: impl Into<String>) -> Self {
        Self::from_fields(Self::builder().host(host).0)
    }

    /// Returns a builder that starts with the defaults.
    pub fn builder() -> ParametersBuilder {
        ParametersBuilder::default()
    }

    /// Returns a builder that starts with these parameters.
    pub fn into_builder(self) -> ParametersBuilder {
        ParametersBuilder(Arc::unwrap_or_clone(self.fields))
    }

    /// Returns the broker's name or address, of several endpoints the first one's; an IPv6 address has no brackets here.
    /// Default: `"localhost"`.
    pub fn host(&self) -> &str {
        self.endpoints().first().map_or(LOCALHOST, Endpoint::host)
    }

    /// Returns the TCP port, of several endpoints the first one's. Not 0. Default: 5672, and 5671 with [TLS](Self::tls).
    pub fn port(&self) -> u16 {
        self.endpoints().first().map_or(5672, Endpoint::port)
    }

    /// Returns the hosts and ports to connect to, the nodes of a cluster for example. At least one.
    ///
    /// They are tried in their [order](Self::connection_order) until a connection is open. TLS verifies each by its own
    /// host, unless [a name](TlsOptions::server_name) is given; everything else is the same for all.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.fields.endpoints
    }

    /// Returns the options of the TCP socket. Default: the operating system's.
    pub fn tcp_options(&self) -> &TcpOptions {
        &self.fields.tcp_options
    }

    /// Returns the options of TLS, or `None` for a plain connection. Default: `None`.
    #[doc(alias = "ssl_options")]
    pub fn tls(&self) -> Option<&TlsOptions> {
        self.secure().map(|tls| &tls.options)
    }

    pub(crate) fn secure(&self) -> Option<&Tls> {
        self.fields.tls.as_ref()
    }

    /// Returns the virtual host [§1.4.2.7], at most 255 octets. Default: `"/"`.
    pub fn virtual_host(&self) -> &str {
        &self.fields.virtual_host
    }

    /// Returns the credentials to log in with. Default: the user `guest` with the password `guest`.
    pub fn credentials(&self) -> &Arc<dyn Credentials> {
        &self.fields.credentials
    }

    /// Returns the credentials and their [alternatives](ParametersBuilder::or_credentials), in order of preference.
    pub fn all_credentials(&self) -> impl Iterator<Item = &Arc<dyn Credentials>> {
        std::iter::once(&self.fields.credentials).chain(&self.fields.more_credentials)
    }

    /// The heartbeat to ask for when the broker proposes this one; both in seconds, 0 is off.
    pub(crate) fn heartbeat_for(&self, proposed: u16) -> u16 {
        match (&self.fields.heartbeat_by, self.heartbeat()) {
            (Some(heartbeat_by), _) => heartbeat_by(proposed),
            (None, Some(heartbeat)) => heartbeat,
            (None, None) => proposed,
        }
    }

    /// Returns the language of the broker's messages, which RabbitMQ ignores. At most 255 octets.
    /// Default: `"en_US"`.
    pub fn locale(&self) -> &str {
        &self.fields.locale
    }

    /// Returns the program's additions to the [`start_properties`](Self::start_properties). Default: none.
    pub fn client_properties(&self) -> &Table {
        &self.fields.client_properties
    }

    /// Returns the connection's name in RabbitMQ's management interface and its logs. Default: `None`.
    pub fn connection_name(&self) -> Option<&str> {
        self.fields.connection_name.as_deref()
    }

    /// Returns `host:port` as errors and logs show it, of several endpoints the first one's. The endpoint in use is known to
    /// the [connection](crate::ConnectionHandle::endpoint).
    pub fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.endpoint)
    }

    /// Returns the client properties that connection.start-ok sends to the broker [§1.4.2.2].
    ///
    /// The program's [`client_properties`](Self::client_properties) replace the library's. `capabilities` are merged one by
    /// one, so that naming one does not turn the others off.
    pub fn start_properties(&self) -> Table {
        let mut properties = Table::new()
            .with("product", "pooka")
            .with("platform", format!("Rust ({})", std::env::consts::OS))
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("information", concat!("Licensed under ", env!("CARGO_PKG_LICENSE")));
        if let Some(name) = self.connection_name() {
            properties.insert("connection_name", name);
        }
        let mut capabilities: Table = CAPABILITIES.into_iter().map(|name| (name, true)).collect();
        for (key, value) in self.client_properties().iter() {
            match value {
                Value::Table(theirs) if key == "capabilities" => capabilities.extend(theirs.clone()),
                _ => drop(properties.insert(key, value.clone())),
            }
        }
        // A program that sets `capabilities` to something that is no table gets what it has set.
        if properties.get("capabilities").is_none() {
            properties.insert("capabilities", capabilities);
        }
        properties
    }

    fn from_fields(mut fields: Fields) -> Self {
        let port = if fields.tls.is_some() { 5671 } else { 5672 };
        fields.first(); // there is one at least
        for endpoint in fields.endpoints.iter_mut().filter(|endpoint| endpoint.by_default) {
            endpoint.port = port;
        }
        let endpoint = fields.first().to_string().into();
        Self { endpoint, fields: Arc::new(fields) }
    }
}

impl Default for ConnectionParameters {
    fn default() -> Self {
        Self::from_fields(Fields::default())
    }
}

impl fmt::Debug for ConnectionParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.show("ConnectionParameters", f)
    }
}

impl ParametersBuilder {
    /// Sets [`ConnectionParameters::host`]. An IPv6 address may stand in brackets. Of several endpoints the first one's
    /// is set.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.0.first().host = bare(host.into());
        self
    }

    /// Sets [`ConnectionParameters::port`]. Of several endpoints the first one's is set.
    pub fn port(mut self, port: u16) -> Self {
        let first = self.0.first();
        (first.port, first.by_default) = (port, false);
        self
    }

    /// Adds a host and port to connect to, after those that are set already.
    ///
    /// ```
    /// # use amqp_core::{ConnectionOrder, ConnectionParameters};
    /// let cluster = ConnectionParameters::builder()
    ///     .endpoint("rabbit-1", 5672)
    ///     .endpoint("rabbit-2", 5672)
    ///     .connection_order(ConnectionOrder::Random)
    ///     .build()?;
    /// assert_eq!(cluster.endpoints().len(), 2);
    /// let one_more = "amqp://rabbit-1/jobs".parse::<ConnectionParameters>()?.into_builder().endpoint("::1", 5673).build()?;
    /// assert_eq!(one_more.endpoints()[1].to_string(), "[::1]:5673");
    /// # Ok::<(), amqp_core::Error>(())
    /// ```
    pub fn endpoint(mut self, host: impl Into<String>, port: u16) -> Self {
        self.0.endpoints.push(Endpoint::new(host, port));
        self
    }

    /// Replaces all of the [`ConnectionParameters::endpoints`]; an empty list means `localhost`.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.0.endpoints = endpoints.into_iter().collect();
        self
    }

    /// Sets [`ConnectionParameters::tcp_options`].
    pub fn tcp_options(mut self, tcp_options: TcpOptions) -> Self {
        self.0.tcp_options = tcp_options;
        self
    }

    /// Sets [`ConnectionParameters::tls`]; `None` turns TLS off. Its files are read by [`build`](Self::build).
    #[doc(alias = "ssl_options")]
    pub fn tls(mut self, tls: impl Into<Option<TlsOptions>>) -> Self {
        self.0.tls = tls.into().map(Tls::new);
        self
    }

    /// Sets [`ConnectionParameters::virtual_host`], as it is: nothing is decoded, and an empty one stays empty.
    pub fn virtual_host(mut self, virtual_host: impl Into<String>) -> Self {
        self.0.virtual_host = virtual_host.into();
        self
    }

    /// Sets [`ConnectionParameters::credentials`]. An [`Arc`] of credentials is accepted too, to share them.
    pub fn credentials(mut self, credentials: impl Credentials + 'static) -> Self {
        self.0.credentials = Arc::new(credentials);
        self.0.more_credentials.clear();
        self
    }

    /// Adds credentials for brokers that do not offer the mechanism of the ones before.
    pub fn or_credentials(mut self, credentials: impl Credentials + 'static) -> Self {
        self.0.more_credentials.push(Arc::new(credentials));
        self
    }

    /// Sets a function that chooses the heartbeat from the broker's proposal; both in seconds, 0 is off. It replaces
    /// [`heartbeat`](Self::heartbeat). The loop calls it, so it must not block.
    pub fn heartbeat_by(mut self, choose: impl Fn(u16) -> u16 + Send + Sync + 'static) -> Self {
        self.0.heartbeat_by = Some(Arc::new(choose));
        self
    }

    /// Sets [`ConnectionParameters::locale`].
    pub fn locale(mut self, locale: impl Into<String>) -> Self {
        self.0.locale = locale.into();
        self
    }

    /// Sets [`ConnectionParameters::client_properties`].
    pub fn client_properties(mut self, client_properties: Table) -> Self {
        self.0.client_properties = client_properties;
        self
    }

    /// Sets [`ConnectionParameters::connection_name`].
    pub fn connection_name(mut self, connection_name: impl Into<String>) -> Self {
        self.0.connection_name = Some(connection_name.into());
        self
    }

    /// Returns the parameters.
    ///
    /// # Errors
    /// [`Error::BadParameter`] for the first one whose value is not allowed.
    pub fn build(mut self) -> Result<ConnectionParameters> {
        self.0.tls.as_mut().map_or(Ok(()), Tls::prepare)?;
        let parameters = ConnectionParameters::from_fields(self.0);
        check(&parameters)?;
        Ok(parameters)
    }
}

impl fmt::Debug for ParametersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show("ParametersBuilder", f)
    }
}

impl Fields {
    /// The first endpoint; one is added where there is none.
    fn first(&mut self) -> &mut Endpoint {
        if self.endpoints.is_empty() {
            self.endpoints.push(Endpoint { host: LOCALHOST.into(), port: 5672, by_default: true });
        }
        self.endpoints.first_mut().expect("one has been pushed if there was none")
    }

    /// Leaves out the password, and the properties, which may hold secrets.
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("endpoints", &self.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>())
            .field("tls", &self.tls.as_ref().map(|tls| &tls.options))
            .field("virtual_host", &self.virtual_host)
            .field("user", &self.credentials.user())
            .finish_non_exhaustive()
    }
}

fn check(parameters: &ConnectionParameters) -> Result<()> {
    let fields = &*parameters.fields;
    let limit = fields.outbound_limit.unwrap_or(usize::MAX);
    for endpoint in &fields.endpoints {
        require("host", "is empty, or holds spaces or control characters", is_host(endpoint.host()))?;
        require("port", "cannot be 0", endpoint.port() != 0)?;
    }
    require("virtual_host", "is longer than 255 octets", fields.virtual_host.len() <= 255)?;
    require("virtual_host", "holds a zero octet", !fields.virtual_host.contains('\0'))?;
    require("locale", "holds a zero octet", !fields.locale.contains('\0'))?;
    parameters.all_credentials().try_for_each(Credentials::check)?;
    require("locale", "is longer than 255 octets", fields.locale.len() <= 255)?;
    require(
        "frame_max",
        "must be 0 or from 4096 to 2147483647",
        matches!(fields.frame_max, 0 | FRAME_MAX_LEAST..=FRAME_MAX_MOST),
    )?;
    require("connection_attempts", "must be at least 1", fields.connection_attempts != 0)?;
    for (name, timeout) in [
        ("socket_timeout", Some(fields.socket_timeout)),
        ("stack_timeout", Some(fields.stack_timeout)),
        ("blocked_connection_timeout", fields.blocked_connection_timeout),
        ("rpc_timeout", fields.rpc_timeout),
        ("close_timeout", Some(fields.close_timeout)),
    ] {
        require(name, "must be over 0", timeout != Some(Duration::ZERO))?;
    }
    let TcpOptions { keep_idle, keep_interval, keep_count, .. } = fields.tcp_options;
    let probes =
        [keep_idle, keep_interval].into_iter().flatten().all(|time| time.as_secs() > 0) && keep_count != Some(0);
    require("tcp_options", "keepalive takes at least 1 s, and at least 1 probe", probes)?;
    require("outbound_high_water", "must be at least 1", fields.outbound_high_water != 0)?;
    let low = fields.outbound_low_water.unwrap_or_default();
    require("outbound_low_water", "must not be above outbound_high_water", low <= fields.outbound_high_water)?;
    require("outbound_limit", "must not be below outbound_high_water", limit >= fields.outbound_high_water)?;
    fields
        .client_properties
        .put(&mut Writer::new(&mut Vec::new()))
        .map_err(|invalid| Error::BadParameter { name: "client_properties", problem: invalid.to_string().into() })
}

fn require(name: &'static str, problem: &str, holds: bool) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::BadParameter { name, problem: problem.into() }) }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What this client can do beyond AMQP 0-9-1; the broker does not use what is not listed.
const CAPABILITIES: [&str; 6] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
];

const LOCALHOST: &str = "localhost";

/// `frame-min-size` [§1.1].
const FRAME_MAX_LEAST: u32 = 4096;

/// Sizes are signed in many brokers and clients.
const FRAME_MAX_MOST: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ParametersBuilder {
        ConnectionParameters::builder()
    }

    /// The parameter that `build` refuses.
    fn refused(builder: ParametersBuilder) -> &'static str {
        match builder.build() {
            Err(Error::BadParameter { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    /// P1, P2, P10.
    #[test]
    fn by_default_it_is_guest_at_localhost() {
        let parameters = ConnectionParameters::default();
        assert_eq!((parameters.host(), parameters.port(), parameters.virtual_host()), ("localhost", 5672, "/"));
        assert_eq!(parameters.endpoints(), [Endpoint::new("localhost", 5672)]);
        assert_eq!(parameters.credentials().response().expose(), b"\0guest\0guest");
        assert_eq!(parameters.all_credentials().count(), 1);
        assert_eq!(parameters.locale(), "en_US");
        assert!(parameters.tls().is_none());
        assert!(parameters.into_builder().build().is_ok(), "and that is allowed");
        let other = builder().or_credentials(PlainCredentials::default()).credentials(PlainCredentials::new("u", "p"));
        let users: Vec<_> = other.build().unwrap().all_credentials().map(|c| c.user().to_owned()).collect();
        assert_eq!(users, ["u"], "who says as whom means nobody else");
    }

    /// P3, P4, P5. Different: the heartbeat is the broker's, as in pika 1.x; 0.9 had none.
    #[test]
    fn by_default_the_limits_are_the_brokers() {
        let parameters = ConnectionParameters::default();
        assert_eq!((parameters.channel_max(), parameters.frame_max(), parameters.heartbeat()), (0, 131_072, None));
        assert_eq!((parameters.heartbeat_for(60), parameters.heartbeat_for(0)), (60, 0));
        let chosen = builder().heartbeat(Some(5)).build().unwrap();
        assert_eq!((chosen.heartbeat_for(60), chosen.heartbeat_for(0)), (5, 5));
        let by = builder().heartbeat(Some(5)).heartbeat_by(|proposed| proposed / 2).build().unwrap();
        assert_eq!(by.heartbeat_for(60), 30);
    }

    /// P7, P8, P9. Different: 10 s as in pika 1.x, for 0.9's 0.25 s do not reach far.
    #[test]
    fn by_default_there_is_one_attempt_and_ten_seconds_for_a_socket() {
        let parameters = ConnectionParameters::default();
        assert_eq!((parameters.connection_attempts(), parameters.retry_delay()), (1, Duration::from_secs(2)));
        assert_eq!(parameters.socket_timeout(), Duration::from_secs(10));
    }

    /// P11, P12.
    #[test]
    fn by_default_the_rest_is_that_of_pika_1() {
        let parameters = ConnectionParameters::default();
        assert_eq!(parameters.stack_timeout(), Duration::from_secs(15));
        assert!(!parameters.backpressure_detection());
        assert_eq!(parameters.blocked_connection_timeout(), None);
        assert_eq!(parameters.connection_name(), None);
        assert_eq!(*parameters.tcp_options(), TcpOptions::default());
        assert!(parameters.client_properties().is_empty());
    }

    /// P1, U5.
    #[test]
    fn endpoints_stand_behind_the_host_in_their_order() {
        let shown = |builder: ParametersBuilder| {
            let parameters = builder.build().unwrap();
            parameters.endpoints().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(builder().endpoint("a", 1).endpoint("[::1]", 2)), ["a:1", "[::1]:2"]);
        assert_eq!(shown(builder().host("a").endpoint("b", 1)), ["a:5672", "b:1"]);
        assert_eq!(shown(builder().port(7)), ["localhost:7"]);
        assert_eq!(shown(builder().endpoint("b", 1).host("a").port(7)), ["a:7"]);
        assert_eq!(shown(ConnectionParameters::default().into_builder().endpoint("b", 1)), ["localhost:5672", "b:1"]);
        assert_eq!(shown(builder().endpoint("a", 1).endpoints([])), ["localhost:5672"]);
        assert_eq!(refused(builder().endpoint("a", 1).endpoint("b", 0)), "port");
        assert_eq!(refused(builder().endpoint("a", 1).endpoint("b c", 1)), "host");
    }

    /// PR12, PR17: none infinite by default.
    #[test]
    fn everything_is_bounded_by_default() {
        let parameters = ConnectionParameters::default();
        assert_eq!(parameters.rpc_timeout(), Some(Duration::from_secs(30)));
        assert_eq!(parameters.close_timeout(), Duration::from_secs(10));
        assert_eq!(parameters.max_message_size(), 128 << 20);
        assert_eq!((parameters.outbound_high_water(), parameters.outbound_limit()), (4 << 20, Some(256 << 20)));
    }

    #[test]
    fn what_is_set_is_what_is_there() {
        let parameters = builder()
            .host("rabbit")
            .port(5673)
            .virtual_host("jobs")
            .credentials(PlainCredentials::new("user", "pass"))
            .channel_max(7)
            .frame_max(8192)
            .heartbeat(Some(0))
            .connection_attempts(3)
            .retry_delay(Duration::ZERO)
            .locale("de_DE")
            .backpressure_detection(true)
            .blocked_connection_timeout(Some(Duration::from_secs(300)))
            .rpc_timeout(None)
            .outbound_limit(None)
            .connection_name("worker 1")
            .build()
            .unwrap();
        assert_eq!((parameters.host(), parameters.port(), parameters.virtual_host()), ("rabbit", 5673, "jobs"));
        assert_eq!(parameters.credentials().user(), "user");
        assert_eq!((parameters.channel_max(), parameters.frame_max(), parameters.heartbeat()), (7, 8192, Some(0)));
        assert_eq!((parameters.connection_attempts(), parameters.retry_delay()), (3, Duration::ZERO));
        assert_eq!((parameters.locale(), parameters.backpressure_detection()), ("de_DE", true));
        assert_eq!(parameters.blocked_connection_timeout(), Some(Duration::from_secs(300)));
        assert_eq!((parameters.rpc_timeout(), parameters.outbound_limit()), (None, None));
        assert_eq!(parameters.connection_name(), Some("worker 1"));
    }

    /// P7, P9, P13: wrong range at construction, never at connect.
    #[test]
    fn a_parameter_out_of_range_is_refused_by_name() {
        let long = "v".repeat(256);
        for host in ["", "a b", "a\n", "a\0"] {
            assert_eq!(refused(builder().host(host)), "host");
        }
        for frame_max in [1, 4095, 1 << 31, u32::MAX] {
            assert_eq!(refused(builder().frame_max(frame_max)), "frame_max");
        }
        assert_eq!(refused(builder().port(0)), "port");
        assert_eq!(refused(builder().virtual_host(long.clone())), "virtual_host");
        assert_eq!(refused(builder().locale(long)), "locale");
        assert_eq!(refused(builder().connection_attempts(0)), "connection_attempts");
        assert_eq!(refused(builder().socket_timeout(Duration::ZERO)), "socket_timeout");
        assert_eq!(refused(builder().stack_timeout(Duration::ZERO)), "stack_timeout");
        assert_eq!(refused(builder().close_timeout(Duration::ZERO)), "close_timeout");
        assert_eq!(refused(builder().rpc_timeout(Some(Duration::ZERO))), "rpc_timeout");
        let blocked = builder().blocked_connection_timeout(Some(Duration::ZERO));
        assert_eq!(refused(blocked), "blocked_connection_timeout");
        for tcp in [
            TcpOptions { keep_idle: Some(Duration::ZERO), ..TcpOptions::default() },
            TcpOptions { keep_interval: Some(Duration::from_millis(999)), ..TcpOptions::default() },
            TcpOptions { keep_count: Some(0), ..TcpOptions::default() },
        ] {
            assert_eq!(refused(builder().tcp_options(tcp)), "tcp_options");
        }
        assert_eq!(refused(builder().outbound_high_water(0)), "outbound_high_water");
        assert_eq!(refused(builder().outbound_high_water(1 << 30)), "outbound_limit");
        assert_eq!(refused(builder().outbound_low_water(Some(5 << 20))), "outbound_low_water");
        assert_eq!(refused(builder().client_properties(Table::new().with("x", f64::NAN))), "client_properties");
    }

    /// P3, P4: the ends of the ranges. Different: pika allowed no frame_max over 131072, and 1.4 none below 8192.
    #[test]
    fn the_ends_of_the_ranges_are_allowed() {
        for frame_max in [0, 4096, (1 << 31) - 1] {
            assert_eq!(builder().frame_max(frame_max).build().unwrap().frame_max(), frame_max);
        }
        let longest = "v".repeat(255);
        assert_eq!(builder().virtual_host(longest.clone()).build().unwrap().virtual_host(), longest);
        assert_eq!(builder().virtual_host("").build().unwrap().virtual_host(), "");
        assert!(builder().channel_max(u16::MAX).heartbeat(Some(u16::MAX)).build().is_ok());
        assert!(builder().stack_timeout(Duration::MAX).outbound_high_water(1).outbound_limit(Some(1)).build().is_ok());
    }

    /// P14: there is nothing to write to, and a changed copy changes nothing else.
    #[test]
    fn a_builder_does_not_change_the_parameters_that_it_came_from() {
        let original = ConnectionParameters::new("rabbit");
        let changed = original.clone().into_builder().port(1).build().unwrap();
        assert_eq!((original.port(), changed.port(), changed.host()), (5672, 1, "rabbit"));
        let shared = builder().credentials(Arc::clone(changed.credentials())).build().unwrap();
        assert_eq!(shared.credentials().response(), original.credentials().response());
    }

    /// P15, faults 15.
    #[test]
    fn secrets_are_not_shown() {
        let builder = builder()
            .credentials(PlainCredentials::new("alice", "hunter2"))
            .client_properties(Table::new().with("token", "hunter2"));
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }

    /// U5.
    #[test]
    fn an_endpoint_has_brackets_around_an_ipv6_address() {
        assert_eq!(&*ConnectionParameters::default().endpoint(), "localhost:5672");
        for host in ["::1", "[::1]"] {
            let parameters = ConnectionParameters::new(host);
            assert_eq!((parameters.host(), &*parameters.endpoint()), ("::1", "[::1]:5672"));
        }
    }

    /// F4.
    #[test]
    fn the_broker_is_told_who_we_are() {
        let properties = builder().connection_name("worker").build().unwrap().start_properties();
        let text = |key| properties.get(key).and_then(Value::as_str).unwrap();
        assert_eq!((text("product"), text("version")), ("pooka", env!("CARGO_PKG_VERSION")));
        assert!(text("platform").starts_with("Rust") && !text("information").is_empty());
        assert_eq!(text("connection_name"), "worker");
        let capabilities = properties.get("capabilities").and_then(Value::as_table).unwrap();
        let expected = [
            "authentication_failure_close",
            "basic.nack",
            "connection.blocked",
            "consumer_cancel_notify",
            "exchange_exchange_bindings",
            "publisher_confirms",
        ];
        let mut named: Vec<_> = capabilities.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(named, expected.map(|name| (name.to_owned(), true.into())));
        assert!(ConnectionParameters::default().start_properties().get("connection_name").is_none());
    }

    /// P12: pika's shallow merge replaced the whole table.
    #[test]
    fn capabilities_are_merged_one_by_one() {
        let theirs = Table::new()
            .with("product", "mine")
            .with("pod", "a-1")
            .with("capabilities", Table::new().with("basic.nack", false).with("per_consumer_qos", true));
        let properties = builder().client_properties(theirs).build().unwrap().start_properties();
        assert_eq!(properties.get("product"), Some(&"mine".into()));
        assert_eq!(properties.get("pod"), Some(&"a-1".into()));
        let capabilities = properties.get("capabilities").and_then(Value::as_table).unwrap();
        assert_eq!(capabilities.get("basic.nack"), Some(&false.into()));
        assert_eq!(capabilities.get("per_consumer_qos"), Some(&true.into()));
        assert_eq!(capabilities.get("connection.blocked"), Some(&true.into()));
        assert_eq!(capabilities.len(), 7);
        let none = builder().client_properties(Table::new().with("capabilities", 1)).build().unwrap();
        assert_eq!(none.start_properties().get("capabilities"), Some(&1.into()), "who says so gets it");
    }

    #[test]
    fn parameters_can_be_shared_between_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<ConnectionParameters>();
        shared::<ParametersBuilder>();
    }
}
