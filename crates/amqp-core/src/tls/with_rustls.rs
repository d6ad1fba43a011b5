//! The back end rustls, with ring.

use crate::{
    error::tls::TlsProblem,
    tls::{
        ciphertext::Ciphertext,
        options::{Identity, Material},
        session::{Connector, Engine, Plain},
    },
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io::{self, IoSlice, Read, Write},
    sync::Arc,
};

/// A configuration, shared by all connections of the same parameters: with it go their resumable sessions.
pub(super) fn connector(config: Arc<ClientConfig>) -> Arc<dyn Connector> {
    Arc::new(Rustls(config))
}

/// The configuration for these options, or what is wrong with them.
pub(super) fn config(material: &Material) -> Result<Arc<ClientConfig>, String> {
    // Not the process-wide provider, which is the program's.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(&material.ca)?);
    let config = match &material.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificates, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| format!("client key: {error}"))?;
            let chain = certificates_of(certificates).map_err(|problem| format!("client certificate: {problem}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("client certificate: {error}"))?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if ca.is_empty() {
        let platform = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(platform.certs);
        if roots.is_empty() {
            return Err("this machine has no CA certificates: install ca-certificates, or name a ca_file".into());
        }
        return Ok(roots);
    }
    for pem in ca {
        for certificate in certificates_of(pem).map_err(|problem| format!("CA certificate: {problem}"))? {
            roots.add(certificate).map_err(|error| format!("CA certificate: {error}"))?;
        }
    }
    Ok(roots)
}

fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("holds no certificate in PEM".into()) } else { Ok(certificates) }
}

struct Rustls(Arc<ClientConfig>);

impl Connector for Rustls {
    fn connect(&self, server_name: &str, ciphertext: &mut Ciphertext) -> Result<Box<dyn Engine>, TlsProblem> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| TlsProblem::BadName(server_name.into()))?;
        let mut connection =
            ClientConnection::new(self.0.clone(), name).map_err(|error| problem(&error, server_name))?;
        send(&mut connection, ciphertext);
        Ok(Box::new(Client { connection, server_name: server_name.into(), problem: None }))
    }
}

struct Client {
    connection: ClientConnection,
    server_name: Arc<str>,
    /// It came behind plaintext that is given first.
    problem: Option<TlsProblem>,
}

impl Engine for Client {
    fn read(&mut self, ciphertext: &mut Ciphertext, into: &mut [u8]) -> Result<Plain, TlsProblem> {
        loop {
            // Before more ciphertext is taken, or rustls' buffer of plaintext would fill up.
            match self.connection.reader().read(into) {
                Ok(0) => return Ok(Plain::Closed),
                Ok(n) => return Ok(Plain::Octets(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(TlsProblem::Other(error.to_string().into())),
            }
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            match self.connection.read_tls(ciphertext) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Plain::Dry),
                Err(error) => return Err(TlsProblem::Other(error.to_string().into())),
            }
            let processed = self.connection.process_new_packets();
            // Answers, and the alert where it failed.
            send(&mut self.connection, ciphertext);
            self.problem = processed.err().map(|error| problem(&error, &self.server_name));
        }
    }

    /// rustls takes 64 KiB until they are sent, and then nothing: that is no error.
    fn write(&mut self, plaintext: &[IoSlice<'_>], ciphertext: &mut Ciphertext) -> Result<usize, TlsProblem> {
        let written = self.connection.writer().write_vectored(plaintext);
        send(&mut self.connection, ciphertext);
        written.map_err(|error| TlsProblem::Other(error.to_string().into()))
    }

    fn close(&mut self, ciphertext: &mut Ciphertext) {
        self.connection.send_close_notify();
        send(&mut self.connection, ciphertext);
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }
}

fn send(connection: &mut ClientConnection, ciphertext: &mut Ciphertext) {
    while connection.wants_write() {
        if !connection.write_tls(ciphertext).is_ok_and(|n| n > 0) {
            return; // a buffer in memory takes everything
        }
    }
}

fn problem(error: &Error, server_name: &str) -> TlsProblem {
    let refused = match error {
        Error::InvalidCertificate(refused) => refused,
        Error::AlertReceived(alert) => return TlsProblem::Alert(name(*alert).into()),
        other => return TlsProblem::Other(other.to_string().into()),
    };
    match refused {
        // A bad signature is that of another authority with the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsProblem::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsProblem::NotYetValid,
        CertificateError::NotValidForName => {
            TlsProblem::WrongName { expected: server_name.into(), presented: [].into() }
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = presented.iter().map(|name| bare(name).into()).collect();
            TlsProblem::WrongName { expected: server_name.into(), presented }
        }
        other => TlsProblem::BadCertificate(other.to_string().into()),
    }
}

/// `DnsName("localhost")` is `localhost`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// As RFC 8446 calls it, with spaces: `BadCertificate` is "bad certificate".
fn name(alert: AlertDescription) -> String {
    if alert == AlertDescription::UnknownCA {
        return "unknown ca".into();
    }
    let mut name = String::new();
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push(' ');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        assert_eq!(name(AlertDescription::BadCertificate), "bad certificate");
        assert_eq!(name(AlertDescription::UnknownCA), "unknown ca");
        assert_eq!(name(AlertDescription::CertificateRequired), "certificate required");
    }
}
