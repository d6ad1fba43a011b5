//! Octets to values and back: frames, methods, tables, properties, and the buffers they lie in.

pub(crate) mod codec;
pub(crate) mod content;
pub mod frame;
pub(crate) mod frame_value;
pub(crate) mod inbox;
pub(crate) mod message;
pub mod outbox;
pub mod properties;
pub mod secret;
pub mod spec;
pub mod table;

pub use codec::{LongString, Reader, ShortStr, ShortString, Wire, Writer};
