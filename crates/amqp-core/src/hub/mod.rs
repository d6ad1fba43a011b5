//! What a loop owns: connections, timers and posts; and one turn of it, the same for every adapter.

pub(crate) mod adapter;
mod dial;
mod endpoint_plan;
mod link;
mod network;
pub(crate) mod pump;
mod race;
mod sockets;
pub(crate) mod stream;
pub mod task;

pub use network::{Interest, Network, Token};

use crate::{
    api::loop_handle::LoopHandle,
    driver::{Now, SLOW},
    error::{Error, Result},
    session::{
        Shared,
        bell::Bell,
        op::OnOpen,
        reply::{Job, Raised, lend},
    },
    trace::events,
};
use link::Link;
use sockets::Sockets;
use std::{
    collections::{BTreeSet, VecDeque},
    fmt, io, mem,
    net::SocketAddr,
    panic::resume_unwind,
    sync::Arc,
    task::Waker,
    time::Instant,
};

/// What a loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do: look at the sockets without waiting for them.
    Again,
    /// Wait for the sockets, until then if a time is given.
    Sleep(Option<Instant>),
    /// The loop was stopped; or its last connection is over, and no timer or post is pending.
    Over,
}

/// A loop without its waiting.
///
/// The adapter calls it in this order, again and again:
///
/// 1. [`turn`](Self::turn) does all that can be done: it connects, reads, calls the program, writes.
/// 2. If it says [`Turn::Sleep`], [`may_sleep`](Self::may_sleep) takes the waker that ends the sleep, and says
///    whether there is still nothing to do. Only then the adapter waits for its sockets, at most until the given time.
/// 3. [`awake`](Self::awake), when the sleep is over, so that no other thread wakes a loop that does not sleep.
/// 4. [`ready`](Self::ready) for each socket with something to read, with room to write, or with a connection made.
///
/// The rest can be called at any time: [`handle`](Self::handle), which other threads reach the loop with, and
/// [`network`](Self::network).
pub struct Hub<S: 'static, N: Network> {
    bell: Arc<Bell<S>>,
    sockets: Sockets<N>,
    links: Vec<Option<Link<S, N::Socket>>>,
    /// Connections that have something to do, each once.
    work: VecDeque<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    // Batches are fields, so that those after a callback that panics are not lost.
    posts: VecDeque<Job<S>>,
    ready: VecDeque<usize>,
    connects: VecDeque<(Arc<Shared<S>>, OnOpen<S>)>,
    resolved: VecDeque<(usize, u64, io::Result<Vec<SocketAddr>>)>,
    alive: usize,
    served: bool,
}

impl<S: 'static, N: Network> Hub<S, N> {
    /// Returns a loop without connections.
    pub fn new(network: N) -> Self {
        Self {
            bell: Bell::new(),
            sockets: Sockets::new(network),
            links: vec![],
            work: VecDeque::new(),
            deadlines: BTreeSet::new(),
            posts: VecDeque::new(),
            ready: VecDeque::new(),
            connects: VecDeque::new(),
            resolved: VecDeque::new(),
            alive: 0,
            served: false,
        }
    }

    /// Returns a handle to the loop. It is `Clone + Send + Sync`.
    pub fn handle(&self) -> LoopHandle<S> {
        LoopHandle(self.bell.clone())
    }

    /// Returns the adapter's side of the sockets.
    pub fn network(&mut self) -> &mut N {
        &mut self.sockets.network
    }

    /// Reports that this socket can be read, or written, or is connected. Returns false if there is no such socket any more.
    pub fn ready(&mut self, token: Token, readable: bool) -> bool {
        let Some(id) = self.sockets.owner(token) else { return false };
        if let Some(Some(link)) = self.links.get_mut(id) {
            link.readable |= readable;
            Self::schedule(&mut self.work, link, id);
        }
        true
    }

    /// Looks once more before the loop sleeps; returns false if something came meanwhile. The waker ends the sleep.
    pub fn may_sleep(&mut self, waker: Waker) -> bool {
        self.work.is_empty() && self.bell.may_sleep(waker)
    }

    /// The sleep is over.
    pub fn awake(&self) {
        self.bell.awake();
    }

    /// Posts, due timers, what was read and asked for, and then everything that is to be written.
    ///
    /// `clock` tells the time; it is read once, and again while callbacks run. After a callback that takes more than a few
    /// milliseconds the turn ends with what is to be written and what is due, and the next one continues.
    ///
    /// # Errors
    /// The error of a callback, or the reason of an end for which no callback is registered. The hub stays usable: call `turn` again.
    ///
    /// # Panics
    /// Resumes a panic of a callback, after its connection is in order again.
    pub fn turn(&mut self, clock: &dyn Fn() -> Instant, state: &mut S) -> Result<Turn> {
        let mut now = clock();
        let result = self.jobs(&mut now, clock, state).and_then(|()| self.connections(&mut now, clock, state));
        if let Err(raised) = result {
            return Err(self.raise(raised, now));
        }
        // Callbacks have rung for what has been written already: that needs no turn of its own.
        let mut news = self.bell.lock();
        take_all(&mut self.ready, &mut news.ready);
        let stopped = std::mem::take(&mut news.stop);
        let timer = news.timers.poll_timeout();
        let more = news.is_any() || !self.posts.is_empty();
        let posts = self.posts.len() + news.posts.len();
        let idle = posts == 0 && news.connects.is_empty() && news.timers.is_empty();
        drop(news);
        if let Err(raised) = self.settle_ready(now) {
            return Err(self.raise(raised, now));
        }
        if stopped || self.served && self.alive == 0 && idle {
            return Ok(Turn::Over);
        }
        if more || !self.work.is_empty() {
            return Ok(Turn::Again);
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        Ok(Turn::Sleep([timer, deadline].into_iter().flatten().min()))
    }

    /// The error of a callback, which the turn returns; or its panic, which goes on.
    fn raise(&mut self, raised: Raised, now: Instant) -> Error {
        self.flush(now);
        match raised {
            Raised::Error(error) => {
                events::raised(&error);
                error
            }
            Raised::Panic(payload) => {
                events::callback_panicked();
                resume_unwind(payload);
            }
        }
    }

    /// What others have asked of the loop.
    fn jobs(&mut self, now: &mut Instant, clock: Now<'_>, state: &mut S) -> Result<(), Raised> {
        let mut news = self.bell.lock();
        take_all(&mut self.ready, &mut news.ready);
        take_all(&mut self.posts, &mut news.posts);
        take_all(&mut self.connects, &mut news.connects);
        take_all(&mut self.resolved, &mut news.resolved);
        news.timers.arm(*now);
        drop(news);
        while let Some((shared, on_open)) = self.connects.pop_front() {
            self.adopt(shared, on_open, *now);
        }
        while let Some((id, trial, addresses)) = self.resolved.pop_front() {
            self.resolved(id, trial, addresses, *now);
        }
        while let Some(id) = self.ready.pop_front() {
            if let Some(Some(link)) = self.links.get_mut(id) {
                Self::schedule(&mut self.work, link, id);
            }
        }
        while let Some(job) = self.posts.pop_front() {
            lend(|| job(state))?;
            if is_slow(now, clock) {
                return Ok(());
            }
        }
        loop {
            let job = self.bell.lock().timers.pop_due(*now);
            let Some(job) = job else { return Ok(()) };
            lend(|| job(state))?;
            if is_slow(now, clock) {
                return Ok(());
            }
        }
    }

    fn connections(&mut self, now: &mut Instant, clock: Now<'_>, state: &mut S) -> Result<(), Raised> {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > *now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(Some(link)) = self.links.get_mut(id) {
                link.deadline = None;
                link.doubt(&mut self.sockets.network);
                Self::schedule(&mut self.work, link, id);
            }
        }
        for _ in 0..self.work.len() {
            let Some(id) = self.work.pop_front() else { break };
            let Some(Some(link)) = self.links.get_mut(id) else { continue };
            link.queued = false;
            let served =
                link.guarded(|link| link.serve(&mut self.sockets, *now, clock, state)).and_then(|served| served);
            *now = link.driver.now().max(*now);
            match served {
                Ok(false) => {}
                Ok(true) => Self::schedule(&mut self.work, link, id),
                Err(raised) => {
                    Self::schedule(&mut self.work, link, id);
                    return Err(raised);
                }
            }
            self.after(id, *now);
        }
        Ok(())
    }

    /// Writes what callbacks have sent, without waiting: the program may take what one of them raised for its end.
    fn flush(&mut self, now: Instant) {
        take_all(&mut self.ready, &mut self.bell.lock().ready);
        for id in self.ready.iter().chain(&self.work) {
            if let Some(Some(link)) = self.links.get_mut(*id) {
                // Something has been raised already. A second panic ends its connection, and is not raised as well.
                let _ = link.guarded(|link| link.flush(&mut self.sockets, now));
            }
        }
    }

    /// Those that rang while they were served have been served.
    fn settle_ready(&mut self, now: Instant) -> Result<(), Raised> {
        while let Some(id) = self.ready.pop_front() {
            let Some(Some(link)) = self.links.get_mut(id) else { continue };
            let flushed = link.guarded(|link| !link.driver.has_news() && link.flush(&mut self.sockets, now));
            let done = match flushed {
                Ok(done) => done,
                Err(raised) => {
                    Self::schedule(&mut self.work, link, id);
                    return Err(raised);
                }
            };
            // Reading that a full stream had paused continues for a reply; a poller does not report again what is there.
            if !done || link.readable && link.driver.reads() {
                Self::schedule(&mut self.work, link, id);
            } else {
                self.after(id, now);
            }
        }
        Ok(())
    }

    /// Deadline and end of a connection that has been served.
    fn after(&mut self, id: usize, now: Instant) {
        let Some(Some(link)) = self.links.get_mut(id) else { return };
        if link.is_over() && link.goes_on(&mut self.sockets, now) {
            Self::schedule(&mut self.work, link, id);
        }
        if link.is_over() {
            if let Some(at) = link.deadline {
                self.deadlines.remove(&(at, id));
            }
            link.hang_up(&mut self.sockets);
            link.driver.fall_silent();
            self.links.get_mut(id).and_then(Option::take);
            self.alive -= 1;
            self.bell.release(id);
            return;
        }
        link.rest(now);
        let deadline = link.poll_timeout();
        if deadline != link.deadline {
            if let Some(at) = link.deadline {
                self.deadlines.remove(&(at, id));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, id));
            }
            link.deadline = deadline;
        }
    }

    fn schedule(work: &mut VecDeque<usize>, link: &mut Link<S, N::Socket>, id: usize) {
        if !std::mem::replace(&mut link.queued, true) {
            work.push_back(id);
        }
    }

    fn adopt(&mut self, shared: Arc<Shared<S>>, on_open: OnOpen<S>, now: Instant) {
        let id = shared.number;
        let mut link = Link::new(shared, on_open, now);
        link.begin(&mut self.sockets, now);
        Self::schedule(&mut self.work, &mut link, id);
        if self.links.len() <= id {
            self.links.resize_with(id + 1, || None);
        }
        if let Some(place) = self.links.get_mut(id) {
            *place = Some(link);
        }
        self.alive += 1;
        self.served = true;
    }

    fn resolved(&mut self, id: usize, trial: u64, addresses: io::Result<Vec<SocketAddr>>, now: Instant) {
        let Some(Some(link)) = self.links.get_mut(id) else { return };
        if link.resolved(trial, addresses, now) {
            Self::schedule(&mut self.work, link, id);
        }
    }
}

/// Whether a post or a timer has taken long, so that the others wait until what is due meanwhile is done.
fn is_slow(now: &mut Instant, clock: Now<'_>) -> bool {
    let before = mem::replace(now, clock());
    now.saturating_duration_since(before) > SLOW
}

/// Mostly there is nothing, which costs less to see than to append.
#[inline]
fn take_all<T>(to: &mut VecDeque<T>, from: &mut VecDeque<T>) {
    if !from.is_empty() {
        to.append(from);
    }
}

impl<S: 'static, N: Network> Drop for Hub<S, N> {
    fn drop(&mut self) {
        self.bell.gone();
    }
}

impl<S: 'static, N: Network> fmt::Debug for Hub<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("alive", &self.alive).finish_non_exhaustive()
    }
}
