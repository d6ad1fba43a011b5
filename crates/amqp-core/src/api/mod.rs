//! What the program holds: handles, requests, consumers, and what they bring.

pub(crate) mod awaited;
pub(crate) mod channel;
pub(crate) mod close_connection;
pub(crate) mod connection;
pub(crate) mod consume;
pub(crate) mod event;
mod handles;
pub(crate) mod hold;
pub(crate) mod loop_handle;
pub(crate) mod open_channel;
pub(crate) mod publish;
pub(crate) mod request;
pub(crate) mod requests;
mod start;
pub(crate) mod stream;
pub(crate) mod wait_for_confirms;
pub(crate) mod writable;
