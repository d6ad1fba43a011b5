//! Octets to values and back: frames, methods, tables, properties, and the buffers they lie in.

pub(crate) mod codec;
pub(crate) mod confirmation;
pub(crate) mod content;
pub(crate) mod fault;
pub mod frame;
pub(crate) mod frame_value;
pub(crate) mod inbox;
pub(crate) mod message;
mod methods;
pub mod outbox;
pub mod properties;
pub mod secret;
pub mod spec;
pub(crate) mod strings;
pub mod table;

pub use codec::{Reader, Wire, Writer};
pub use strings::{LongString, ShortStr, ShortString};
