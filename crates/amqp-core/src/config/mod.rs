//! What a program decides before it connects: parameters, endpoints, credentials, and the URL that holds them.

pub mod credentials;
pub(crate) mod endpoint;
pub mod parameters;
pub(crate) mod python_literal;
pub(crate) mod tcp_options;
pub mod uri;
pub(crate) mod uri_options;
