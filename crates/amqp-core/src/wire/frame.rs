//! Frames: seven octets of header, a payload, and one octet that ends it [§4.2.3]. A [`Frame`] is one as a value.

pub use super::frame_value::{Frame, Header};

use crate::wire::{
    fault::{Invalid, Violation},
    outbox::Outbox,
    properties::BasicProperties,
    spec::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Method},
};
use bytes::Bytes;

/// Octets around a payload: type, channel and size before it, the end octet after it.
pub(crate) const ENVELOPE: usize = HEAD + 1;
/// Octets before a payload.
pub(crate) const HEAD: usize = 7;

/// The first seven octets of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) channel: u16,
    /// Octets of payload.
    pub(crate) size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

impl Head {
    /// What the seven octets say, if they are all here. What is wrong with a frame is known from these alone.
    #[inline]
    pub(crate) fn peek(octets: &[u8], frame_max: usize) -> Result<Option<Self>, Violation> {
        let Some(&[kind, c0, c1, s0, s1, s2, s3]) = octets.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let channel = u16::from_be_bytes([c0, c1]);
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        if size > frame_max - ENVELOPE {
            too_large(kind, size, frame_max)?;
        }
        let kind = match kind {
            FRAME_METHOD if size < 4 => return Err(Violation::frame("a method frame is too short for a method")),
            FRAME_METHOD => Kind::Method,
            FRAME_HEADER if size < 14 => return Err(Violation::frame("a header frame is too short for a header")),
            FRAME_HEADER => Kind::Header,
            FRAME_BODY => Kind::Body,
            FRAME_HEARTBEAT if channel != 0 => return Err(Violation::frame("a heartbeat on a channel other than 0")),
            FRAME_HEARTBEAT if size != 0 => return Err(Violation::frame("a heartbeat with a payload")),
            FRAME_HEARTBEAT => Kind::Heartbeat,
            _ => return Err(Violation::frame("a frame of unknown type")),
        };
        if channel == 0 && matches!(kind, Kind::Header | Kind::Body) {
            return Err(Violation::channel("content on channel 0"));
        }
        Ok(Some(Self { kind, channel, size }))
    }

    /// Octets of the whole frame.
    #[inline]
    pub(crate) fn total(self) -> usize {
        self.size + ENVELOPE
    }

    /// The payload, if the whole frame is here and ends as it should.
    #[inline]
    pub(crate) fn payload(self, octets: &[u8]) -> Result<Option<&[u8]>, Violation> {
        match octets.get(HEAD..self.total()) {
            None => Ok(None),
            Some([payload @ .., FRAME_END]) => Ok(Some(payload)),
            Some(_) => Err(BAD_END),
        }
    }
}

/// A content header may have twice the room: one that just fits when it is published grows in the broker, which adds
/// `x-death` or `x-stream-offset` and sends it although it does not fit any more.
#[cold]
fn too_large(kind: u8, size: usize, frame_max: usize) -> Result<(), Violation> {
    match kind {
        FRAME_HEADER if size <= frame_max.saturating_mul(2) - ENVELOPE => Ok(()),
        FRAME_HEADER => Err(HEADER_TOO_LARGE),
        _ => Err(Violation::frame("a frame is larger than the negotiated frame_max")),
    }
}

pub(crate) const HEADER_TOO_LARGE: Violation =
    Violation::frame("a content header is larger than twice the negotiated frame_max");

/// The stream is out of step: there is no telling what comes next, and nothing can be said any more.
pub(crate) const BAD_END: Violation = Violation::fatal("a frame does not end with 0xCE");

/// A heartbeat, whole.
pub(crate) const HEARTBEAT: [u8; ENVELOPE] = [FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Appends a method frame, or leaves `out` as it was.
pub(crate) fn put_method(out: &mut Vec<u8>, channel: u16, method: &Method, frame_max: usize) -> Result<(), Invalid> {
    let at = out.len();
    let put = put_head(out, FRAME_METHOD, channel, 0);
    let result = method.put(out).and_then(|()| match out.len() - put {
        length if length > frame_max - ENVELOPE => {
            Err(Invalid::ArgumentsTooLarge { length, limit: frame_max - ENVELOPE })
        }
        length => {
            patch_size(out, put, length);
            Ok(())
        }
    });
    match result {
        Ok(()) => out.push(FRAME_END),
        Err(_) => out.truncate(at),
    }
    result
}

/// basic.ack, the commonest frame of a consumer.
pub(crate) fn put_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    let [c0, c1] = channel.to_be_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    #[rustfmt::skip]
    out.extend_from_slice(&[
        FRAME_METHOD, c0, c1, 0, 0, 0, 13,
        0, 60, 0, 80, t0, t1, t2, t3, t4, t5, t6, t7, u8::from(multiple),
        FRAME_END,
    ]);
}

/// What a publish puts on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) mandatory: bool,
    pub(crate) properties: Option<&'a BasicProperties>,
    pub(crate) body: Body<'a>,
}

impl Content<'_> {
    /// How many frames it is.
    #[inline]
    pub(crate) fn frames(&self, frame_max: usize) -> u64 {
        match self.body.octets().len() {
            0 => 2,
            length if length <= frame_max - ENVELOPE => 3,
            length => 2 + length.div_ceil(frame_max - ENVELOPE) as u64,
        }
    }
}

/// A message's body as its publisher has it; see the `From` conversions.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Octets that are copied into the outbound buffer.
    Borrowed(&'a [u8]),
    /// Octets with an owner to share; large ones are not copied at all.
    Shared(Bytes),
}

/// From this size on a shared body is cheaper to refer to than to copy.
const REFERRED: usize = 16 * 1024;

impl Body<'_> {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Borrowed(octets) => octets,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Appends basic.publish, its header and its body [§4.2.6], or leaves `out` as it was: everything is checked before
/// anything is said.
#[inline]
pub(crate) fn put_content(
    out: &mut Outbox,
    channel: u16,
    content: &Content<'_>,
    frame_max: usize,
) -> Result<(), Invalid> {
    let Content { exchange, routing_key, .. } = *content;
    for name in [exchange, routing_key] {
        if name.len() > 255 {
            return Err(Invalid::NameTooLong(name.len()));
        }
    }
    let body = content.body.octets();
    let octets = out.octets();
    let at = octets.len();
    octets.reserve(exchange.len() + routing_key.len() + 64 + if body.len() < REFERRED { body.len() } else { 0 });
    put_head(octets, FRAME_METHOD, channel, 4 + 2 + 1 + exchange.len() + 1 + routing_key.len() + 1);
    octets.extend_from_slice(&[0, 60, 0, 40, 0, 0, exchange.len() as u8]);
    octets.extend_from_slice(exchange);
    octets.push(routing_key.len() as u8);
    octets.extend_from_slice(routing_key);
    octets.extend_from_slice(&[u8::from(content.mandatory), FRAME_END]);

    let header = put_head(octets, FRAME_HEADER, channel, 14);
    octets.extend_from_slice(&[0, 60, 0, 0]);
    octets.extend_from_slice(&(body.len() as u64).to_be_bytes());
    match content.properties {
        None => octets.extend_from_slice(&[0, 0]),
        Some(properties) => {
            let limit = frame_max - ENVELOPE;
            let result = properties.put(octets).and_then(|()| match octets.len() - header {
                length if length > limit => Err(Invalid::PropertiesTooLarge { length, limit }),
                length => {
                    patch_size(octets, header, length);
                    Ok(())
                }
            });
            if result.is_err() {
                octets.truncate(at);
                return result;
            }
        }
    }
    octets.push(FRAME_END);

    for (from, chunk) in body.chunks(frame_max - ENVELOPE).enumerate() {
        let octets = out.octets();
        put_head(octets, FRAME_BODY, channel, chunk.len());
        match &content.body {
            Body::Shared(bytes) if body.len() >= REFERRED => {
                let from = from * (frame_max - ENVELOPE);
                out.refer(bytes.slice(from..from + chunk.len()));
            }
            _ => octets.extend_from_slice(chunk),
        }
        out.octets().push(FRAME_END);
    }
    Ok(())
}

/// Returns where the payload begins.
#[inline]
pub(super) fn put_head(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) -> usize {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
    out.len()
}

pub(super) fn patch_size(out: &mut [u8], payload: usize, length: usize) {
    if let Some(size) = out.get_mut(payload - 4..payload) {
        size.copy_from_slice(&(length as u32).to_be_bytes());
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(octets: &'a [u8]) -> Self {
        Self::Borrowed(octets)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(octets: &'a [u8; N]) -> Self {
        Self::Borrowed(octets)
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(octets: &'a Vec<u8>) -> Self {
        Self::Borrowed(octets)
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Body<'a> {
    fn from(text: &'a String) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

/// The same octets, shared.
impl From<&Bytes> for Body<'_> {
    fn from(bytes: &Bytes) -> Self {
        Self::Shared(bytes.clone())
    }
}

impl From<Vec<u8>> for Body<'_> {
    fn from(octets: Vec<u8>) -> Self {
        Self::Shared(octets.into())
    }
}

impl From<String> for Body<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}
