//! What the program asks for, encoded under the lock: requests and who waits for their replies, publishes, acknowledgements.

use crate::{
    error::{Error, Result},
    session::{
        channel::{ChannelState, Consumer, Identity, Phase as ChannelPhase, Qos},
        confirm::{Confirms, PAUSED, PublishOutcome},
        reply::{Continuation, Expect},
        state::{Phase, State},
    },
    wire::{
        fault::Invalid,
        frame::{Content, put_content},
        spec::{self, Arguments, Method, basic},
        strings::ShortString,
    },
};
use std::{collections::BTreeMap, mem, sync::Arc};

/// A request that waits for its reply.
pub(crate) struct Pending<S> {
    pub(crate) expect: Expect,
    pub(crate) then: Continuation<S>,
    /// Its place among the connection's requests.
    pub(crate) number: u64,
    /// The consumer that it starts or ends, if it does.
    pub(crate) consumer_tag: Option<ShortString>,
}

impl<S: 'static> State<S> {
    /// A channel with this number, or with the lowest that is free. Nothing is sent yet.
    pub(crate) fn register(&mut self, number: Option<u16>, serial: u64) -> Result<Arc<Identity>> {
        let limit = self.limits.channel_max;
        let is_free = |number: &u16| !self.channels.contains_key(number);
        let number = match (&self.phase, number) {
            (Phase::Open, Some(number)) if number == 0 || number > limit || !is_free(&number) => {
                return Err(Invalid::ChannelNumber(number).into());
            }
            (Phase::Open, Some(number)) => number,
            (Phase::Open, None) => {
                let lowest = (1..=limit).find(is_free);
                lowest.ok_or_else(|| Error::NoFreeChannels { endpoint: self.endpoint.clone(), limit })?
            }
            (phase, _) => return Err(phase.refusal()),
        };
        let identity = Identity::new(number, serial);
        self.channels.insert(number, ChannelState::new(identity.clone()));
        Ok(identity)
    }

    /// The channel's state, if it can be used.
    #[inline]
    pub(crate) fn usable(&mut self, identity: &Identity) -> Result<&mut ChannelState<S>> {
        usable(&mut self.channels, identity)
    }

    /// Encodes a method on a channel; if a reply is expected, `then` gets it.
    pub(crate) fn request(
        &mut self,
        identity: &Identity,
        method: &Method,
        expect: Option<Expect>,
        then: Continuation<S>,
    ) -> Result<(), (Error, Continuation<S>)> {
        if let Method::Basic(basic::Method::Cancel(cancel)) = method {
            let number = self.requests + 1;
            match self.usable(identity) {
                Ok(channel) if channel.is_starting(&cancel.consumer_tag) => {
                    channel.cancelling(&cancel.consumer_tag, true);
                    let consumer_tag = Some(cancel.consumer_tag.clone());
                    let pending = expect.map(|expect| Pending { expect, then, number, consumer_tag });
                    channel.held.push((cancel.clone(), pending));
                    self.requests = number;
                    return Ok(());
                }
                _ => {}
            }
        }
        if let Err(error) = self.encode(identity, method, expect) {
            return Err((error, then));
        }
        self.expect(identity, method, expect, then);
        if let Method::Basic(basic::Method::Qos(basic::Qos { prefetch_count, global: false, .. })) = method {
            // The program's word: our own go another way.
            if let Some(channel) = self.channels.get_mut(&identity.number) {
                channel.qos.said = Some(*prefetch_count);
            }
            self.limit_channel(identity);
        }
        Ok(())
    }

    /// Notes who gets the reply to what has been sent.
    fn expect(&mut self, identity: &Identity, method: &Method, expect: Option<Expect>, then: Continuation<S>) {
        if let Some(expect) = expect {
            self.requests += 1;
            self.hurry();
            if let Some(channel) = self.channels.get_mut(&identity.number) {
                let consumer_tag = match method {
                    Method::Basic(basic::Method::Consume(consume)) => Some(consume.consumer_tag.clone()),
                    Method::Basic(basic::Method::Cancel(cancel)) => Some(cancel.consumer_tag.clone()),
                    _ => None,
                };
                channel.fifo.push_back(Pending { expect, then, number: self.requests, consumer_tag });
            }
        }
    }

    fn encode(&mut self, identity: &Identity, method: &Method, expect: Option<Expect>) -> Result<()> {
        let channel = usable(&mut self.channels, identity)?;
        channel.put_request(&mut self.outbox, &mut self.paused, self.taken, method, self.limits.frame_max)?;
        self.changed = true;
        self.frames += 1;
        match method {
            Method::Channel(spec::channel::Method::Close(close)) => {
                let error = Error::ChannelClosedByClient {
                    channel: identity.number,
                    code: close.reply_code,
                    text: close.reply_text.to_string_lossy().into(),
                };
                channel.phase = ChannelPhase::Closing;
                identity.close(error);
            }
            Method::Confirm(spec::confirm::Method::Select(_)) if channel.confirms.is_none() => {
                channel.confirms = Some(Confirms::default());
            }
            Method::Basic(basic::Method::Cancel(cancel)) => channel.cancelling(&cancel.consumer_tag, expect.is_some()),
            Method::Basic(basic::Method::Qos(qos)) if qos.global => channel.qos.global = Some(qos.prefetch_count),
            Method::Basic(basic::Method::Qos(qos)) => channel.qos.told = Some(qos.prefetch_count),
            _ => {}
        }
        Ok(())
    }

    /// A request of the connection itself.
    pub(crate) fn request_on_connection(
        &mut self,
        method: &Method,
        expect: Expect,
        then: Continuation<S>,
    ) -> Result<(), (Error, Continuation<S>)> {
        let said = match &self.phase {
            Phase::Open => self.try_to_say(0, method).map_err(Error::from),
            phase => Err(phase.refusal()),
        };
        if let Err(error) = said {
            return Err((error, then));
        }
        self.requests += 1;
        self.hurry();
        self.fifo.push_back(Pending { expect, then, number: self.requests, consumer_tag: None });
        Ok(())
    }

    /// The consumer with this tag has begun: what was to cancel it goes out. Who cannot be answered any more comes back.
    pub(crate) fn release(&mut self, number: u16, tag: &ShortString) -> Vec<(Error, Continuation<S>)> {
        let mut refused = vec![];
        let Some(channel) = self.channels.get_mut(&number) else { return refused };
        let identity = channel.identity.clone();
        let (due, held) = mem::take(&mut channel.held).into_iter().partition(|(cancel, _)| cancel.consumer_tag == *tag);
        channel.held = held;
        let due: Vec<(basic::Cancel, Option<Pending<S>>)> = due;
        for (cancel, pending) in due {
            let (expect, then) = match pending {
                Some(pending) => (Some(pending.expect), pending.then),
                None => (None, Continuation::Nobody),
            };
            refused.extend(self.request(&identity, &cancel.into(), expect, then).err());
        }
        refused
    }

    /// Encodes a publish; in confirm mode `then` is taken. More than `limit` octets must not wait.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        identity: &Identity,
        content: &Content<'_>,
        then: &mut Option<(Continuation<S, PublishOutcome>, u64)>,
        limit: Option<usize>,
    ) -> Result<()> {
        let frame_max = self.limits.frame_max;
        let held = self.held();
        if let Some(limit) = limit.filter(|limit| held > *limit) {
            return Err(Error::OutboundFull { held, limit });
        }
        let channel = usable(&mut self.channels, identity)?;
        if then.is_some() && channel.confirms.is_none() {
            return Err(Invalid::NotInConfirmMode.into());
        }
        channel.put_message(&mut self.outbox, &mut self.paused, |outbox| {
            put_content(outbox, identity.number, content, frame_max)
        })?;
        if let Some(confirms) = &mut channel.confirms {
            let end = if channel.paused.is_some() { PAUSED } else { self.taken + self.outbox.len() as u64 };
            confirms.published(end, then.take());
        }
        self.changed = true;
        self.frames += content.frames(frame_max);
        Ok(())
    }

    /// Acknowledges, or whatever else `put` writes about a delivery.
    #[inline]
    pub(crate) fn settle(&mut self, identity: &Identity, put: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        usable(&mut self.channels, identity)?;
        self.frames += 1;
        self.answers += SETTLEMENT;
        put(self.out());
        Ok(())
    }

    /// Encodes basic.consume, and registers its tag. `wanted` is the limit that the consumer is to have; `None` is the one that
    /// holds.
    pub(crate) fn consume(
        &mut self,
        identity: &Identity,
        method: &mut basic::Consume,
        wanted: impl FnOnce(Qos) -> Option<u16>,
        then: Continuation<S>,
    ) -> Result<(), (Error, Continuation<S>)> {
        let qos = match self.claim_tag(identity, method) {
            Ok(qos) => qos,
            Err(error) => return Err((error, then)),
        };
        if let Some(wanted) = wanted(qos).filter(|wanted| qos.told != Some(*wanted)) {
            self.qos(identity, wanted, false);
            self.limit_channel(identity);
        }
        let expect = (!method.nowait).then_some(Expect(basic::ConsumeOk::ID, None));
        let result = self.request(identity, &method.clone().into(), expect, then);
        if result.is_err() {
            if let Some(channel) = self.channels.get_mut(&identity.number) {
                channel.forget(method.consumer_tag.as_bytes());
            }
        }
        result
    }

    /// The limit of the channel as a whole is said again behind a word about its consumers, which lifts it.
    fn limit_channel(&mut self, identity: &Identity) {
        let qos = self.channels.get(&identity.number).map(|channel| channel.qos);
        if let Some(limit) = qos.filter(|qos| qos.is_limited()).and_then(|qos| qos.global) {
            self.qos(identity, limit, true);
        }
    }

    /// basic.qos that the program has not asked for.
    fn qos(&mut self, identity: &Identity, prefetch_count: u16, global: bool) {
        let method = basic::Qos { prefetch_count, global, ..Default::default() }.into();
        let sent = self.encode(identity, &method, None);
        debug_assert!(sent.is_ok(), "the channel is usable, and a number always fits");
        self.expect(identity, &method, Some(Expect(basic::QosOk::ID, None)), Continuation::Nobody);
    }

    /// Registers the consumer's tag, made up if there is none; gives the limits that hold.
    fn claim_tag(&mut self, identity: &Identity, method: &mut basic::Consume) -> Result<Qos> {
        let channel = self.usable(identity)?;
        if method.consumer_tag.is_empty() {
            method.consumer_tag = channel.new_tag();
        } else if channel.has_tag(&method.consumer_tag) {
            let tag = method.consumer_tag.to_string_lossy().into();
            return Err(Error::Invalid(Invalid::DuplicateConsumerTag(tag)));
        }
        let tag = method.consumer_tag.clone();
        channel.consumers.push(Consumer { tag, cancelled: false });
        channel.last_ended = None;
        Ok(channel.qos)
    }
}

/// Octets of basic.ack, basic.nack and basic.reject, each with its envelope.
const SETTLEMENT: usize = 21;

/// The channel's state, if it can be used: for where the rest of the connection's is needed beside it.
#[inline]
fn usable<'a, S>(
    channels: &'a mut BTreeMap<u16, ChannelState<S>>,
    identity: &Identity,
) -> Result<&'a mut ChannelState<S>> {
    match channels.get_mut(&identity.number) {
        Some(channel) if channel.identity.serial == identity.serial => match &channel.phase {
            ChannelPhase::Open => Ok(channel),
            ChannelPhase::Closing | ChannelPhase::Deserted => Err(identity.reason()),
        },
        _ => Err(identity.reason()),
    }
}
