//! Messages as the program gets them.

use crate::wire::{
    content::{Carrier, Incoming},
    properties::{BasicProperties, Properties},
    strings::{ShortStr, ShortString},
};
use bytes::Bytes;
use std::{fmt, sync::Arc};

/// The broker's number for a delivery, and the channel's life that it belongs to.
///
/// It can only be acknowledged on the channel that it came from: elsewhere, or later, it is refused locally instead of
/// hitting another message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag {
    pub(crate) generation: u64,
    pub(crate) tag: u64,
}

impl DeliveryTag {
    /// Returns the number on the wire [§1.8.3.13]: 1 and up on each channel.
    pub fn number(self) -> u64 {
        self.tag
    }
}

impl fmt::Display for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tag.fmt(f)
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.tag, self.generation)
    }
}

/// A message that is lent to a consumer's callback: nothing in it was copied or decoded that is not looked at.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The consumer that it is for.
    pub consumer_tag: ShortStr<'a>,
    /// What to acknowledge it by.
    pub delivery_tag: DeliveryTag,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The exchange that it was published to; empty for the default exchange.
    pub exchange: ShortStr<'a>,
    /// The routing key that it was published with.
    pub routing_key: ShortStr<'a>,
    /// Its properties, decoded when asked for.
    pub properties: Properties<'a>,
    /// Its body.
    pub body: &'a [u8],
    pub(crate) shared: Option<&'a Bytes>,
    /// The consumer's tag as its messages share it.
    pub(crate) consumer: &'a Arc<ShortString>,
}

impl Delivery<'_> {
    /// Returns the body to keep. Copied once, unless it was too large to lie in the receive buffer in one piece.
    pub fn into_body(self) -> Bytes {
        owned(self.shared, self.body)
    }

    /// Returns the whole message to keep.
    pub fn to_owned(&self) -> Message {
        Message {
            consumer_tag: self.consumer.clone(),
            delivery_tag: self.delivery_tag,
            redelivered: self.redelivered,
            exchange: self.exchange.to_owned(),
            routing_key: self.routing_key.to_owned(),
            message_count: None,
            properties: self.properties.to_owned_lossy(),
            body: owned(self.shared, self.body),
        }
    }
}

/// A message of the program's own, from basic.get for example.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The consumer that it was for, whose messages share its tag; empty from basic.get.
    pub consumer_tag: Arc<ShortString>,
    /// What to acknowledge it by.
    pub delivery_tag: DeliveryTag,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The exchange that it was published to; empty for the default exchange.
    pub exchange: ShortString,
    /// The routing key that it was published with.
    pub routing_key: ShortString,
    /// Messages left in the queue; known from basic.get only.
    pub message_count: Option<u32>,
    /// Its properties; headers that cannot be decoded are left out.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Bytes,
}

/// A message that the broker could not route and gave back [§1.8.3.10].
#[doc(alias = "BasicReturnMessage")]
#[derive(Clone, Debug, PartialEq)]
pub struct Returned {
    /// 312 for example: no queue is bound for it.
    pub reply_code: u16,
    /// The broker's words.
    pub reply_text: ShortString,
    /// The exchange that it was published to.
    pub exchange: ShortString,
    /// The routing key that it was published with.
    pub routing_key: ShortString,
    /// Its properties.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Bytes,
}

impl<'a> Incoming<'a> {
    pub(crate) fn body(&self) -> Bytes {
        owned(self.shared, self.body)
    }

    /// Whether the body was too large to be kept.
    pub(crate) fn is_refused(&self) -> bool {
        self.size != self.body.len() as u64
    }

    pub(crate) fn returned(&self) -> Option<Returned> {
        let Carrier::Return { reply_code, reply_text, exchange, routing_key } = self.carrier else { return None };
        Some(Returned {
            reply_code,
            reply_text: reply_text.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            properties: self.properties.to_owned_lossy(),
            body: self.body(),
        })
    }

    pub(crate) fn got(&self, generation: u64) -> Option<Message> {
        let Carrier::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count } = self.carrier else {
            return None;
        };
        Some(Message {
            consumer_tag: Arc::default(),
            delivery_tag: DeliveryTag { generation, tag: delivery_tag },
            redelivered,
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            message_count: Some(message_count),
            properties: self.properties.to_owned_lossy(),
            body: self.body(),
        })
    }
}

fn owned(shared: Option<&Bytes>, body: &[u8]) -> Bytes {
    shared.cloned().unwrap_or_else(|| Bytes::copy_from_slice(body))
}
