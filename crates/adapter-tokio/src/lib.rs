//! pooka on tokio: a connection is a future, on a current-thread or a multi-thread runtime.
#![forbid(unsafe_code)]

mod sockets;
mod tokio_loop;

pub use tokio_loop::{TokioConnection, TokioLoop};
