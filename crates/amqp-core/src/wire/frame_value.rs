//! A frame as a value: what pika's module `frame` has.

use crate::wire::{
    codec::Reader,
    fault::{Invalid, Violation},
    frame::{ENVELOPE, HEARTBEAT, Head, Kind, patch_size, put_head, put_method},
    properties::{BasicProperties, Properties},
    spec::{FRAME_BODY, FRAME_END, FRAME_HEADER, Method, PROTOCOL_HEADER},
};

/// A frame, to be written or read without a connection: by a proxy, a recorder of streams, a broker in a test.
///
/// Connections themselves cut frames in place and make no such values.
///
/// ```
/// use amqp_core::{frame::Frame, spec::basic};
///
/// let mut octets = vec![];
/// Frame::Method(1, basic::Ack { delivery_tag: 7, multiple: false }.into()).encode(&mut octets)?;
/// Frame::Body(1, b"hello").encode(&mut octets)?;
///
/// let (first, taken) = Frame::decode(&octets).unwrap().expect("it is all there");
/// assert!(matches!(first, Frame::Method(1, method) if method.name() == "basic.ack"));
/// let (second, taken) = Frame::decode(&octets[taken..]).unwrap().expect("so is this");
/// assert_eq!((second, taken), (Frame::Body(1, b"hello"), 8 + 5));
/// assert_eq!(Frame::decode(&octets[..20]), Ok(None), "an octet is missing");
/// # Ok::<(), amqp_core::error::Invalid>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<'a> {
    /// `AMQP` and four octets, which are 0, 0, 9 and 1 here: the first word of a client, or a broker's refusal [§4.2.2].
    /// In truth it is no frame.
    ProtocolHeader([u8; 4]),
    /// A method, on its channel [§4.2.4].
    Method(u16, Method),
    /// A content header, on its channel.
    Header(u16, Header),
    /// A piece of a body, on its channel.
    Body(u16, &'a [u8]),
    /// A heartbeat, which is on channel 0 [§4.2.7].
    Heartbeat,
}

/// What stands between a method that carries a message and the message's body [§4.2.6.1].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// The class of the method: 60, basic, is all there is.
    pub class_id: u16,
    /// Octets of all body frames together.
    pub body_size: u64,
    /// The message's properties.
    pub properties: BasicProperties,
}

impl<'a> Frame<'a> {
    /// Appends the frame: pika's `marshal`. On an error nothing is appended.
    ///
    /// Sizes are not held against a negotiated `frame_max`: a longer body is for the caller to cut.
    ///
    /// # Errors
    /// A name over 255 octets, or more than a frame's size can say.
    #[doc(alias = "marshal")]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let at = out.len();
        match self {
            Self::ProtocolHeader(version) => {
                out.extend_from_slice(AMQP);
                out.extend_from_slice(version);
            }
            Self::Method(channel, method) => put_method(out, *channel, method, LARGEST)?,
            Self::Header(channel, header) => {
                let payload = put_head(out, FRAME_HEADER, *channel, 0);
                out.extend_from_slice(&header.class_id.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&header.body_size.to_be_bytes());
                if let Err(invalid) = header.properties.put(out) {
                    out.truncate(at);
                    return Err(invalid);
                }
                let length = out.len() - payload;
                if length > LARGEST - ENVELOPE {
                    out.truncate(at);
                    return Err(Invalid::PropertiesTooLarge { length, limit: LARGEST - ENVELOPE });
                }
                patch_size(out, payload, length);
                out.push(FRAME_END);
            }
            Self::Body(_, octets) if octets.len() > LARGEST - ENVELOPE => {
                return Err(Invalid::ValueTooLong(octets.len()));
            }
            Self::Body(channel, octets) => {
                put_head(out, FRAME_BODY, *channel, octets.len());
                out.extend_from_slice(octets);
                out.push(FRAME_END);
            }
            Self::Heartbeat => out.extend_from_slice(&HEARTBEAT),
        }
        Ok(())
    }

    /// Returns the first frame in `octets`, and how many octets it is; `None` if more must come first. pika's `decode_frame`.
    ///
    /// A size is believed up to 4 GiB: who reads from a stranger looks at how much has come without a frame.
    ///
    /// # Errors
    /// This is no frame, or one that cannot be decoded.
    #[doc(alias = "decode_frame")]
    pub fn decode(octets: &'a [u8]) -> Result<Option<(Self, usize)>, Violation> {
        if octets.iter().zip(AMQP).all(|(a, b)| a == b) {
            let version = octets.get(AMQP.len()..).and_then(|rest| rest.first_chunk());
            return Ok(version.map(|version| (Self::ProtocolHeader(*version), PROTOCOL_HEADER.len())));
        }
        let Some(head) = Head::peek(octets, LARGEST)? else { return Ok(None) };
        let Some(payload) = head.payload(octets)? else { return Ok(None) };
        let frame = match head.kind {
            Kind::Method => Self::Method(head.channel, Method::get(payload)?),
            Kind::Header => Self::Header(head.channel, Header::get(payload)?),
            Kind::Body => Self::Body(head.channel, payload),
            Kind::Heartbeat => Self::Heartbeat,
        };
        Ok(Some((frame, head.total())))
    }
}

/// What the four octets of a size can say, with the envelope.
pub(crate) const LARGEST: usize = u32::MAX as usize;

const AMQP: &[u8; 4] = b"AMQP";

impl Header {
    fn get(payload: &[u8]) -> Result<Self, Violation> {
        let mut r = Reader::new(payload);
        let class_id = r.u16()?;
        r.u16()?; // the weight, which nobody uses
        let body_size = r.u64()?;
        let properties = Properties::walk(payload.get(12..).unwrap_or_default())?.to_owned()?;
        Ok(Self { class_id, body_size, properties })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::spec::{channel, connection};
    use proptest::prelude::*;

    fn one_of_each() -> Vec<Frame<'static>> {
        let properties = BasicProperties::new().content_type("text/plain").header("n", 1);
        vec![
            Frame::ProtocolHeader([0, 0, 9, 1]),
            Frame::Method(0, connection::TuneOk { channel_max: 1, frame_max: 4096, heartbeat: 2 }.into()),
            Frame::Method(u16::MAX, channel::OpenOk::default().into()),
            Frame::Header(3, Header { class_id: 60, body_size: u64::MAX, properties }),
            Frame::Header(3, Header { class_id: 60, ..Header::default() }),
            Frame::Body(2, b"octets"),
            Frame::Body(2, b""),
            Frame::Heartbeat,
        ]
    }

    /// D-2, D-3.
    #[test]
    fn every_frame_survives_the_wire_and_needs_its_last_octet() {
        for frame in one_of_each() {
            let mut octets = vec![];
            frame.encode(&mut octets).unwrap();
            for cut in 0..octets.len() {
                assert_eq!(Frame::decode(&octets[..cut]), Ok(None), "{frame:?} cut at {cut}");
            }
            octets.extend_from_slice(b"behind it");
            assert_eq!(Frame::decode(&octets), Ok(Some((frame, octets.len() - 9))));
        }
    }

    #[test]
    fn frames_are_written_as_connections_write_them() {
        let mut octets = vec![];
        Frame::ProtocolHeader([0, 0, 9, 1]).encode(&mut octets).unwrap();
        assert_eq!(octets, PROTOCOL_HEADER);
        octets.clear();
        Frame::Heartbeat.encode(&mut octets).unwrap();
        assert_eq!(octets, HEARTBEAT);
    }

    /// D-2.
    #[test]
    fn what_is_no_frame_is_told_as_such() {
        let no_end = Frame::decode(&[8, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(no_end, crate::wire::frame::BAD_END);
        assert_eq!(Frame::decode(b"HTTP/1.1").unwrap_err().code, Some(501));
        assert_eq!(Frame::decode(b"AMPQ\0\0\x09\x01").unwrap_err().code, Some(501));
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let mut octets = vec![1];
        let properties = BasicProperties::new().content_type("x".repeat(300));
        let header = Header { class_id: 60, body_size: 0, properties };
        assert_eq!(Frame::Header(1, header).encode(&mut octets), Err(Invalid::NameTooLong(300)));
        assert_eq!(octets, [1]);
    }

    proptest! {
        #[test]
        fn any_octets_are_a_frame_or_not(octets: Vec<u8>) {
            if let Ok(Some((_, taken))) = Frame::decode(&octets) {
                prop_assert!(taken <= octets.len());
            }
        }
    }
}
