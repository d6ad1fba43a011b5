//! What must hold for any octets: each function here takes some and panics where something does not.
//!
//! libFuzzer calls them from `fuzz/`, for as long as it is let; the suite calls them with a bounded number of random octets,
//! and with the seeds and the findings that are committed in `fuzz/seeds`.

mod broker;
mod codec;
mod connection;
mod dice;
mod program;
mod urls;

pub use codec::{frames, methods, tables};
pub use connection::connection;
pub use urls::urls;
