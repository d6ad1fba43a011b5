//! pooka on async-io: under smol, or any other executor.
#![forbid(unsafe_code)]

mod smol_loop;
mod sockets;

pub use smol_loop::{SmolConnection, SmolLoop};
