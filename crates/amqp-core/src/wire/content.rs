//! Content: a method, a header and a body that belong together [§4.2.6].

use crate::wire::{
    codec::Reader,
    fault::Violation,
    frame::{HEADER_TOO_LARGE, Head, Kind},
    properties::Properties,
    strings::ShortStr,
};
use bytes::Bytes;

/// A whole message from the broker, borrowed from the buffer that holds its octets.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) carrier: Carrier<'a>,
    pub(crate) properties: Properties<'a>,
    pub(crate) body: &'a [u8],
    /// The body with its owner, where it was put together from pieces.
    pub(crate) shared: Option<&'a Bytes>,
    /// Octets that the header announced; more than `body` has where the message was too large to be kept.
    pub(crate) size: u64,
}

/// The method that carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier<'a> {
    Deliver {
        consumer_tag: ShortStr<'a>,
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortStr<'a>,
        routing_key: ShortStr<'a>,
    },
    GetOk {
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortStr<'a>,
        routing_key: ShortStr<'a>,
        message_count: u32,
    },
    Return {
        reply_code: u16,
        reply_text: ShortStr<'a>,
        exchange: ShortStr<'a>,
        routing_key: ShortStr<'a>,
    },
}

impl<'a> Carrier<'a> {
    /// Decodes a method frame's payload; `None` if its method carries nothing.
    #[inline]
    pub(crate) fn get(payload: &'a [u8]) -> Result<Option<Self>, Violation> {
        let Some((&[0, 60, 0, method], arguments)) = payload.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let mut reader = Reader::new(arguments);
        let carrier = match method {
            60 => Self::Deliver {
                consumer_tag: reader.short_str()?,
                delivery_tag: reader.u64()?,
                redelivered: reader.bit()?,
                exchange: reader.short_str()?,
                routing_key: reader.short_str()?,
            },
            71 => Self::GetOk {
                delivery_tag: reader.u64()?,
                redelivered: reader.bit()?,
                exchange: reader.short_str()?,
                routing_key: reader.short_str()?,
                message_count: reader.u32()?,
            },
            50 => Self::Return {
                reply_code: reader.u16()?,
                reply_text: reader.short_str()?,
                exchange: reader.short_str()?,
                routing_key: reader.short_str()?,
            },
            _ => return Ok(None),
        };
        reader.finish()?;
        Ok(Some(carrier))
    }
}

/// A content header's payload: class, weight, body size, properties.
#[derive(Clone, Copy, Debug)]
struct Header<'a> {
    size: u64,
    properties: Properties<'a>,
}

impl<'a> Header<'a> {
    #[inline]
    fn get(payload: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload);
        if reader.u16()? != 60 {
            return Err(Violation::frame("a content header of another class than its method"));
        }
        reader.u16()?;
        let size = reader.u64()?;
        if size > i64::MAX as u64 {
            return Err(Violation::syntax("a content header announces a body of 2^63 octets or more"));
        }
        Ok(Self { size, properties: Properties::walk(reader.rest())? })
    }
}

/// A message larger than this is not waited for in the inbox: it is put together beside it.
const IN_PLACE: usize = 16 * 1024;

/// What stands at the front of the inbox.
pub(crate) enum InPlace<'a> {
    /// A whole message and its octets on the wire.
    Whole(Incoming<'a>, usize),
    /// The beginning of one; more octets will tell.
    Incomplete,
    /// A message in pieces: large, or other channels' frames are between its own.
    Pieces,
}

/// Looks for a message that lies in one piece after its method frame, whose end is at `method_end`.
#[inline]
pub(crate) fn in_place<'a>(
    carrier: Carrier<'a>,
    octets: &'a [u8],
    method_end: usize,
    channel: u16,
    frame_max: usize,
    max_message_size: u64,
) -> Result<InPlace<'a>, Violation> {
    let rest = octets.get(method_end..).unwrap_or_default();
    let head = match Head::peek(rest, frame_max) {
        // Whose header it is stands in the method, which is kept of a message in pieces.
        Err(HEADER_TOO_LARGE) => return Ok(InPlace::Pieces),
        head => head?,
    };
    let Some(head) = head else { return Ok(InPlace::Incomplete) };
    if head.channel != channel || method_end + head.total() > IN_PLACE {
        return Ok(InPlace::Pieces);
    }
    if head.kind != Kind::Header {
        return Err(NO_HEADER);
    }
    let Some(payload) = head.payload(rest)? else { return Ok(InPlace::Incomplete) };
    let Header { size, properties } = Header::get(payload)?;
    let header_end = method_end + head.total();
    let whole = |body, end| InPlace::Whole(Incoming { carrier, properties, body, shared: None, size }, end);
    if size == 0 {
        return Ok(whole(&[], header_end));
    }
    if size > max_message_size {
        return Ok(InPlace::Pieces);
    }
    let rest = octets.get(header_end..).unwrap_or_default();
    let Some(head) = Head::peek(rest, frame_max)? else { return Ok(InPlace::Incomplete) };
    if (head.channel, head.kind, head.size as u64) != (channel, Kind::Body, size) {
        return Ok(InPlace::Pieces);
    }
    match head.payload(rest)? {
        Some(body) => Ok(whole(body, header_end + head.total())),
        None if header_end + head.total() > IN_PLACE => Ok(InPlace::Pieces),
        None => Ok(InPlace::Incomplete),
    }
}

const NO_HEADER: Violation = Violation::unexpected("a content method is not followed by its header");

/// A channel's message that is put together from frames.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    progress: Progress,
    method: Vec<u8>,
    header: Vec<u8>,
    body: Vec<u8>,
    whole: Bytes,
    size: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Idle,
    Header,
    /// Octets of body still to come, and whether they are kept.
    Body {
        left: u64,
        kept: bool,
    },
    /// Complete, lent to the driver.
    Whole,
}

impl Assembly {
    pub(crate) fn is_idle(&self) -> bool {
        self.progress == Progress::Idle
    }

    /// A method that carries content has come.
    pub(crate) fn begin(&mut self, payload: &[u8]) {
        self.method.clear();
        self.method.extend_from_slice(payload);
        self.progress = Progress::Header;
    }

    /// What carries the message that has begun.
    pub(crate) fn carrier(&self) -> Option<Carrier<'_>> {
        if self.is_idle() { None } else { Carrier::get(&self.method).ok().flatten() }
    }

    /// Its header has come. True: it can be told now, because there is no body, or because the body is too large: that one
    /// is thrown away as it comes.
    pub(crate) fn header(&mut self, payload: &[u8], max_message_size: u64) -> Result<bool, Violation> {
        if self.progress != Progress::Header {
            return Err(Violation::unexpected("a content header without a content method before it"));
        }
        self.size = Header::get(payload)?.size;
        self.header.clear();
        self.header.extend_from_slice(payload);
        let kept = self.size <= max_message_size;
        self.progress = Progress::Body { left: self.size, kept };
        Ok(!kept || self.is_whole())
    }

    /// A body frame of `size` octets begins.
    pub(crate) fn body_frame(&mut self, size: usize) -> Result<(), Violation> {
        match self.progress {
            Progress::Body { left, .. } if size as u64 <= left => Ok(()),
            Progress::Body { .. } => Err(Violation::frame("a body is longer than its header announced")),
            Progress::Header => Err(NO_HEADER),
            Progress::Idle | Progress::Whole => Err(Violation::unexpected("a body frame without a content header")),
        }
    }

    /// Octets of a body frame have come: memory grows with what arrives, never with what is announced.
    pub(crate) fn body(&mut self, octets: &[u8]) {
        if let Progress::Body { left, kept } = &mut self.progress {
            *left = left.saturating_sub(octets.len() as u64);
            if *kept {
                self.body.extend_from_slice(octets);
            }
        }
    }

    /// Whether nothing is missing any more of a message that has not been told yet.
    pub(crate) fn is_whole(&mut self) -> bool {
        match self.progress {
            Progress::Body { left: 0, kept: true } => {
                self.whole = std::mem::take(&mut self.body).into();
                self.progress = Progress::Whole;
                true
            }
            Progress::Body { left: 0, kept: false } => {
                self.reset();
                false
            }
            _ => false,
        }
    }

    /// The whole message.
    pub(crate) fn incoming(&self) -> Result<Incoming<'_>, Violation> {
        let carrier = Carrier::get(&self.method)?.ok_or(NO_HEADER)?;
        let Header { size, properties } = Header::get(&self.header)?;
        Ok(Incoming { carrier, properties, body: &self.whole, shared: Some(&self.whole), size })
    }

    /// The message has been lent, and its caller is done with it.
    pub(crate) fn take_back(&mut self) {
        if self.progress == Progress::Whole {
            self.reset();
        }
    }

    /// Ready for the next message; buffers are kept if they are small.
    fn reset(&mut self) {
        self.progress = Progress::Idle;
        self.whole = Bytes::new();
        for buffer in [&mut self.method, &mut self.header] {
            if buffer.capacity() > 4096 {
                *buffer = Vec::new();
            }
        }
    }
}
