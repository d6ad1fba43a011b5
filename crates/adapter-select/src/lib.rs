//! pooka on select, poll, epoll or kqueue, chosen at run time, with any number of connections on one loop.
#![deny(unsafe_code)]

mod descriptors;
mod poller;
mod select_loop;

pub use poller::PollerKind;
pub use select_loop::{SelectConnection, SelectLoop, Until};
