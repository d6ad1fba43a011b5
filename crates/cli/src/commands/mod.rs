//! The commands as callbacks of an event loop, and what [`blocking`](crate::blocking) shares with them: requests and lines.

pub(crate) mod bench;
pub(crate) mod consume;
pub(crate) mod get;
pub(crate) mod ping;
pub(crate) mod publish;
pub(crate) mod topology;
