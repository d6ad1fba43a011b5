//! The back end native-tls: OpenSSL, Security Framework or SChannel, over a pipe in memory.

use crate::{
    error::tls::TlsProblem,
    sync::{Mutex, MutexGuard},
    tls::{
        ciphertext::Ciphertext,
        options::{Identity, Material},
        session::{BATCH, Connector, Engine, Plain},
    },
};
use native_tls::{Certificate, HandshakeError, MidHandshakeTlsStream, Protocol, TlsConnector, TlsStream};
use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    mem,
    sync::Arc,
};

/// One for all connections of the same parameters.
pub(super) fn connector(connector: TlsConnector) -> Arc<dyn Connector> {
    Arc::new(NativeTls(connector))
}

/// The connector for these options, or what is wrong with them.
pub(super) fn configured(material: &Material) -> Result<TlsConnector, String> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    for pem in &material.ca {
        builder.disable_built_in_roots(true);
        let certificates = Certificate::stack_from_pem(pem).map_err(|error| format!("CA certificate: {error}"))?;
        if certificates.is_empty() {
            return Err("CA certificate: holds no certificate in PEM".into());
        }
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    if let Some(Identity { certificates, key }) = &material.identity {
        let identity = native_tls::Identity::from_pkcs8(certificates, key.expose());
        builder.identity(identity.map_err(|error| {
            format!("client certificate and key: {error} (native-tls wants a key in PKCS #8: BEGIN PRIVATE KEY)")
        })?);
    }
    builder.build().map_err(|error| error.to_string())
}

struct NativeTls(TlsConnector);

impl Connector for NativeTls {
    fn connect(&self, server_name: &str, ciphertext: &mut Ciphertext) -> Result<Box<dyn Engine>, TlsProblem> {
        let pipe = Pipe::default();
        let connected = pipe.lend(ciphertext, || self.0.connect(server_name, pipe.clone()));
        let mut client = Client { state: State::Failed, pipe, server_name: server_name.into() };
        client.advance(connected)?;
        Ok(Box::new(client))
    }
}

struct Client {
    state: State,
    pipe: Pipe,
    server_name: Arc<str>,
}

enum State {
    Handshaking(MidHandshakeTlsStream<Pipe>),
    Up(TlsStream<Pipe>),
    Failed,
}

impl Client {
    fn advance(&mut self, progress: Result<TlsStream<Pipe>, HandshakeError<Pipe>>) -> Result<(), TlsProblem> {
        self.state = match progress {
            Ok(stream) => State::Up(stream),
            Err(HandshakeError::WouldBlock(handshake)) => State::Handshaking(handshake),
            Err(HandshakeError::Failure(error)) => return Err(problem(&error.to_string(), &self.server_name)),
        };
        Ok(())
    }

    fn handshake(&mut self, ciphertext: &mut Ciphertext) -> Result<(), TlsProblem> {
        match mem::replace(&mut self.state, State::Failed) {
            State::Handshaking(handshake) => {
                let progress = self.pipe.lend(ciphertext, || handshake.handshake());
                self.advance(progress)
            }
            state => {
                self.state = state;
                Ok(())
            }
        }
    }
}

impl Engine for Client {
    fn read(&mut self, ciphertext: &mut Ciphertext, into: &mut [u8]) -> Result<Plain, TlsProblem> {
        self.handshake(ciphertext)?;
        let State::Up(stream) = &mut self.state else { return Ok(Plain::Dry) };
        match self.pipe.lend(ciphertext, || stream.read(into)) {
            Ok(0) => Ok(Plain::Closed),
            Ok(n) => Ok(Plain::Octets(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Plain::Dry),
            Err(error) => Err(problem(&error.to_string(), &self.server_name)),
        }
    }

    fn write(&mut self, plaintext: &[IoSlice<'_>], ciphertext: &mut Ciphertext) -> Result<usize, TlsProblem> {
        let State::Up(stream) = &mut self.state else { return Ok(0) };
        let mut written = 0;
        let result = self.pipe.lend(ciphertext, || {
            for piece in plaintext {
                let mut rest: &[u8] = piece;
                while !rest.is_empty() {
                    let fits = rest.get(..rest.len().min(BATCH - written)).unwrap_or_default();
                    if fits.is_empty() {
                        return Ok(());
                    }
                    let n = stream.write(fits)?;
                    written += n;
                    rest = rest.get(n..).unwrap_or_default();
                }
            }
            Ok::<_, io::Error>(())
        });
        match result {
            // What was written before is written all the same; the error comes back.
            Err(error) if error.kind() != ErrorKind::WouldBlock && written == 0 => {
                Err(problem(&error.to_string(), &self.server_name))
            }
            _ => Ok(written),
        }
    }

    fn close(&mut self, ciphertext: &mut Ciphertext) {
        if let State::Up(stream) = &mut self.state {
            // The peer's goodbye is not waited for.
            let _ = self.pipe.lend(ciphertext, || stream.shutdown());
        }
    }

    fn is_handshaking(&self) -> bool {
        !matches!(self.state, State::Up(_))
    }
}

/// What the library reads and writes: shared with it, because a handshake that fails keeps its stream, and with it the alert
/// that the peer is to get.
#[derive(Clone, Debug, Default)]
struct Pipe(Arc<Mutex<Ciphertext>>);

impl Pipe {
    /// Calls the library, which finds the ciphertext in the pipe meanwhile.
    fn lend<R>(&self, ciphertext: &mut Ciphertext, call: impl FnOnce() -> R) -> R {
        mem::swap(ciphertext, &mut self.lock());
        let result = call();
        mem::swap(ciphertext, &mut self.lock());
        result
    }

    fn lock(&self) -> MutexGuard<'_, Ciphertext> {
        self.0.lock()
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.lock().read(into)
    }
}

impl Write for Pipe {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.lock().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The library tells only words; these are OpenSSL's, and all others are passed on.
fn problem(words: &str, server_name: &str) -> TlsProblem {
    let says = |any: &[&str]| any.iter().any(|part| words.contains(part));
    if let Some((_, alert)) = words.split_once(" alert ") {
        let end = alert.find([':', ',']).unwrap_or(alert.len());
        return TlsProblem::Alert(alert.get(..end).unwrap_or(alert).trim().into());
    }
    if says(&["hostname mismatch", "IP address mismatch"]) {
        TlsProblem::WrongName { expected: server_name.into(), presented: [].into() }
    } else if says(&["has expired"]) {
        TlsProblem::Expired
    } else if says(&["not yet valid"]) {
        TlsProblem::NotYetValid
    } else if says(&[
        "unable to get local issuer certificate",
        "unable to verify the first certificate",
        "self-signed",
        "self signed",
    ]) {
        TlsProblem::UnknownIssuer
    } else if says(&["certificate verify failed"]) {
        let why = words.rsplit_once('(').map_or(words, |(_, why)| why.trim_end_matches(')'));
        TlsProblem::BadCertificate(why.into())
    } else {
        TlsProblem::Other(words.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_is_understood() {
        let verify =
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl:1889:";
        let said = |why: &str| problem(&format!("{verify} ({why})"), "rabbit");
        assert_eq!(said("unable to get local issuer certificate"), TlsProblem::UnknownIssuer);
        assert_eq!(said("certificate has expired"), TlsProblem::Expired);
        assert_eq!(said("certificate is not yet valid"), TlsProblem::NotYetValid);
        assert!(matches!(said("hostname mismatch"), TlsProblem::WrongName { .. }));
        assert_eq!(
            said("path length constraint exceeded"),
            TlsProblem::BadCertificate("path length constraint exceeded".into())
        );
        let alert = "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../ssl/record:1588:SSL alert number 116";
        assert_eq!(problem(alert, "rabbit"), TlsProblem::Alert("certificate required".into()));
    }
}
