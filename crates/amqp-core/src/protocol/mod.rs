//! Octets in, events out: cuts frames and puts messages together. It calls no callback and knows neither clock nor socket.

pub(crate) mod handshake;
pub mod heartbeat;
pub(crate) mod limits;

use crate::{
    protocol::limits::PROVISIONAL_FRAME_MAX,
    wire::{
        confirmation::Confirmation,
        content::{Assembly, Carrier, InPlace, Incoming, in_place},
        fault::Violation,
        frame::{BAD_END, HEAD, Head, Kind},
        spec::{FRAME_END, Method, PROTOCOL_HEADER, connection},
    },
};

/// The receiving half of a connection.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// Octets in a frame at most, with its envelope: a provisional limit until tuning.
    frame_max: usize,
    max_message_size: u64,
    /// By channel number; `Some` while the channel is open.
    channels: Vec<Option<Box<Assembly>>>,
    /// A body frame of which the rest has still to come.
    partial: Option<Partial>,
    /// The channel whose assembled message is lent to the caller.
    lent: Option<u16>,
    /// Octets of the caller's that are done with.
    taken: usize,
    /// Nothing has been heard yet, so that it is not yet known whether the peer speaks AMQP.
    greeting: bool,
    /// The program has closed the connection: what still comes on channels that are closed is discarded.
    closing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Partial {
    channel: u16,
    left: usize,
}

/// What the broker said.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Message(u16, Incoming<'a>),
    Confirmation(u16, Confirmation),
    // Boxed, so that a message, of which there are many, is not moved in the room of a method, of which there are few.
    Method(u16, Box<Method>),
    Connection(Box<connection::Method>),
}

/// What a peer is that answers with something else than a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It speaks AMQP, but another version, whose header this is.
    OtherVersion([u8; 4]),
    /// It answers with an alert or the handshake of TLS.
    Tls,
    /// It speaks something else.
    NotAmqp,
}

impl Protocol {
    pub(crate) fn new(max_message_size: u64) -> Self {
        Self {
            frame_max: PROVISIONAL_FRAME_MAX,
            max_message_size,
            channels: vec![],
            partial: None,
            lent: None,
            taken: 0,
            greeting: true,
            closing: false,
        }
    }

    /// The size of frames has been agreed.
    pub(crate) fn tuned(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// From now on frames on channels that are not open are discarded: connection.close has been sent [§1.4.2.10].
    pub(crate) fn closing(&mut self) {
        self.closing = true;
    }

    /// From now on frames on this channel are expected.
    pub(crate) fn open(&mut self, channel: u16) {
        let index = usize::from(channel);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.channels.get_mut(index) {
            *slot = Some(Box::default());
        }
    }

    /// From now on frames on this channel are a violation.
    pub(crate) fn close(&mut self, channel: u16) {
        if let Some(slot) = self.channels.get_mut(usize::from(channel)) {
            *slot = None;
        }
    }

    /// What the peer is, if its first octets are no frame [§4.2.2].
    pub(crate) fn stranger(&mut self, octets: &[u8]) -> Option<Stranger> {
        if !self.greeting {
            return None;
        }
        match octets {
            [] => None,
            [1, ..] => {
                self.greeting = false;
                None
            }
            [b'A', b'M', b'Q', b'P', a, b, c, d, ..] => Some(Stranger::OtherVersion([*a, *b, *c, *d])),
            _ if PROTOCOL_HEADER.get(..4).is_some_and(|amqp| octets.iter().zip(amqp).all(|(a, b)| a == b)) => None,
            [0x15 | 0x16, ..] => Some(Stranger::Tls),
            _ => Some(Stranger::NotAmqp),
        }
    }

    /// How many of the next octets belong to a frame that has been begun: the rest of a body, and its end.
    pub(crate) fn begun(&self) -> usize {
        self.partial.map_or(0, |partial| partial.left + 1)
    }

    /// Octets that need not be shown again.
    pub(crate) fn taken(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }

    /// Which message the frame at the front of `octets` belongs to, after those [taken](Self::taken) already: its channel
    /// and the method that carries it.
    pub(crate) fn belongs_to(&self, octets: &[u8]) -> Option<(u16, Carrier<'_>)> {
        let [_, c0, c1, ..] = octets.get(self.taken..)? else { return None };
        let channel = u16::from_be_bytes([*c0, *c1]);
        let assembly = self.channels.get(usize::from(channel))?.as_ref()?;
        Some((channel, assembly.carrier()?))
    }

    /// The next event in `octets`, after those [taken](Self::taken) already; `None` if more must come first.
    #[inline]
    pub(crate) fn next<'a>(&'a mut self, octets: &'a [u8]) -> Result<Option<Heard<'a>>, Violation> {
        self.take_back();
        loop {
            let octets = octets.get(self.taken..).unwrap_or_default();
            if let Some(partial) = self.partial {
                match self.body_part(partial, octets)? {
                    Part::Starved => return Ok(None),
                    Part::Taken => continue,
                    Part::Whole => return self.assembled(partial.channel).map(Some),
                }
            }
            let Some(head) = Head::peek(octets, self.frame_max)? else { return Ok(None) };
            if self.closing && head.channel != 0 && self.assembly(head.channel).is_err() {
                let Some(_) = head.payload(octets)? else { return Ok(None) };
                self.taken += head.total();
                continue;
            }
            if head.kind == Kind::Body {
                self.assembly(head.channel)?.body_frame(head.size)?;
                self.taken += HEAD;
                self.partial = Some(Partial { channel: head.channel, left: head.size });
                continue;
            }
            let Some(payload) = head.payload(octets)? else { return Ok(None) };
            match head.kind {
                Kind::Method => {
                    let carrier = Carrier::get(payload)?;
                    if head.channel != 0 && !self.assembly(head.channel)?.is_idle() {
                        return Err(Violation::unexpected("a method in the middle of a message"));
                    }
                    let Some(carrier) = carrier else {
                        self.taken += head.total();
                        if let Some(confirmation) = Confirmation::get(payload).filter(|_| head.channel != 0) {
                            return Ok(Some(Heard::Confirmation(head.channel, confirmation)));
                        }
                        match Method::get(payload).and_then(|method| placed(head.channel, method)) {
                            Err(_) if self.closing => continue,
                            heard => return heard.map(Some),
                        }
                    };
                    if head.channel == 0 {
                        return Err(Violation::channel("content on channel 0"));
                    }
                    let (frame_max, largest) = (self.frame_max, self.max_message_size);
                    match in_place(carrier, octets, head.total(), head.channel, frame_max, largest)? {
                        InPlace::Whole(incoming, total) => {
                            self.taken += total;
                            return Ok(Some(Heard::Message(head.channel, incoming)));
                        }
                        InPlace::Incomplete => return Ok(None),
                        InPlace::Pieces => {
                            self.assembly(head.channel)?.begin(payload);
                            self.taken += head.total();
                        }
                    }
                }
                Kind::Header => {
                    let largest = self.max_message_size;
                    let told = self.assembly(head.channel)?.header(payload, largest)?;
                    self.taken += head.total();
                    if told {
                        return self.assembled(head.channel).map(Some);
                    }
                }
                Kind::Body | Kind::Heartbeat => self.taken += head.total(),
            }
        }
    }

    fn body_part(&mut self, Partial { channel, left }: Partial, octets: &[u8]) -> Result<Part, Violation> {
        let now = left.min(octets.len());
        let assembly = self.assembly(channel)?;
        assembly.body(octets.get(..now).unwrap_or_default());
        self.taken += now;
        self.partial = Some(Partial { channel, left: left - now });
        if now < left {
            return Ok(Part::Starved);
        }
        match octets.get(now) {
            None => Ok(Part::Starved),
            Some(&FRAME_END) => {
                self.taken += 1;
                self.partial = None;
                Ok(if self.assembly(channel)?.is_whole() { Part::Whole } else { Part::Taken })
            }
            Some(_) => Err(BAD_END),
        }
    }

    fn assembled(&mut self, channel: u16) -> Result<Heard<'_>, Violation> {
        self.lent = Some(channel);
        let incoming = self.assembly(channel)?.incoming()?;
        Ok(Heard::Message(channel, incoming))
    }

    #[inline]
    fn take_back(&mut self) {
        if let Some(channel) = self.lent.take() {
            if let Ok(assembly) = self.assembly(channel) {
                assembly.take_back();
            }
        }
    }

    #[inline]
    fn assembly(&mut self, channel: u16) -> Result<&mut Assembly, Violation> {
        match self.channels.get_mut(usize::from(channel)) {
            Some(Some(assembly)) => Ok(assembly),
            _ => Err(Violation::channel("a frame on a channel that is not open")),
        }
    }
}

enum Part {
    Starved,
    Taken,
    Whole,
}

/// Connection methods belong on channel 0, and nothing else does.
fn placed<'a>(channel: u16, method: Method) -> Result<Heard<'a>, Violation> {
    match (channel, method) {
        (0, Method::Connection(method)) => Ok(Heard::Connection(Box::new(method))),
        (0, _) => Err(Violation::channel("a channel's method on channel 0")),
        (_, Method::Connection(_)) => Err(Violation::command("a connection method on a channel")),
        (_, method) => Ok(Heard::Method(channel, Box::new(method))),
    }
}
