//! pooka on mio: with a loop of its own, or embedded in a program's own `mio::Poll`.
#![forbid(unsafe_code)]

mod embedded;
mod mio_loop;

pub use embedded::{Embedded, Next};
pub use mio_loop::{MioConnection, MioLoop};
