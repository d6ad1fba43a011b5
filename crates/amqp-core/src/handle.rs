//! Handles: what a program holds of a connection and its channels. They can be cloned, sent and shared; every method
//! changes some state under one short lock, and none of them ever calls the program.

mod channel;
mod close_connection;
mod connection;
mod open_channel;

pub use channel::Channel;
pub(crate) use channel::WeakChannel;
pub use close_connection::CloseConnection;
pub use connection::ConnectionHandle;
pub use open_channel::OpenChannel;
