//! A broker that answers as RabbitMQ does, when the dice let it, and that looks at all that it hears.

use super::dice::Dice;
use crate::scripted_peer::{Wire, start};
use amqp_core::{
    BasicProperties, ShortString, basic, exchange,
    frame::Frame,
    queue,
    spec::{Method, channel, confirm, connection},
    tx,
};
use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

/// What the broker knows of its client.
pub(super) struct Broker {
    wire: Wire,
    /// Octets of a frame of which not all has come.
    begun: Vec<u8>,
    /// What was not answered yet, in the order in which it came.
    unanswered: VecDeque<(u16, Method)>,
    channels: BTreeMap<u16, Channel>,
    /// The handshake is over.
    open: bool,
    /// The client has asked for the end.
    closing: bool,
    /// The client has agreed to the end.
    gone: bool,
    /// All that the client was told is what a good broker tells it.
    pub(super) honest: bool,
}

#[derive(Default)]
struct Channel {
    /// The client has closed it, and was not answered.
    closing: bool,
    /// The broker has closed it, and was not answered.
    closed: bool,
    consumers: Vec<ShortString>,
    delivered: u64,
    confirming: bool,
    published: u64,
    confirmed: u64,
    /// Content that follows: a header, and then so many octets.
    content: Option<Option<u64>>,
    /// What the content belongs to.
    publish: Option<basic::Publish>,
}

impl Broker {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            begun: vec![],
            unanswered: VecDeque::new(),
            channels: BTreeMap::new(),
            open: false,
            closing: false,
            gone: false,
            honest: true,
        }
    }

    /// Looks at what the client has sent.
    pub(super) fn listen(&mut self) {
        self.begun.extend(self.wire.heard_octets());
        let octets = std::mem::take(&mut self.begun);
        let mut rest = octets.as_slice();
        loop {
            match Frame::decode(rest) {
                Ok(Some((frame, taken))) => {
                    self.hear(&frame);
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(violation) => panic!("the client has sent no frame: {violation:?} in {rest:?}"),
            }
        }
        self.begun = rest.to_vec();
    }

    fn hear(&mut self, frame: &Frame<'_>) {
        assert!(!self.gone, "{frame:?} after the end");
        match frame {
            Frame::ProtocolHeader(version) => {
                assert_eq!(version, &[0, 0, 9, 1]);
                let begin = connection::Open::default(); // stands for the header: answered by connection.start
                self.unanswered.push_back((u16::MAX, begin.into()));
            }
            Frame::Method(0, method) => self.hear_of_connection(method),
            Frame::Method(number, method) => self.hear_method(*number, method),
            Frame::Header(number, header) => {
                let channel = self.channels.entry(*number).or_default();
                assert_eq!(channel.content.take(), Some(None), "a header where none is due");
                channel.content = (header.body_size > 0).then_some(Some(header.body_size));
                self.published(*number);
            }
            Frame::Body(number, body) => {
                let channel = self.channels.entry(*number).or_default();
                let due = channel.content.take().flatten().and_then(|due| due.checked_sub(body.len() as u64));
                assert!(due.is_some() && !body.is_empty(), "a body where none is due");
                channel.content = due.filter(|due| *due > 0).map(Some);
                self.published(*number);
            }
            _ => {}
        }
    }

    fn hear_of_connection(&mut self, method: &Method) {
        let Method::Connection(inner) = method else { panic!("{method:?} on channel 0") };
        match inner {
            connection::Method::CloseOk(_) => self.gone = true,
            connection::Method::Close(_) => {
                assert!(!self.closing, "closed twice");
                self.closing = true;
                self.unanswered.clear();
                self.unanswered.push_back((0, method.clone()));
            }
            _ => {
                assert!(!self.closing, "{method:?} after connection.close");
                self.unanswered.push_back((0, method.clone()));
            }
        }
    }

    fn hear_method(&mut self, number: u16, method: &Method) {
        assert!(!self.closing, "{method:?} on channel {number} after connection.close");
        let honest = self.honest;
        let channel = self.channels.entry(number);
        if let Method::Channel(channel::Method::Open(_)) = method {
            let is_new = matches!(channel, Entry::Vacant(_));
            assert!(is_new || !honest, "channel {number} is opened, and was open");
            self.channels.insert(number, Channel::default());
            self.unanswered.push_back((number, method.clone()));
            return;
        }
        let channel = match channel {
            Entry::Occupied(channel) => channel.into_mut(),
            Entry::Vacant(place) => {
                let is_answer = matches!(method, Method::Channel(channel::Method::CloseOk(_)));
                assert!(is_answer || !honest, "{method:?} on channel {number}, which is not open");
                place.insert(Channel::default())
            }
        };
        assert_eq!(channel.content, None, "{method:?} on channel {number}, where content is due");
        match method {
            Method::Channel(channel::Method::CloseOk(_)) => {
                self.channels.remove(&number);
                // RabbitMQ answers a close that crosses its own.
                let is_close = |method: &Method| matches!(method, Method::Channel(channel::Method::Close(_)));
                self.unanswered.retain(|(other, method)| *other != number || is_close(method));
                return;
            }
            Method::Channel(channel::Method::Close(_)) => {
                assert!(!channel.closing || !honest, "channel {number} is closed twice");
                channel.closing = true;
            }
            _ => assert!(!channel.closing || !honest, "{method:?} on channel {number} after channel.close"),
        }
        channel.confirming |= matches!(method, Method::Confirm(confirm::Method::Select(_)));
        if let Method::Basic(basic::Method::Publish(publish)) = method {
            channel.content = Some(None);
            channel.publish = Some(publish.clone());
        } else if !channel.closed || channel.closing {
            self.unanswered.push_back((number, method.clone()));
        }
    }

    /// The content of a publish is complete, if no more is due.
    fn published(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(&number).filter(|channel| channel.content.is_none()) else { return };
        // What comes on a channel that the broker has closed is thrown away.
        if let Some(publish) = channel.publish.take().filter(|_| !channel.closed) {
            channel.published += u64::from(channel.confirming);
            self.unanswered.push_back((number, publish.into()));
        }
    }

    pub(super) fn has_something_to_answer(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Answers what came first and was not answered yet.
    pub(super) fn answer(&mut self, dice: &mut Dice) {
        let Some((number, method)) = self.unanswered.pop_front() else { return };
        match method {
            Method::Connection(method) => self.answer_of_connection(number, &method),
            Method::Channel(channel::Method::Open(_)) => self.say(number, channel::OpenOk::default()),
            Method::Channel(channel::Method::Close(_)) => {
                if self.channels.get(&number).is_some_and(|channel| channel.closing) {
                    self.channels.remove(&number);
                }
                self.say(number, channel::CloseOk {});
            }
            Method::Channel(channel::Method::Flow(flow)) => self.say(number, channel::FlowOk { active: flow.active }),
            Method::Exchange(exchange::Method::Declare(declare)) if !declare.nowait => {
                self.say(number, exchange::DeclareOk {});
            }
            Method::Exchange(exchange::Method::Delete(delete)) if !delete.nowait => {
                self.say(number, exchange::DeleteOk {});
            }
            Method::Queue(queue::Method::Declare(declare)) if !declare.nowait => {
                let queue = if declare.queue.is_empty() { "amq.gen".into() } else { declare.queue };
                self.say(number, queue::DeclareOk { queue, ..Default::default() });
            }
            Method::Queue(queue::Method::Purge(purge)) if !purge.nowait => {
                self.say(number, queue::PurgeOk { message_count: 1 });
            }
            Method::Confirm(confirm::Method::Select(select)) if !select.nowait => {
                self.say(number, confirm::SelectOk {});
            }
            Method::Tx(tx::Method::Select(_)) => self.say(number, tx::SelectOk {}),
            Method::Tx(tx::Method::Commit(_)) => self.say(number, tx::CommitOk {}),
            Method::Basic(method) => self.answer_of_basic(number, method, dice),
            _ => {}
        }
    }

    fn answer_of_connection(&mut self, number: u16, method: &connection::Method) {
        match method {
            connection::Method::Open(_) if number == u16::MAX => self.say(0, start()),
            connection::Method::StartOk(_) => {
                self.say(0, connection::Tune { channel_max: 5, frame_max: 8192, heartbeat: 60 });
            }
            connection::Method::Open(_) => {
                self.open = true;
                self.say(0, connection::OpenOk::default());
            }
            connection::Method::Close(_) => self.say(0, connection::CloseOk {}),
            connection::Method::UpdateSecret(_) => self.say(0, connection::UpdateSecretOk {}),
            _ => {}
        }
    }

    fn answer_of_basic(&mut self, number: u16, method: basic::Method, dice: &mut Dice) {
        match method {
            basic::Method::Qos(_) => self.say(number, basic::QosOk {}),
            basic::Method::Recover(_) => self.say(number, basic::RecoverOk {}),
            basic::Method::Consume(basic::Consume { consumer_tag, nowait, .. }) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.consumers.push(consumer_tag.clone());
                }
                if !nowait {
                    self.say(number, basic::ConsumeOk { consumer_tag });
                }
            }
            basic::Method::Cancel(basic::Cancel { consumer_tag, nowait }) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.consumers.retain(|tag| *tag != consumer_tag);
                }
                if !nowait {
                    self.say(number, basic::CancelOk { consumer_tag });
                }
            }
            basic::Method::Get(_) if dice.once_in(2) => {
                let delivery_tag = self.next_delivery(number);
                self.say(number, basic::GetOk { delivery_tag, ..Default::default() });
                self.content(number, dice);
            }
            basic::Method::Get(_) => self.say(number, basic::GetEmpty::default()),
            basic::Method::Publish(publish) => {
                if publish.mandatory && dice.once_in(2) {
                    let text = "NO_ROUTE".into();
                    self.say(number, basic::Return { reply_code: 312, reply_text: text, ..Default::default() });
                    self.content(number, dice);
                }
                self.confirm(number, dice);
            }
            _ => {}
        }
    }

    /// Acks or nacks some of what is not confirmed yet, in any order that the dice want.
    fn confirm(&mut self, number: u16, dice: &mut Dice) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.closed || channel.confirmed >= channel.published {
            return;
        }
        let (first, last) = (channel.confirmed + 1, channel.published);
        let multiple = dice.once_in(3);
        channel.confirmed = if multiple { last } else { first };
        let delivery_tag = channel.confirmed;
        if dice.once_in(4) {
            self.say(number, basic::Nack { delivery_tag, multiple, requeue: false });
        } else {
            self.say(number, basic::Ack { delivery_tag, multiple });
        }
    }

    /// Acks all that was published and not confirmed; whether there was something.
    pub(super) fn confirm_all(&mut self) -> bool {
        let mut something = false;
        for (number, channel) in &mut self.channels {
            if channel.confirmed < channel.published && !channel.closed && !channel.closing {
                channel.confirmed = channel.published;
                self.wire.say(*number, basic::Ack { delivery_tag: channel.confirmed, multiple: true });
                something = true;
            }
        }
        something
    }

    /// Says something that a broker may say at any time.
    pub(super) fn take_the_initiative(&mut self, dice: &mut Dice) {
        let open = self.channels.iter().filter(|(_, channel)| !channel.closing && !channel.closed);
        let open: Vec<_> = open.map(|(number, _)| *number).collect();
        let number = dice.one_of(&open);
        match (dice.below(8), number) {
            (0, _) if self.is_open() => self.say(0, connection::Blocked { reason: "memory".into() }),
            (1, _) if self.is_open() => self.say(0, connection::Unblocked {}),
            (2, _) if self.is_open() && dice.once_in(4) => {
                let reply_text = "CONNECTION_FORCED".into();
                self.say(0, connection::Close { reply_code: 320, reply_text, ..Default::default() });
                self.unanswered.clear();
            }
            (3, Some(number)) => {
                self.channels.entry(number).or_default().closed = true;
                self.unanswered.retain(|(other, _)| *other != number);
                self.say(
                    number,
                    channel::Close { reply_code: 404, reply_text: "NOT_FOUND".into(), ..Default::default() },
                );
            }
            (4, Some(number)) => {
                let channel = self.channels.entry(number).or_default();
                if let Some(consumer_tag) = dice.take(&mut channel.consumers) {
                    self.say(number, basic::Cancel { consumer_tag, nowait: true });
                }
            }
            (_, Some(number)) => self.deliver(number, dice),
            _ if self.is_open() => self.wire.frame(8, 0, &[]),
            _ => {}
        }
    }

    /// A message for one of the channel's consumers.
    fn deliver(&mut self, number: u16, dice: &mut Dice) {
        let consumers = self.channels.get(&number).map(|channel| channel.consumers.clone()).unwrap_or_default();
        let Some(consumer_tag) = dice.one_of(&consumers) else { return };
        let delivery_tag = self.next_delivery(number);
        self.say(number, basic::Deliver { consumer_tag, delivery_tag, ..Default::default() });
        self.content(number, dice);
    }

    fn content(&self, number: u16, dice: &mut Dice) {
        let body = vec![7; usize::from(dice.octet()) * usize::from(dice.octet()) / 8];
        let chunk = usize::from(dice.octet()) * 32 + 1;
        self.wire.content(number, &BasicProperties::new().header("k", 1), &body, chunk.min(8184));
    }

    fn next_delivery(&mut self, number: u16) -> u64 {
        let channel = self.channels.entry(number).or_default();
        channel.delivered += 1;
        channel.delivered
    }

    fn say(&self, channel: u16, method: impl Into<Method>) {
        self.wire.say(channel, method);
    }

    /// Something that no broker says.
    pub(super) fn misbehave(&mut self, dice: &mut Dice) {
        self.honest = false;
        let channel = u16::from(dice.below(4));
        match dice.below(8) {
            0 => self.wire.octets(&dice.octets(40)),
            1 => {
                let kind = dice.below(9);
                self.wire.frame(kind, channel, &dice.octets(60));
            }
            2 => {
                let size = [dice.octet(), dice.octet(), dice.octet(), dice.octet()];
                self.wire.octets(&[&[1 + dice.below(3), 0, channel as u8], &size[..]].concat());
            }
            3 => {
                let size = [dice.octet(); 8];
                let flags = [dice.octet(), dice.octet()];
                let payload = [&[0, 60, 0, 0], &size[..], &flags, &dice.octets(40)].concat();
                self.wire.frame(2, channel, &payload);
            }
            4 => self.wire.frame(3, channel, &dice.octets(60)),
            5 => {
                // A method that exists, with arguments that may fit.
                let (class, method) = (dice.below(10) * 10, dice.below(13) * 10 + dice.below(2));
                let payload = [&[0, class, 0, method], &dice.octets(40)[..]].concat();
                self.wire.frame(1, channel, &payload);
            }
            6 => self.say(channel, any_answer(dice)),
            _ => self.answer_wrongly(dice),
        }
    }

    /// The answer to something later.
    fn answer_wrongly(&mut self, dice: &mut Dice) {
        if let Some(first) = self.unanswered.pop_front() {
            self.unanswered.push_back(first);
        }
        self.answer(dice);
    }

    fn is_open(&self) -> bool {
        self.open && !self.closing && !self.gone
    }
}

/// An answer that nobody may have asked for.
fn any_answer(dice: &mut Dice) -> Method {
    let tag = ShortString::from(dice.octets(3));
    let (delivery_tag, multiple) = (u64::from(dice.octet()), dice.once_in(2));
    match dice.below(18) {
        0 => channel::OpenOk::default().into(),
        1 => channel::CloseOk {}.into(),
        2 => channel::Close::default().into(),
        3 => channel::Flow { active: multiple }.into(),
        4 => queue::DeclareOk::default().into(),
        5 => basic::ConsumeOk { consumer_tag: tag }.into(),
        6 => basic::CancelOk { consumer_tag: tag }.into(),
        7 => basic::Cancel { consumer_tag: tag, nowait: multiple }.into(),
        8 => basic::Deliver { consumer_tag: tag, delivery_tag, ..Default::default() }.into(),
        9 => basic::GetOk { delivery_tag, ..Default::default() }.into(),
        10 => basic::GetEmpty::default().into(),
        11 => basic::Ack { delivery_tag, multiple }.into(),
        12 => basic::Nack { delivery_tag, multiple, requeue: false }.into(),
        13 => basic::Return::default().into(),
        14 => connection::CloseOk {}.into(),
        15 => connection::Tune { channel_max: 0, frame_max: u32::from(dice.octet()) * 64, heartbeat: 1 }.into(),
        16 => confirm::SelectOk {}.into(),
        _ => connection::Close::default().into(),
    }
}
