//! TLS with a real RabbitMQ, and with peers that are wrong in every way.
#![allow(clippy::unwrap_used)]
