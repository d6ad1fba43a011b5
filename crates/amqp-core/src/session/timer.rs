//! The timers of a loop: what is due, in which order, and how to take it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The timers of one loop, each with a job that is handed out when it is due.
///
/// There is no clock here. A delay counts from the turn that hears of it: [`add`](Self::add) only takes note, and the
/// next [`arm`](Self::arm) makes a deadline of it. Jobs are moved in and out and no method calls, clones or drops one,
/// so that all of this may happen under a lock.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use amqp_core::timer::Timers;
/// # let now = Instant::now();
/// let mut timers = Timers::new();
/// timers.add(Duration::from_secs(2), "second");
/// timers.add(Duration::from_secs(1), "first");
/// timers.arm(now);
///
/// let later = now + Duration::from_secs(2);
/// assert_eq!(timers.pop_due(later), Some("first"));
/// assert_eq!(timers.pop_due(later), Some("second"));
/// assert_eq!(timers.pop_due(later), None);
/// ```
#[derive(Debug)]
pub struct Timers<J> {
    /// Added since the last `arm`.
    fresh: BTreeMap<TimeoutId, (Duration, J)>,
    /// `None` is a deadline that no clock will ever show.
    armed: BTreeMap<TimeoutId, (Option<Instant>, J)>,
    /// The deadlines of `armed`, in the order in which they come due.
    deadlines: BTreeSet<(Instant, TimeoutId)>,
}

/// Names a timer, to take it back. Unique in the process: the id of one loop means nothing to another.
///
/// Of two ids of one loop, the one that was given later is the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimeoutId(u64);

impl<J> Timers<J> {
    /// No timers.
    pub fn new() -> Self {
        Self { fresh: BTreeMap::new(), armed: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Notes a job that is due `delay` after the next [`arm`](Self::arm); a delay beyond all clocks is never over.
    pub fn add(&mut self, delay: Duration, job: J) -> TimeoutId {
        let id = TimeoutId::next();
        self.fresh.insert(id, (delay, job));
        id
    }

    /// Gives the job back, so that the caller can drop it outside of its lock; `None` where it was handed out already.
    pub fn remove(&mut self, id: TimeoutId) -> Option<J> {
        if let Some((_, job)) = self.fresh.remove(&id) {
            return Some(job);
        }
        let (deadline, job) = self.armed.remove(&id)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(job)
    }

    /// Starts the clocks of what was added since the last time: to be called once, at the beginning of a turn.
    pub fn arm(&mut self, now: Instant) {
        while let Some((id, (delay, job))) = self.fresh.pop_first() {
            let deadline = now.checked_add(delay);
            self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
            self.armed.insert(id, (deadline, job));
        }
    }

    /// Returns the next job that is due: by deadline, and by age where deadlines are equal.
    ///
    /// One at a time, so that a job can remove another one that is due in the same turn. What a job adds is not due
    /// before the next [`arm`](Self::arm), so that popping until `None` comes to an end.
    pub fn pop_due(&mut self, now: Instant) -> Option<J> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.remove(id)
    }

    /// Returns whether something was added since the last [`arm`](Self::arm): a loop that wants to sleep must arm it first.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Returns the earliest deadline of what is armed; `None` means to sleep without one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Returns whether no job waits, not even one that will never be due.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many jobs wait, armed or not.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.armed.len()
    }

    /// Takes all jobs out, oldest first. The iterator owns them: it can be carried out of a lock and dropped there.
    pub fn drain(&mut self) -> impl Iterator<Item = J> + use<J> {
        self.deadlines.clear();
        let armed = mem::take(&mut self.armed).into_values().map(|(_, job)| job);
        let fresh = mem::take(&mut self.fresh).into_values().map(|(_, job)| job);
        armed.chain(fresh)
    }
}

impl<J> Default for Timers<J> {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeoutId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "some instant to begin with; time moves by hand from here")]
    fn start() -> Instant {
        Instant::now()
    }

    fn due<J>(timers: &mut Timers<J>, now: Instant) -> Vec<J> {
        std::iter::from_fn(|| timers.pop_due(now)).collect()
    }

    /// S4: by deadline, whatever the order of adding.
    #[test]
    fn jobs_come_in_the_order_of_their_deadlines() {
        let (mut timers, now) = (Timers::new(), start());
        for seconds in [3, 1, 2] {
            timers.add(SECOND * seconds, seconds);
        }
        timers.arm(now);
        assert_eq!(timers.poll_timeout(), Some(now + SECOND));
        assert_eq!(due(&mut timers, now + SECOND - Duration::from_nanos(1)), []);
        assert_eq!(due(&mut timers, now + SECOND * 2), [1, 2]);
        assert_eq!(timers.poll_timeout(), Some(now + SECOND * 3));
        assert_eq!(due(&mut timers, now + SECOND * 60), [3]);
        assert_eq!(timers.poll_timeout(), None);
    }

    /// S3: pika's ids collided.
    #[test]
    fn two_identical_timers_are_distinct() {
        let (mut timers, now) = (Timers::new(), start());
        let first = timers.add(SECOND, "same");
        let second = timers.add(SECOND, "same");
        timers.arm(now);
        assert_ne!(first, second);
        assert_eq!(timers.remove(first), Some("same"));
        assert_eq!(timers.remove(first), None, "it is gone");
        assert_eq!(due(&mut timers, now + SECOND), ["same"], "the other one stays");
        assert_eq!(timers.remove(second), None, "it was handed out");
    }

    /// S4: cancelling from a callback works for a timer due in the same turn.
    #[test]
    fn a_job_may_remove_one_that_is_due_in_the_same_turn() {
        let (mut timers, now) = (Timers::new(), start());
        timers.add(SECOND, "remover");
        let victim = timers.add(SECOND, "victim");
        timers.add(SECOND, "bystander");
        timers.arm(now);
        assert_eq!(timers.pop_due(now + SECOND), Some("remover"));
        assert_eq!(timers.remove(victim), Some("victim"));
        assert_eq!(due(&mut timers, now + SECOND), ["bystander"]);
    }

    /// S11: callbacks scheduled during a pass run in the next one.
    #[test]
    fn a_job_that_adds_itself_again_runs_once_a_turn() {
        let (mut timers, now) = (Timers::new(), start());
        timers.add(Duration::ZERO, ());
        for _turn in 0..3 {
            timers.arm(now);
            assert!(!timers.has_fresh());
            assert_eq!(timers.pop_due(now), Some(()));
            timers.add(Duration::ZERO, ());
            assert!(timers.has_fresh());
            assert_eq!((timers.pop_due(now), timers.poll_timeout()), (None, None));
        }
    }

    /// DESIGN 7: delays count from the turn that hears of them.
    #[test]
    fn a_delay_counts_from_the_turn_that_hears_of_it() {
        let (mut timers, now) = (Timers::new(), start());
        timers.add(SECOND, ());
        timers.arm(now + SECOND * 10);
        assert_eq!(timers.poll_timeout(), Some(now + SECOND * 11));
        timers.arm(now + SECOND * 20);
        assert_eq!(timers.poll_timeout(), Some(now + SECOND * 11), "and only once");
    }

    #[test]
    fn a_delay_beyond_all_clocks_is_never_due() {
        let (mut timers, now) = (Timers::new(), start());
        let never = timers.add(Duration::MAX, "never");
        timers.arm(now);
        assert_eq!((timers.poll_timeout(), timers.len()), (None, 1));
        assert_eq!(timers.pop_due(now + Duration::from_secs(1 << 40)), None);
        assert_eq!(timers.remove(never), Some("never"));
        assert!(timers.is_empty());
    }

    #[test]
    fn a_timer_can_be_taken_back_before_its_clock_was_started() {
        let mut timers = Timers::new();
        let id = timers.add(SECOND, "job");
        assert_eq!(timers.remove(id), Some("job"));
        assert!(timers.is_empty() && !timers.has_fresh());
    }

    #[test]
    fn draining_gives_every_job_back() {
        let (mut timers, now) = (Timers::new(), start());
        timers.add(SECOND, 1);
        timers.add(Duration::MAX, 2);
        timers.arm(now);
        timers.add(SECOND, 3);
        let jobs = timers.drain();
        assert!(timers.is_empty() && timers.poll_timeout().is_none(), "empty before the jobs are looked at");
        assert_eq!(jobs.collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Remove(prop::sample::Index),
        Arm,
        Pass(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..20_u8).prop_map(Step::Add),
            any::<prop::sample::Index>().prop_map(Step::Remove),
            Just(Step::Arm),
            (0..10_u8).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// The model is a list that is sorted by (deadline, age) whenever somebody asks.
        #[test]
        fn timers_behave_like_a_sorted_list(steps in steps()) {
            let mut now = start();
            let mut timers = Timers::new();
            let mut ids = Vec::new();
            let mut fresh: Vec<(Duration, usize)> = Vec::new();
            let mut list: Vec<(Instant, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(seconds) => {
                        let delay = SECOND * u32::from(seconds);
                        fresh.push((delay, ids.len()));
                        ids.push(timers.add(delay, ids.len()));
                    }
                    Step::Remove(_) if ids.is_empty() => {}
                    Step::Remove(index) => {
                        let job = index.index(ids.len());
                        let known = fresh.iter().any(|&(_, j)| j == job) || list.iter().any(|&(_, j)| j == job);
                        fresh.retain(|&(_, j)| j != job);
                        list.retain(|&(_, j)| j != job);
                        prop_assert_eq!(timers.remove(ids[job]), known.then_some(job));
                    }
                    Step::Arm => {
                        list.extend(fresh.drain(..).map(|(delay, job)| (now + delay, job)));
                        timers.arm(now);
                    }
                    Step::Pass(seconds) => {
                        now += SECOND * u32::from(seconds);
                        list.sort();
                        let count = list.iter().take_while(|&&(deadline, _)| deadline <= now).count();
                        let expected: Vec<_> = list.drain(..count).map(|(_, job)| job).collect();
                        prop_assert_eq!(due(&mut timers, now), expected);
                    }
                }
                prop_assert_eq!(timers.len(), fresh.len() + list.len());
                prop_assert_eq!(timers.has_fresh(), !fresh.is_empty());
                prop_assert_eq!(timers.poll_timeout(), list.iter().map(|&(deadline, _)| deadline).min());
            }
        }
    }
}
