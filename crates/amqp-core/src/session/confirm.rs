//! Publisher confirms: which publishes are outstanding, and what became of them.

use crate::{
    error::Result,
    session::{reply::Continuation, timer::TimeoutId},
    wire::{confirmation::Confirmation, fault::Violation, message::Returned},
};
use std::{
    collections::{HashMap, VecDeque},
    mem,
};

/// What became of a publish in confirm mode.
///
/// A publish whose channel or connection ends first has no outcome but an error: whether the broker has it is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishOutcome {
    /// The broker has taken responsibility for it.
    Acked,
    /// The broker could not take responsibility for it.
    #[doc(alias = "NackError")]
    Nacked,
    /// It was mandatory and nothing is bound for it: here it is again.
    #[doc(alias = "UnroutableError")]
    Returned(Box<Returned>),
}

/// The header by which a returned message is tied to its publish, because the broker offers nothing else that is exact.
pub(crate) const PUBLISH_HEADER: &str = "x-pooka-publish";

/// The publishes of a channel in confirm mode whose confirms are still to come: a ring, so that each confirm costs the same
/// however many there are, and one for many costs as much as they would.
pub(crate) struct Confirms<S> {
    /// The number of the first in the ring.
    first: u64,
    ring: VecDeque<Publish<S>>,
    unconfirmed: usize,
    /// Those of them whose outcome somebody waits for: asked at each read while a stream is full.
    awaited: usize,
    /// The numbers of mandatory publishes, by what their [header](PUBLISH_HEADER) says.
    marks: HashMap<u64, u64>,
    /// The broker has refused one since somebody last waited for all.
    nacked: bool,
    waits: Vec<Wait<S>>,
}

/// A publish, by its number.
struct Publish<S> {
    /// How many octets the connection has written when this publish is written: before that nobody can confirm it.
    end: u64,
    place: Place<S>,
}

/// The `end` of a publish that waits until the broker wants content again.
pub(crate) const PAUSED: u64 = u64::MAX;

enum Place<S> {
    /// Its confirm came out of turn.
    Settled,
    /// Nobody wants to know.
    Counted,
    Awaited {
        then: Continuation<S, PublishOutcome>,
        mark: u64,
        returned: Option<Box<Returned>>,
    },
}

/// Somebody who waits until there are few enough.
pub(crate) struct Wait<S> {
    id: u64,
    at_most: usize,
    /// Later publishes do not matter to him.
    through: u64,
    pub(crate) then: Continuation<S, bool>,
    /// What gives up for him.
    pub(crate) timeout: Option<TimeoutId>,
}

/// The publishes whose outcome is waited for, and what waits until few enough are left.
pub(crate) type Outstanding<S> = (Vec<Continuation<S, PublishOutcome>>, Vec<Continuation<S, bool>>);

/// What a confirm settles: continuations, each once, in the order of their publishes.
pub(crate) type Settled<S> = Vec<(Continuation<S, PublishOutcome>, PublishOutcome)>;

impl<S> Default for Confirms<S> {
    fn default() -> Self {
        let (ring, marks) = (VecDeque::new(), HashMap::new());
        Self { first: 1, ring, unconfirmed: 0, awaited: 0, marks, nacked: false, waits: vec![] }
    }
}

impl<S: 'static> Confirms<S> {
    /// The next publish stands in the outbound buffer, and is written when the connection has written `end` octets.
    #[inline]
    pub(crate) fn published(&mut self, end: u64, then: Option<(Continuation<S, PublishOutcome>, u64)>) {
        let place = match then {
            None => Place::Counted,
            Some((then, mark)) => {
                if mark != 0 {
                    self.marks.insert(mark, self.first + self.ring.len() as u64);
                }
                self.awaited += 1;
                Place::Awaited { then, mark, returned: None }
            }
        };
        self.ring.push_back(Publish { end, place });
        self.unconfirmed += 1;
    }

    /// The broker has given the publish with this mark back; its ack is still to come.
    pub(crate) fn returned(&mut self, mark: u64, message: Returned) {
        let number = self.marks.get(&mark).copied();
        let publish = number.and_then(|number| self.at(number));
        if let Some(Publish { place: Place::Awaited { returned, .. }, .. }) = publish {
            *returned = Some(Box::new(message));
        }
    }

    /// What waited until the broker wanted content goes out, behind `from` octets of the connection.
    pub(crate) fn released(&mut self, from: u64) {
        let waited = self.ring.iter_mut().rev().take_while(|publish| publish.end == PAUSED);
        waited.for_each(|publish| publish.end = from);
    }

    fn at(&mut self, number: u64) -> Option<&mut Publish<S>> {
        let at = number.checked_sub(self.first)?;
        self.ring.get_mut(usize::try_from(at).ok()?)
    }

    /// What this confirm settles, on a connection that has written so many octets.
    ///
    /// A confirm of what the broker has confirmed before settles nothing: what has been told stands, and nobody is harmed.
    /// One of a publish that the broker cannot have, because it is not made or not written, is a violation: believed, it
    /// would tell that messages are safe which never left.
    pub(crate) fn confirmed(&mut self, confirmation: Confirmation, written: u64) -> Result<Settled<S>, Violation> {
        let Confirmation { delivery_tag, multiple, ack } = confirmation;
        // "All outstanding messages" are those that the broker has [§1.8.3.13].
        let all = multiple && delivery_tag == 0;
        if !all && delivery_tag >= self.first {
            match self.at(delivery_tag) {
                None => return Err(UNPUBLISHED),
                Some(publish) if publish.end > written => return Err(UNWRITTEN),
                Some(_) => {}
            }
        }
        let mut settled = vec![];
        if multiple {
            let is_meant = |publish: &Publish<S>| publish.end <= written;
            while (all || self.first <= delivery_tag) && self.ring.front().is_some_and(is_meant) {
                let Some(publish) = self.ring.pop_front() else { break };
                self.first += 1;
                self.settle(publish.place, ack, &mut settled);
            }
        } else if let Some(publish) = self.at(delivery_tag) {
            let place = mem::replace(&mut publish.place, Place::Settled);
            self.settle(place, ack, &mut settled);
        } else if delivery_tag == 0 {
            return Err(UNPUBLISHED);
        }
        while let Some(Publish { place: Place::Settled, .. }) = self.ring.front() {
            self.ring.pop_front();
            self.first += 1;
        }
        Ok(settled)
    }

    fn settle(&mut self, place: Place<S>, ack: bool, settled: &mut Settled<S>) {
        if let Place::Settled = place {
            return;
        }
        self.unconfirmed -= 1;
        self.nacked |= !ack;
        if let Place::Awaited { then, mark, returned } = place {
            self.awaited -= 1;
            if mark != 0 {
                self.marks.remove(&mark);
            }
            let outcome = match returned {
                Some(returned) if ack => PublishOutcome::Returned(returned),
                _ if ack => PublishOutcome::Acked,
                _ => PublishOutcome::Nacked,
            };
            settled.push((then, outcome));
        }
    }

    /// Publishes whose confirms are still to come.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Notes who waits; [`waited`](Self::waited) gives him back.
    pub(crate) fn wait(&mut self, id: u64, at_most: usize, then: Continuation<S, bool>) {
        let through = self.first + self.ring.len() as u64 - 1;
        self.waits.push(Wait { id, at_most, through, then, timeout: None });
    }

    /// What gives up for one who waits; false if he does not any more.
    pub(crate) fn wait_until(&mut self, id: u64, timeout: TimeoutId) -> bool {
        let wait = self.waits.iter_mut().find(|wait| wait.id == id);
        wait.map(|wait| wait.timeout = Some(timeout)).is_some()
    }

    /// Whether somebody waits for few enough.
    pub(crate) fn has_waits(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Those who need not wait any longer, and whether everything was acked.
    pub(crate) fn waited(&mut self) -> (Vec<Wait<S>>, bool) {
        let (first, unconfirmed) = (self.first, self.unconfirmed);
        let few = |wait: &Wait<S>| unconfirmed <= wait.at_most || first > wait.through;
        let (over, waits): (Vec<_>, _) = mem::take(&mut self.waits).into_iter().partition(few);
        self.waits = waits;
        let all_acked = over.is_empty() || !mem::take(&mut self.nacked);
        (over, all_acked)
    }

    /// Who has waited for too long.
    pub(crate) fn give_up(&mut self, id: u64) -> Option<Continuation<S, bool>> {
        let at = self.waits.iter().position(|wait| wait.id == id)?;
        Some(self.waits.remove(at).then)
    }

    /// Whether somebody waits for an outcome.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited > 0 || self.has_waits()
    }

    /// What gives up for those who wait, when they need not any more.
    pub(crate) fn timeouts(&mut self) -> Vec<TimeoutId> {
        self.waits.iter_mut().filter_map(|wait| wait.timeout.take()).collect()
    }

    /// Everybody who waits, while the confirms still come.
    pub(crate) fn take_waiting(&mut self) -> Outstanding<S> {
        self.marks.clear();
        self.awaited = 0;
        let mut publishes = vec![];
        for Publish { place, .. } in &mut self.ring {
            if let Place::Awaited { .. } = place {
                if let Place::Awaited { then, .. } = mem::replace(place, Place::Counted) {
                    publishes.push(then);
                }
            }
        }
        (publishes, self.waits.drain(..).map(|wait| wait.then).collect())
    }

    /// Everything that is outstanding, when there will be no more confirms.
    pub(crate) fn drain(&mut self) -> Outstanding<S> {
        self.marks.clear();
        (self.unconfirmed, self.awaited) = (0, 0);
        let publishes = self.ring.drain(..).filter_map(|publish| match publish.place {
            Place::Awaited { then, .. } => Some(then),
            Place::Settled | Place::Counted => None,
        });
        (publishes.collect(), self.waits.drain(..).map(|wait| wait.then).collect())
    }
}

const UNPUBLISHED: Violation = Violation::command("a confirm of a message that was never published");
const UNWRITTEN: Violation = Violation::command("a confirm of a message that has not been sent yet");

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(numbers: u64) -> Confirms<()> {
        let mut confirms = Confirms::default();
        (0..numbers).for_each(|_| confirms.published(0, Some((Continuation::Nobody, 0))));
        confirms
    }

    fn settle(confirms: &mut Confirms<()>, delivery_tag: u64, multiple: bool, ack: bool) -> Vec<PublishOutcome> {
        let settled = confirms.confirmed(Confirmation { delivery_tag, multiple, ack }, 0).unwrap();
        settled.into_iter().map(|(_, outcome)| outcome).collect()
    }

    #[test]
    fn each_publish_is_settled_once_in_whatever_order_confirms_come() {
        let mut confirms = outstanding(5);
        assert_eq!(settle(&mut confirms, 3, false, false), [PublishOutcome::Nacked]);
        assert_eq!(settle(&mut confirms, 3, false, true), []);
        assert_eq!(settle(&mut confirms, 4, true, true), [const { PublishOutcome::Acked }; 3]);
        assert_eq!(settle(&mut confirms, 0, true, true), [PublishOutcome::Acked]);
        assert_eq!((confirms.ring.len(), confirms.unconfirmed()), (0, 0));
    }

    /// Trial T4: what is not published, and what is not written, cannot have been confirmed.
    #[test]
    fn a_broker_can_only_confirm_what_it_has() {
        let confirm = |confirms: &mut Confirms<()>, delivery_tag, multiple, written| {
            let confirmation = Confirmation { delivery_tag, multiple, ack: true };
            confirms.confirmed(confirmation, written).map(|settled| settled.len())
        };
        let mut confirms = Confirms::<()>::default();
        (1..=4).for_each(|n| confirms.published(n * 10, Some((Continuation::Nobody, 0))));
        confirms.published(PAUSED, Some((Continuation::Nobody, 0)));
        for multiple in [false, true] {
            assert_eq!(confirm(&mut confirms, 6, multiple, u64::MAX - 1), Err(UNPUBLISHED));
            assert_eq!(confirm(&mut confirms, u64::MAX, multiple, 25), Err(UNPUBLISHED));
            assert_eq!(confirm(&mut confirms, 3, multiple, 29), Err(UNWRITTEN));
            assert_eq!(confirm(&mut confirms, 5, multiple, 1000), Err(UNWRITTEN));
        }
        assert_eq!(confirm(&mut confirms, 0, false, 100), Err(UNPUBLISHED));
        assert_eq!(confirm(&mut confirms, 2, false, 20), Ok(1));
        assert_eq!(confirm(&mut confirms, 0, true, 30), Ok(2), "all that are outstanding there");
        assert_eq!(
            (confirm(&mut confirms, 1, false, 30), confirm(&mut confirms, 3, true, 30)),
            (Ok(0), Ok(0)),
            "again"
        );
        confirms.released(40);
        assert_eq!(confirm(&mut confirms, 5, true, 40), Ok(2));
        assert_eq!(confirm(&mut confirms, 6, true, 40), Err(UNPUBLISHED), "nothing is left");
    }

    fn returned(number: u64) -> Returned {
        Returned {
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
            exchange: "".into(),
            routing_key: number.to_string().into(),
            properties: Default::default(),
            body: Default::default(),
        }
    }

    #[test]
    fn what_came_back_and_is_refused_is_not_in_any_queue() {
        let mut confirms = Confirms::<()>::default();
        (1..=2).for_each(|mark| confirms.published(0, Some((Continuation::Nobody, mark))));
        (1..=2).for_each(|mark| confirms.returned(mark, returned(mark)));
        assert_eq!(settle(&mut confirms, 1, false, false), [PublishOutcome::Nacked]);
        assert_eq!(settle(&mut confirms, 2, false, true), [PublishOutcome::Returned(Box::new(returned(2)))]);
        assert!(confirms.marks.is_empty());
    }

    /// Against a model that has no ring: acks, nacks, returns and multiples in any order, some of them twice.
    #[test]
    fn a_shuffled_broker_settles_each_publish_with_its_own_outcome() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..200 {
            let mut confirms = Confirms::<()>::default();
            let (mut published, mut seen) = (0_u64, vec![]);
            let mut expected: Vec<Option<PublishOutcome>> = vec![];
            let mut marked = vec![false];
            for _ in 0..400 {
                if next(2) == 0 {
                    published += 1;
                    let mark = if next(3) == 0 { 1000 + published } else { 0 };
                    confirms.published(0, Some((Continuation::Nobody, mark)));
                    marked.push(mark != 0);
                    expected.push(None);
                    continue;
                }
                let delivery_tag = next(published + 2);
                let (multiple, ack) = (next(4) == 0, next(5) != 0);
                let comes_back = marked.get(delivery_tag as usize) == Some(&true) && next(2) == 0;
                if comes_back {
                    confirms.returned(1000 + delivery_tag, returned(delivery_tag));
                }
                let confirmation = Confirmation { delivery_tag, multiple, ack };
                if delivery_tag > published || delivery_tag == 0 && !multiple {
                    assert_eq!(confirms.confirmed(confirmation, 0).err(), Some(UNPUBLISHED));
                    continue;
                }
                let through = if delivery_tag == 0 { published } else { delivery_tag };
                let range = if multiple { 1..=through } else { delivery_tag..=through };
                let mut wanted = vec![];
                for number in range {
                    let place = &mut expected[number as usize - 1];
                    if place.is_none() {
                        let back = comes_back && number == delivery_tag;
                        wanted.push((number, back, ack));
                        *place = Some(if ack { PublishOutcome::Acked } else { PublishOutcome::Nacked });
                    }
                }
                let settled = confirms.confirmed(confirmation, 0).unwrap();
                assert_eq!(settled.len(), wanted.len());
                for ((_, outcome), (number, back, ack)) in settled.iter().zip(&wanted) {
                    match outcome {
                        PublishOutcome::Acked => assert!(*ack && !back),
                        PublishOutcome::Nacked => assert!(!ack),
                        // It may have come back before an earlier confirm that was not for it.
                        PublishOutcome::Returned(message) => assert_eq!(message.routing_key, number.to_string()[..]),
                    }
                }
                seen.extend(wanted);
                let open = expected.iter().filter(|outcome| outcome.is_none()).count();
                assert_eq!((confirms.unconfirmed(), confirms.is_awaited()), (open, open > 0));
            }
            assert_eq!(seen.len() + confirms.unconfirmed(), published as usize);
            assert_eq!(confirms.drain().0.len(), expected.iter().filter(|outcome| outcome.is_none()).count());
        }
    }

    #[test]
    fn who_waits_is_told_when_few_enough_are_left_and_whether_all_were_acked() {
        let mut confirms = outstanding(5);
        let told = |confirms: &mut Confirms<()>| -> Vec<(u64, bool)> {
            let (waits, acked) = confirms.waited();
            waits.into_iter().map(|wait| (wait.id, acked)).collect()
        };
        confirms.wait(1, 3, Continuation::Nobody);
        confirms.wait(2, 0, Continuation::Nobody);
        assert_eq!(told(&mut confirms), []);
        settle(&mut confirms, 4, false, true);
        settle(&mut confirms, 2, false, true);
        assert_eq!(told(&mut confirms), [(1, true)]);
        // What is published later does not keep him waiting.
        confirms.published(0, None);
        settle(&mut confirms, 5, true, false);
        assert_eq!(told(&mut confirms), [(2, false)]);
        confirms.wait(3, 0, Continuation::Nobody);
        settle(&mut confirms, 6, true, true);
        assert_eq!(told(&mut confirms), [(3, true)]);
        confirms.published(0, None);
        confirms.wait(4, 0, Continuation::Nobody);
        assert!(confirms.give_up(4).is_some() && confirms.give_up(4).is_none());
    }
}
