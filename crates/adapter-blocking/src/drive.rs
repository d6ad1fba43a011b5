//! The machinery that drives the connection, on whichever thread waits. It knows nothing of the calls that use it.

pub(crate) mod driven;
pub(crate) mod engine;
pub(crate) mod inbox;
pub(crate) mod keeper;
pub(crate) mod seat;
pub(crate) mod sync;
pub(crate) mod weight;
