//! What a program calls: the connection and its channels, consuming and publishing, as pika has them. Each call asks the core
//! for something, and has [`drive`](crate::drive) wait for the answer.

pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod consume;
pub(crate) mod consumer;
pub(crate) mod publish;
