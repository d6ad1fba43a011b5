//! Events for `tracing`: all that are made are made here.

pub(crate) mod events;
pub(crate) mod frames;
