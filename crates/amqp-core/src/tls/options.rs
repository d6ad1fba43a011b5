//! The options of TLS.

use crate::{
    error::{Error, Result, tls::TlsProblem},
    tls::{
        NOT_BUILT_IN,
        session::{Connector, Session},
    },
    wire::secret::Secret,
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Configures TLS: which certificates to trust, and which one to present. pika calls it `SSLOptions`.
///
/// The chain and the name of the peer's certificate are verified, with TLS 1.2 or later; no option turns that off. Files are
/// read when the [parameters](crate::ConnectionParameters) are built.
///
/// ```no_run
/// # use amqp_core::{ConnectionParameters, TlsOptions};
/// let tls = TlsOptions::new().ca_file("ca.pem").client_certificate_files("client.pem", "client.key");
/// let parameters = ConnectionParameters::builder().host("rabbit.example").tls(tls).build()?;
/// assert_eq!(parameters.port(), 5671);
/// # Ok::<(), amqp_core::Error>(())
/// ```
#[doc(alias = "SSLOptions")]
#[doc(alias = "OwnedTLSConfig")]
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    backend: Option<TlsBackend>,
    server_name: Option<String>,
    ca: Vec<Source>,
    identity: Option<(Source, Source)>,
    #[cfg(feature = "rustls")]
    rustls: Option<Arc<rustls::ClientConfig>>,
    #[cfg(feature = "native-tls")]
    native: Option<native_tls::TlsConnector>,
}

/// Names the library that implements TLS.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBackend {
    /// rustls with ring; the cargo feature `rustls`.
    Rustls,
    /// The system's library, which is OpenSSL on Linux; the cargo feature `native-tls`.
    NativeTls,
}

/// Where to find something in PEM.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Octets(Secret),
}

impl TlsOptions {
    /// Returns the defaults: the platform's root certificates, no client certificate, the host's name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the CA certificates in this file (PEM) instead of the platform's. Can be called for several files.
    #[doc(alias = "cafile")]
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca.push(Source::File(path.as_ref().into()));
        self
    }

    /// Trusts these CA certificates: [`ca_file`](Self::ca_file) with the file's content.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca.push(Source::Octets(Secret::from(pem.into())));
        self
    }

    /// Presents this certificate, followed by its chain, with this key; both PEM, the key not encrypted and, for native-tls, in
    /// PKCS #8. With [`ExternalCredentials`](crate::ExternalCredentials) it is the login, too.
    #[doc(alias = "certfile")]
    #[doc(alias = "keyfile")]
    pub fn client_certificate_files(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((Source::File(certificate.as_ref().into()), Source::File(key.as_ref().into())));
        self
    }

    /// Presents this certificate: [`client_certificate_files`](Self::client_certificate_files) with the files' contents.
    pub fn client_certificate_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Secret>) -> Self {
        self.identity = Some((Source::Octets(Secret::from(certificate.into())), Source::Octets(key.into())));
        self
    }

    /// Sets the name or address that the peer's certificate must be for, and that is sent to the peer (SNI). Default: the host
    /// that is connected to.
    #[doc(alias = "server_hostname")]
    #[doc(alias = "sni")]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets which of the libraries that are built in is used. Default: rustls, if it is built in.
    pub fn backend(mut self, backend: TlsBackend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Uses rustls with your own configuration; of the other options only the server's name applies.
    #[cfg(feature = "rustls")]
    pub fn rustls_config(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.rustls = Some(config.into());
        self.backend(TlsBackend::Rustls)
    }

    /// Uses native-tls with your own connector; of the other options only the server's name applies.
    #[cfg(feature = "native-tls")]
    pub fn native_tls_connector(mut self, connector: native_tls::TlsConnector) -> Self {
        self.native = Some(connector);
        self.backend(TlsBackend::NativeTls)
    }

    fn connector(&self) -> Result<Arc<dyn Connector>> {
        match self.backend.or_else(TlsBackend::preferred) {
            None => Err(bad(NOT_BUILT_IN)),
            #[cfg(feature = "rustls")]
            Some(TlsBackend::Rustls) => {
                let config = match &self.rustls {
                    Some(config) => config.clone(),
                    None => super::with_rustls::config(&self.material()?).map_err(|problem| bad(&problem))?,
                };
                Ok(super::with_rustls::connector(config))
            }
            #[cfg(feature = "native-tls")]
            Some(TlsBackend::NativeTls) => {
                let connector = match &self.native {
                    Some(connector) => connector.clone(),
                    None => super::with_native_tls::configured(&self.material()?).map_err(|problem| bad(&problem))?,
                };
                Ok(super::with_native_tls::connector(connector))
            }
            #[cfg(not(all(feature = "rustls", feature = "native-tls")))]
            Some(missing) => Err(bad(&format!("this build lacks the cargo feature {}", missing.feature()))),
        }
    }

    fn material(&self) -> Result<Material> {
        let ca = self.ca.iter().map(|source| Ok(source.read("ca_file")?.expose().to_vec())).collect::<Result<_>>()?;
        let identity = match &self.identity {
            None => None,
            Some((certificates, key)) => {
                let certificates = certificates.read("client certificate")?.expose().to_vec();
                Some(Identity { certificates, key: key.read("client key")? })
            }
        };
        Ok(Material { ca, identity })
    }
}

impl TlsBackend {
    fn preferred() -> Option<Self> {
        if cfg!(feature = "rustls") {
            Some(Self::Rustls)
        } else if cfg!(feature = "native-tls") {
            Some(Self::NativeTls)
        } else {
            None
        }
    }

    #[cfg(not(all(feature = "rustls", feature = "native-tls")))]
    fn feature(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::NativeTls => "native-tls",
        }
    }
}

/// The content of the options' files, in PEM.
pub(super) struct Material {
    /// None: the platform's.
    pub(super) ca: Vec<Vec<u8>>,
    pub(super) identity: Option<Identity>,
}

pub(super) struct Identity {
    pub(super) certificates: Vec<u8>,
    pub(super) key: Secret,
}

impl Source {
    fn read(&self, what: &str) -> Result<Secret> {
        match self {
            Self::Octets(octets) => Ok(octets.clone()),
            Self::File(path) => {
                fs::read(path).map(Secret::from).map_err(|error| bad(&format!("{what} {}: {error}", path.display())))
            }
        }
    }
}

fn bad(problem: &str) -> Error {
    Error::BadParameter { name: "tls", problem: problem.into() }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |source: &Source| match source {
            Source::File(path) => path.display().to_string(),
            Source::Octets(_) => "(given)".into(),
        };
        f.debug_struct("TlsOptions")
            .field("backend", &self.backend)
            .field("server_name", &self.server_name)
            .field("ca", &self.ca.iter().map(path).collect::<Vec<_>>())
            .field("client_certificate", &self.identity.as_ref().map(|(certificate, _)| path(certificate)))
            .finish_non_exhaustive()
    }
}

/// Options, and the configuration that was made of them when the parameters were built.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) options: TlsOptions,
    connector: Option<Arc<dyn Connector>>,
}

impl Tls {
    pub(crate) fn new(options: TlsOptions) -> Self {
        Self { options, connector: None }
    }

    /// Reads files and makes the back end's configuration, once.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        if self.connector.is_none() {
            self.connector = Some(self.options.connector()?);
        }
        Ok(())
    }

    /// Begins a connection with `host`.
    pub(crate) fn session(&self, host: &str) -> Result<Session, TlsProblem> {
        // A certificate knows nothing of the zone of an IPv6 address, which is this machine's.
        let host =
            host.split_once('%').filter(|(address, _)| address.contains(':')).map_or(host, |(address, _)| address);
        let name = self.options.server_name.as_deref().unwrap_or(host);
        match &self.connector {
            Some(connector) => Session::new(&**connector, name),
            None => Err(TlsProblem::Other("it was not prepared".into())),
        }
    }
}
