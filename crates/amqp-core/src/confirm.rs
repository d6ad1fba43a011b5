//! Publisher confirms: which publishes are outstanding, and what became of them.

use crate::{
    delivery::Returned,
    error::{Error, Result},
    handle::Channel,
    reply::{Answer, Continuation},
    spec::{Arguments, Method, MethodId, basic},
};
use std::collections::VecDeque;

/// basic.ack or basic.nack from the broker, in confirm mode: pika's `ack_nack_callback` is given these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The number of the publish, counted from 1 behind confirm.select.
    pub delivery_tag: u64,
    /// Whether all earlier ones are meant as well.
    pub multiple: bool,
    /// Whether the broker took responsibility; otherwise it could not.
    pub ack: bool,
}

/// What became of a publish in confirm mode.
///
/// A publish whose channel or connection ends first has no outcome but an error: whether the broker has it is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishOutcome {
    /// The broker has taken responsibility for it.
    Acked,
    /// The broker could not take responsibility for it.
    Nacked,
    /// It was mandatory and nothing is bound for it: here it is again.
    Returned(Box<Returned>),
}

pub(crate) type OnConfirm<S> = Box<dyn FnMut(&mut S, &Channel<S>, Confirmation) -> Result<()> + Send>;

/// The header by which a returned message is tied to its publish, because the broker offers nothing else that is exact.
pub(crate) const PUBLISH_HEADER: &str = "x-pooka-publish";

/// The publishes of a channel in confirm mode that somebody waits for; the others are only counted.
pub(crate) struct Confirms<S> {
    next: u64,
    /// In the order of their numbers.
    waiting: VecDeque<Waiting<S>>,
}

struct Waiting<S> {
    number: u64,
    /// What its [header](PUBLISH_HEADER) says, if it has one.
    mark: u64,
    /// `None` once it has been resolved out of turn.
    then: Option<Continuation<S>>,
    returned: Option<Box<Returned>>,
}

impl<S> Default for Confirms<S> {
    fn default() -> Self {
        Self { next: 1, waiting: VecDeque::new() }
    }
}

impl<S: 'static> Confirms<S> {
    /// The next publish has been sent.
    #[inline]
    pub(crate) fn published(&mut self, then: Option<(Continuation<S>, u64)>) {
        if let Some((then, mark)) = then {
            self.waiting.push_back(Waiting { number: self.next, mark, then: Some(then), returned: None });
        }
        self.next += 1;
    }

    /// The broker has given the publish with this mark back; its ack is still to come.
    pub(crate) fn returned(&mut self, mark: u64, returned: Returned) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.mark == mark) {
            waiting.returned = Some(Box::new(returned));
        }
    }

    /// Continuations that this settles, in the order of their publishes, each once.
    pub(crate) fn confirmed(&mut self, confirmation: Confirmation) -> Vec<(Continuation<S>, PublishOutcome)> {
        let Confirmation { delivery_tag, multiple, ack } = confirmation;
        let through = if delivery_tag == 0 { u64::MAX } else { delivery_tag };
        let mut settled = vec![];
        let mut settle = |waiting: &mut Waiting<S>| {
            if let Some(then) = waiting.then.take() {
                let outcome = match waiting.returned.take() {
                    Some(returned) if ack => PublishOutcome::Returned(returned),
                    _ if ack => PublishOutcome::Acked,
                    _ => PublishOutcome::Nacked,
                };
                settled.push((then, outcome));
            }
        };
        if multiple {
            self.waiting.iter_mut().take_while(|waiting| waiting.number <= through).for_each(&mut settle);
        } else if let Ok(at) = self.waiting.binary_search_by_key(&delivery_tag, |waiting| waiting.number) {
            self.waiting.get_mut(at).into_iter().for_each(&mut settle);
        }
        while self.waiting.front().is_some_and(|waiting| waiting.then.is_none()) {
            self.waiting.pop_front();
        }
        settled
    }

    /// Whether somebody waits for an outcome.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything that is outstanding, when there will be no more confirms.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Continuation<S>> {
        self.waiting.drain(..).filter_map(|waiting| waiting.then)
    }
}

/// What the answer to a publish says.
pub(crate) fn outcome(answer: Answer) -> Result<PublishOutcome> {
    match answer {
        Answer::Outcome(outcome) => Ok(outcome),
        Answer::Method(_) | Answer::Message(_) => Err(Error::NotOpen),
    }
}

impl Confirmation {
    /// Decodes a method frame's payload; `None` if it is no confirm.
    pub(crate) fn get(payload: &[u8]) -> Option<Self> {
        let (&[0, 60, 0, method, t0, t1, t2, t3, t4, t5, t6, t7], &[bits]) = payload.split_first_chunk::<12>()? else {
            return None;
        };
        let delivery_tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        match method {
            80 | 120 => Some(Self { delivery_tag, multiple: bits & 1 != 0, ack: method == 80 }),
            _ => None,
        }
    }

    /// Which method it is.
    pub(crate) fn id(self) -> MethodId {
        if self.ack { basic::Ack::ID } else { basic::Nack::ID }
    }

    /// The same as a method.
    pub(crate) fn method(self) -> Method {
        let Self { delivery_tag, multiple, ack } = self;
        if ack {
            basic::Ack { delivery_tag, multiple }.into()
        } else {
            basic::Nack { delivery_tag, multiple, requeue: false }.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(numbers: u64) -> Confirms<()> {
        let mut confirms = Confirms::default();
        (0..numbers).for_each(|_| confirms.published(Some((Continuation::Nobody, 0))));
        confirms
    }

    fn settle(confirms: &mut Confirms<()>, delivery_tag: u64, multiple: bool, ack: bool) -> Vec<PublishOutcome> {
        let settled = confirms.confirmed(Confirmation { delivery_tag, multiple, ack });
        settled.into_iter().map(|(_, outcome)| outcome).collect()
    }

    #[test]
    fn a_confirm_is_known_by_its_octets() {
        for (ack, multiple) in [(true, false), (true, true), (false, true)] {
            let confirmation = Confirmation { delivery_tag: 0x0102_0304_0506_0708, multiple, ack };
            let mut payload = vec![];
            confirmation.method().put(&mut payload).unwrap();
            assert_eq!(Confirmation::get(&payload), Some(confirmation));
            assert_eq!(Confirmation::get(&payload[..12]), None);
        }
        let mut payload = vec![];
        Method::from(basic::Reject { delivery_tag: 1, requeue: true }).put(&mut payload).unwrap();
        assert_eq!(Confirmation::get(&payload), None);
    }

    #[test]
    fn each_publish_is_settled_once_in_whatever_order_confirms_come() {
        let mut confirms = outstanding(5);
        assert_eq!(settle(&mut confirms, 3, false, false), [PublishOutcome::Nacked]);
        assert_eq!(settle(&mut confirms, 3, false, true), []);
        assert_eq!(settle(&mut confirms, 4, true, true), [const { PublishOutcome::Acked }; 3]);
        assert_eq!(settle(&mut confirms, 0, true, true), [PublishOutcome::Acked]);
        assert_eq!(settle(&mut confirms, 9, true, true), []);
        assert_eq!(confirms.waiting.len(), 0);
    }
}
