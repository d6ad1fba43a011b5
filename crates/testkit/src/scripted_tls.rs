//! TLS at the far end of a scripted peer's wire.

use crate::Authority;
use amqp_core::{ConnectionParameters, TlsBackend, TlsOptions};
use rustls::{ServerConfig, ServerConnection};
use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Read, Write},
    sync::Arc,
};

/// What a client and its peer have agreed to before they meet.
#[derive(Clone, Debug)]
pub struct Secrecy {
    /// The client's part.
    pub options: TlsOptions,
    /// The peer's part.
    pub server: Arc<ServerConfig>,
}

impl Secrecy {
    /// A peer with a certificate for localhost, and a client that trusts it.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn new(backend: TlsBackend) -> io::Result<Self> {
        let authority = Authority::new()?;
        let server = authority.server(&["localhost"])?.server_config(None, rustls::ALL_VERSIONS)?;
        let options = TlsOptions::new().backend(backend).ca_pem(authority.certificate());
        Ok(Self { options, server })
    }

    /// The same parameters, port included, with the client's part.
    pub(crate) fn secured(&self, parameters: ConnectionParameters) -> amqp_core::Result<ConnectionParameters> {
        let port = parameters.port();
        parameters.into_builder().port(port).tls(self.options.clone()).build()
    }
}

thread_local!(static SECRECY: RefCell<Option<Secrecy>> = const { RefCell::new(None) });

/// Every scene that this thread makes from now on is played over TLS.
pub fn secure_everything(secrecy: Secrecy) {
    SECRECY.set(Some(secrecy));
}

pub(crate) fn secrecy() -> Option<Secrecy> {
    SECRECY.with_borrow(Clone::clone)
}

/// The peer's side of TLS.
#[derive(Debug)]
pub(crate) struct FarEnd {
    server: ServerConnection,
    /// What was wrong with what the client sent.
    trouble: Option<rustls::Error>,
}

impl FarEnd {
    pub(crate) fn new(server: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut server = ServerConnection::new(server)?;
        server.set_buffer_limit(None);
        Ok(Self { server, trouble: None })
    }

    /// The client has sent this; its plaintext is put into `heard`, and what TLS answers into `to_client`.
    pub(crate) fn hear(&mut self, mut ciphertext: &[u8], heard: &mut Vec<u8>, to_client: &mut VecDeque<u8>) {
        while !ciphertext.is_empty() {
            if self.server.read_tls(&mut ciphertext).is_err() {
                break;
            }
            let processed = self.server.process_new_packets();
            // "Would block" is its end.
            let _ = self.server.reader().read_to_end(heard);
            if let Err(trouble) = processed {
                self.trouble = Some(trouble);
                break;
            }
        }
        self.send(to_client);
    }

    /// The peer says this, as soon as the handshake is over.
    pub(crate) fn say(&mut self, plaintext: &[u8], to_client: &mut VecDeque<u8>) {
        let said = self.server.writer().write_all(plaintext);
        debug_assert!(said.is_ok(), "the buffer has no limit");
        self.send(to_client);
    }

    /// The alert that the client has sent, its goodbye also; or what else was wrong.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        let goodbye = matches!(self.server.reader().read(&mut [0]), Ok(0)).then(|| "goodbye".into());
        self.trouble.as_ref().map(ToString::to_string).or(goodbye)
    }

    pub(crate) fn close(&mut self, to_client: &mut VecDeque<u8>) {
        self.server.send_close_notify();
        self.send(to_client);
    }

    fn send(&mut self, to_client: &mut VecDeque<u8>) {
        while self.server.wants_write() && self.server.write_tls(to_client).is_ok() {}
    }
}
