//! TLS between the socket and the protocol, the same under every adapter.
//!
//! A [session](session::Session) turns octets into other octets and has no socket of its own; what does the turning is a
//! back end behind the trait [`Engine`](session::Engine). The [`TlsOptions`] are always there, the back ends are cargo
//! features.

mod ciphertext;
mod options;
mod session;
#[cfg(feature = "native-tls")]
mod with_native_tls;
#[cfg(feature = "rustls")]
mod with_rustls;

pub(crate) use options::Tls;
pub use options::{TlsBackend, TlsOptions};
pub(crate) use session::Session;

/// Whether this build has TLS at all.
pub(crate) const IS_BUILT_IN: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

/// What a build without it says.
pub(crate) const NOT_BUILT_IN: &str = "TLS comes with a cargo feature, rustls or native-tls, that this build lacks";
