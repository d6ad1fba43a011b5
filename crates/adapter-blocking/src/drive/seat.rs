//! The seat is the right to drive the loop, which one thread has at a time: a thread that waits for something takes it, and others
//! wait for it or for what its turns bring.

use super::sync::{Condvar, Mutex, MutexGuard};
use amqp_core::Result;
use std::{mem, sync::PoisonError, time::Instant};

/// A loop that can be driven a turn at a time.
pub(crate) trait Drive {
    /// Somebody drives: the keeper need not hear of anything.
    fn attend(&mut self);

    /// One turn. Then, unless `done`, a sleep until there is something to do, until `deadline` at most.
    fn turn(&mut self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<Next>;

    /// One turn without a sleep, and with a look at the sockets if `look`.
    fn glance(&mut self, look: bool) -> Result<Next>;

    /// The last look before no thread drives: false if something came meanwhile. Afterwards the keeper hears of it.
    fn rest(&mut self) -> bool;
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Somebody has to drive again by then, if a time is given.
    By(Option<Instant>),
    /// There is more to do.
    Now,
    /// Nobody has to drive any more.
    Never,
}

/// One loop, and a place for the thread that drives it.
///
/// The lock is never held while the loop is driven. A thread that gives the seat up looks once more whether something came
/// that no thread would serve, and tells the others that they may look at what they wait for.
pub(crate) struct Seat<D: Drive> {
    place: Mutex<Place<D>>,
    turned: Condvar,
    keeper: Box<dyn Fn(Instant) + Send + Sync>,
}

struct Place<D> {
    /// The loop, while no thread drives.
    free: Option<Box<D>>,
    /// Changes whenever a driver has been in the seat.
    turns: u64,
    waiting: usize,
    /// The loop is not wanted any more: the thread that has it drops it.
    over: bool,
    /// A thread that does not wait wanted to drive while another did: the one that leaves drives once more.
    asked: bool,
    /// When the keeper has promised to drive, if it has.
    promised: Option<Instant>,
}

impl<D: Drive> Seat<D> {
    /// `keeper` promises to call [`kept`](Self::kept) and [`tend`](Self::tend) at the time that it is given.
    pub(crate) fn new(driven: D, keeper: impl Fn(Instant) + Send + Sync + 'static) -> Self {
        let place =
            Place { free: Some(Box::new(driven)), turns: 0, waiting: 0, over: false, asked: false, promised: None };
        Self { place: Mutex::new(place), turned: Condvar::new(), keeper: Box::new(keeper) }
    }

    fn lock(&self) -> MutexGuard<'_, Place<D>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives, or waits while another thread does, until `done` or until the deadline; false at the deadline, and when there
    /// is nothing to drive any more.
    pub(crate) fn until(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<bool> {
        loop {
            let mut place = self.lock();
            let turns = place.turns;
            if let Some(driven) = place.free.take() {
                drop(place);
                let mut driving = Driving::new(self, driven);
                let result = driving.until(deadline, done);
                driving.leave();
                return result;
            }
            drop(place);
            if done() {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            let mut place = self.lock();
            if place.over {
                drop(place);
                return Ok(done());
            }
            // Another thread drives. What it does from now on is noticed.
            if place.turns == turns && place.free.is_none() {
                place.waiting += 1;
                place = self.wait(place, deadline);
                place.waiting -= 1;
            }
        }
    }

    fn wait<'a>(&self, place: MutexGuard<'a, Place<D>>, deadline: Option<Instant>) -> MutexGuard<'a, Place<D>> {
        match deadline {
            None => self.turned.wait(place).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.turned.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Drives without waiting; if another thread drives, that thread takes care of it.
    pub(crate) fn tend(&self, look: bool) -> Result<()> {
        let mut place = self.lock();
        let driven = place.free.take();
        place.asked |= driven.is_none();
        drop(place);
        let Some(driven) = driven else { return Ok(()) };
        let mut driving = Driving::new(self, driven);
        let result = driving.glance(look);
        driving.leave();
        result
    }

    /// Somebody drives by then.
    pub(crate) fn by(&self, at: Instant) {
        let mut place = self.lock();
        let late = place.free.is_some() && place.promise(at);
        drop(place);
        if late {
            (self.keeper)(at);
        }
    }

    /// Whether no thread drives at the moment.
    pub(crate) fn is_free(&self) -> bool {
        self.lock().free.is_some()
    }

    /// A time that the keeper has promised has come: false if it promised an earlier one since.
    pub(crate) fn kept(&self, at: Instant) -> bool {
        let mut place = self.lock();
        let latest = place.promised == Some(at);
        if latest {
            place.promised = None;
        }
        latest
    }

    /// Threads that wait while another drives look at what they wait for. True: the loop is not wanted any more.
    pub(crate) fn tell(&self) -> bool {
        let mut place = self.lock();
        self.told(&mut place);
        place.over
    }

    fn told(&self, place: &mut Place<D>) {
        place.turns = place.turns.wrapping_add(1);
        if place.waiting > 0 {
            self.turned.notify_all();
        }
    }

    /// The loop is dropped, here or by the thread that drives it, as soon as that gives it up.
    pub(crate) fn close(&self) {
        let mut place = self.lock();
        place.over = true;
        let driven = place.free.take();
        self.told(&mut place);
        drop(place);
        drop(driven);
        self.tell(); // what was dropped has answered
    }
}

/// The thread in the seat.
struct Driving<'a, D: Drive> {
    seat: &'a Seat<D>,
    driven: Option<Box<D>>,
    /// When a thread has to drive again.
    by: Option<Instant>,
}

/// Turns of one who leaves, while others keep asking: then the keeper goes on.
const LAST_TURNS: usize = 8;

impl<'a, D: Drive> Driving<'a, D> {
    fn new(seat: &'a Seat<D>, mut driven: Box<D>) -> Self {
        driven.attend();
        Self { seat, driven: Some(driven), by: None }
    }

    fn until(&mut self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<bool> {
        loop {
            let Some(driven) = &mut self.driven else { return Ok(false) };
            let seat = self.seat;
            // Others may wait for what this turn has brought: they are told before it sleeps.
            let next = driven.turn(deadline, &mut || done() || seat.tell())?;
            let over = self.note(next) == Next::Never;
            if done() {
                return Ok(true);
            }
            if over || self.seat.tell() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }

    fn glance(&mut self, look: bool) -> Result<()> {
        let Some(driven) = &mut self.driven else { return Ok(()) };
        let next = driven.glance(look)?;
        self.note(next);
        Ok(())
    }

    fn note(&mut self, next: Next) -> Next {
        self.by = match next {
            Next::By(by) => by,
            Next::Now => Some(Instant::now()),
            Next::Never => None,
        };
        next
    }

    /// Gives the seat up.
    fn leave(mut self) {
        for _ in 0..LAST_TURNS {
            let Some(driven) = &mut self.driven else { return };
            if driven.rest() && self.put_back(self.by, Leaving::UnlessAsked) {
                return;
            }
            let Some(driven) = &mut self.driven else { return };
            match driven.glance(false) {
                Ok(next) if self.note(next) != Next::Never => {}
                _ => break,
            }
        }
        self.put_back(Some(Instant::now()), Leaving::Anyhow);
    }

    /// False: one more turn was asked for.
    fn put_back(&mut self, by: Option<Instant>, leaving: Leaving) -> bool {
        let mut place = self.seat.lock();
        if mem::take(&mut place.asked) && leaving == Leaving::UnlessAsked {
            return false;
        }
        let Some(driven) = self.driven.take() else { return true };
        let unwanted = if place.over { Some(driven) } else { place.free.replace(driven) };
        let late = by.filter(|by| !place.over && place.promise(*by));
        self.seat.told(&mut place);
        drop(place);
        drop(unwanted);
        late.into_iter().for_each(&self.seat.keeper);
        true
    }
}

/// How a seat is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    UnlessAsked,
    /// The keeper drives next.
    Anyhow,
}

/// When a turn has panicked the keeper looks after it.
impl<D: Drive> Drop for Driving<'_, D> {
    fn drop(&mut self) {
        if self.driven.is_some() {
            self.put_back(Some(Instant::now()), Leaving::Anyhow);
        }
    }
}

impl<D> Place<D> {
    /// True: nobody has promised to drive by then, and now somebody has to.
    fn promise(&mut self, at: Instant) -> bool {
        let late = self.promised.is_none_or(|promised| at < promised);
        if late {
            self.promised = Some(at);
        }
        late
    }
}

/// The seat protocol, in every order of its threads; CONTRIBUTING.md says how to run it.
#[cfg(all(test, loom))]
mod loom {
    use super::*;
    use ::loom::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        thread,
    };

    /// A broker that answers every request in the turn that sends it, and a bell.
    struct World {
        news: Mutex<News>,
        rung: Condvar,
        answered: AtomicUsize,
        /// What the keeper has been told to do.
        calls: AtomicUsize,
    }

    #[derive(Default)]
    struct News {
        asked: usize,
        rung: bool,
        sleeper: Sleeper,
    }

    #[derive(Default, PartialEq)]
    enum Sleeper {
        #[default]
        Nobody,
        Driver,
        Keeper,
    }

    impl World {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                news: Mutex::default(),
                rung: Condvar::new(),
                answered: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
            })
        }

        fn submit(&self) {
            let mut news = self.news.lock().unwrap();
            news.asked += 1;
            match mem::take(&mut news.sleeper) {
                Sleeper::Nobody => {}
                Sleeper::Driver => {
                    news.rung = true;
                    self.rung.notify_one();
                }
                Sleeper::Keeper => self.call(),
            }
        }

        fn call(&self) {
            self.calls.fetch_add(1, SeqCst);
        }

        fn may_sleep(&self, sleeper: Sleeper) -> bool {
            let mut news = self.news.lock().unwrap();
            let idle = news.asked == 0;
            if idle {
                news.sleeper = sleeper;
            }
            idle
        }
    }

    struct Loop(Arc<World>);

    impl Loop {
        fn serve(&self) {
            let asked = mem::take(&mut self.0.news.lock().unwrap().asked);
            self.0.answered.fetch_add(asked, SeqCst);
        }
    }

    impl Drive for Loop {
        fn attend(&mut self) {
            self.0.news.lock().unwrap().sleeper = Sleeper::Nobody;
        }

        fn turn(&mut self, _: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<Next> {
            self.serve();
            if !done() && self.0.may_sleep(Sleeper::Driver) {
                let mut news = self.0.news.lock().unwrap();
                while !mem::take(&mut news.rung) {
                    news = self.0.rung.wait(news).unwrap();
                }
            }
            Ok(Next::By(None))
        }

        fn glance(&mut self, _: bool) -> Result<Next> {
            self.serve();
            Ok(Next::By(None))
        }

        fn rest(&mut self) -> bool {
            self.0.may_sleep(Sleeper::Keeper)
        }
    }

    fn seat(world: &Arc<World>) -> Arc<Seat<Loop>> {
        let told = world.clone();
        Arc::new(Seat::new(Loop(world.clone()), move |_| told.call()))
    }

    /// What the keeper does, at once.
    fn keep(world: &World, seat: &Seat<Loop>) {
        while world.calls.swap(0, SeqCst) > 0 {
            seat.tend(false).unwrap();
        }
    }

    fn nothing_is_stranded(world: &World, seat: &Seat<Loop>, requests: usize) {
        keep(world, seat);
        assert_eq!(world.answered.load(SeqCst), requests, "somebody's request is stranded");
        assert!(seat.is_free());
    }

    #[test]
    fn whoever_waits_is_answered_whoever_drives() {
        ::loom::model(|| {
            let world = World::new();
            let seat = seat(&world);
            let call = |world: &World, seat: &Seat<Loop>| {
                world.submit();
                // All that was asked for before is answered in one turn, and so is this.
                assert_eq!(seat.until(None, &mut || world.news.lock().unwrap().asked == 0), Ok(true));
            };
            let (theirs, there) = (world.clone(), seat.clone());
            let other = thread::spawn(move || call(&theirs, &there));
            call(&world, &seat);
            other.join().unwrap();
            nothing_is_stranded(&world, &seat, 2);
        });
    }

    #[test]
    fn what_nobody_waits_for_is_sent_by_whoever_is_there() {
        ::loom::model(|| {
            let world = World::new();
            let seat = seat(&world);
            let (theirs, there) = (world.clone(), seat.clone());
            let other = thread::spawn(move || {
                theirs.submit();
                there.tend(false).unwrap();
                keep(&theirs, &there);
            });
            world.submit();
            assert_eq!(seat.until(None, &mut || world.answered.load(SeqCst) > 0), Ok(true));
            other.join().unwrap();
            nothing_is_stranded(&world, &seat, 2);
        });
    }

    #[test]
    fn whoever_waits_hears_of_each_turn_of_another() {
        ::loom::model(|| {
            let world = World::new();
            let seat = seat(&world);
            let (theirs, there) = (world.clone(), seat.clone());
            let other = thread::spawn(move || {
                theirs.submit();
                there.until(None, &mut || theirs.answered.load(SeqCst) > 0).unwrap();
                theirs.submit();
                there.tend(false).unwrap();
                keep(&theirs, &there);
            });
            // Driven until the other one has gone on.
            assert_eq!(seat.until(None, &mut || world.answered.load(SeqCst) > 1), Ok(true));
            other.join().unwrap();
            nothing_is_stranded(&world, &seat, 2);
        });
    }

    #[test]
    fn a_loop_that_is_closed_leaves_nobody_waiting() {
        ::loom::model(|| {
            let world = World::new();
            let seat = seat(&world);
            let (theirs, there) = (world.clone(), seat.clone());
            let other = thread::spawn(move || {
                theirs.submit();
                there.until(None, &mut || theirs.answered.load(SeqCst) > 0).unwrap();
            });
            seat.close();
            other.join().unwrap();
            assert!(!seat.is_free());
        });
    }
}
