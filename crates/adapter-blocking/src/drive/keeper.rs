//! The keeper is a background thread, one for all blocking connections of a process: while no thread of the program drives a
//! loop, it drives it for a moment whenever something is due, a heartbeat above all. It never waits for a socket.

use std::{
    cmp::{self, Reverse},
    collections::BinaryHeap,
    mem, process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    task::Wake,
    thread,
    time::Instant,
};

/// What is kept alive while its program does other things.
pub(crate) trait Kept: Send + Sync {
    /// The time that was promised has come.
    fn due(self: Arc<Self>, at: Instant);

    /// Something was asked for while no thread drove.
    fn called(self: Arc<Self>);
}

/// The keeper of one process.
///
/// A forked child inherits its parent's, but not its thread; its lock may be held for ever, by a thread that only the parent
/// has. So the child leaves it alone and has one of its own, next in the chain.
struct Keeper {
    /// The process whose keeper this is; 0 before the first has come.
    process: AtomicU32,
    list: Mutex<List>,
    changed: Condvar,
    /// The keeper of a forked child.
    next: OnceLock<Box<Self>>,
}

struct List {
    promises: BinaryHeap<Reverse<Promise>>,
    calls: Vec<Weak<dyn Kept>>,
    /// Whether its thread runs.
    runs: bool,
}

struct Promise {
    at: Instant,
    kept: Weak<dyn Kept>,
}

/// `kept` is told when the time has come, if it is still there.
pub(crate) fn promise(kept: Weak<dyn Kept>, at: Instant) {
    Keeper::of_this_process().change(|list| list.promises.push(Reverse(Promise { at, kept })));
}

impl Keeper {
    const fn new() -> Self {
        let list = List { promises: BinaryHeap::new(), calls: vec![], runs: false };
        Self { process: AtomicU32::new(0), list: Mutex::new(list), changed: Condvar::new(), next: OnceLock::new() }
    }

    fn of_this_process() -> &'static Self {
        static FIRST: Keeper = Keeper::new();
        let (mut keeper, process) = (&FIRST, process::id());
        loop {
            let claimed = keeper.process.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() || claimed == Err(process) {
                return keeper;
            }
            keeper = keeper.next.get_or_init(|| Box::new(Self::new()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&'static self, change: impl FnOnce(&mut List)) {
        let mut list = self.lock();
        change(&mut list);
        if !mem::replace(&mut list.runs, true) {
            // Without a thread a program that computes for too long loses its connection, as with pika; the next promise
            // tries again.
            let spawned = thread::Builder::new().name("pooka-keeper".into()).spawn(move || self.run());
            list.runs = spawned.is_ok();
        }
        drop(list);
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut list = self.lock();
        loop {
            let calls = mem::take(&mut list.calls);
            let now = Instant::now();
            let due = list.promises.peek().is_some_and(|Reverse(promise)| promise.at <= now);
            let promise = if due { list.promises.pop() } else { None };
            if promise.is_none() && calls.is_empty() {
                list = match list.promises.peek().map(|Reverse(promise)| promise.at) {
                    None => self.changed.wait(list).unwrap_or_else(PoisonError::into_inner),
                    Some(at) => {
                        let left = at.saturating_duration_since(now);
                        self.changed.wait_timeout(list, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            }
            drop(list);
            calls.into_iter().filter_map(|kept| kept.upgrade()).for_each(Kept::called);
            if let Some(Reverse(Promise { at, kept })) = promise {
                kept.upgrade().into_iter().for_each(|kept| kept.due(at));
            }
            list = self.lock();
        }
    }
}

/// Wakes the keeper for a loop that no thread drives.
pub(crate) struct Call(pub(crate) Weak<dyn Kept>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Keeper::of_this_process().change(|list| list.calls.push(self.0.clone()));
    }
}

impl PartialEq for Promise {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Promise {}

impl PartialOrd for Promise {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Promise {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
