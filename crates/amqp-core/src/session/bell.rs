//! How other threads, and callbacks, reach the loop: a list of what is new, and one wake-up while it sleeps.

use crate::{
    session::{
        Shared,
        op::OnOpen,
        reply::Job,
        timer::{TimeoutId, Timers},
    },
    sync::{Mutex, MutexGuard},
};
use slab::Slab;
use std::{collections::VecDeque, io, mem, net::SocketAddr, sync::Arc, task::Waker, time::Duration};

/// What a loop and its handles share: how other threads wake it.
///
/// Its lock is never held together with a connection's. The waker is called with neither held, and at most once
/// until the loop is awake.
pub(crate) struct Bell<S: 'static>(Mutex<News<S>>);

/// What has happened since the loop last looked.
pub(crate) struct News<S: 'static> {
    /// Connections with something to write or to do.
    pub(crate) ready: VecDeque<usize>,
    pub(crate) posts: VecDeque<Job<S>>,
    pub(crate) connects: VecDeque<(Arc<Shared<S>>, OnOpen<S>)>,
    pub(crate) resolved: VecDeque<(usize, u64, io::Result<Vec<SocketAddr>>)>,
    pub(crate) timers: Timers<Job<S>>,
    pub(crate) stop: bool,
    numbers: Slab<()>,
    sleeper: Option<Waker>,
    gone: bool,
}

impl<S: 'static> Bell<S> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(News {
            ready: VecDeque::new(),
            posts: VecDeque::new(),
            connects: VecDeque::new(),
            resolved: VecDeque::new(),
            timers: Timers::new(),
            stop: false,
            numbers: Slab::new(),
            sleeper: None,
            gone: false,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, News<S>> {
        self.0.lock()
    }

    /// One change under the lock; then, outside it, the loop is woken if it sleeps.
    pub(crate) fn ring<R>(&self, change: impl FnOnce(&mut News<S>) -> R) -> R {
        let mut news = self.lock();
        let result = change(&mut news);
        let sleeper = news.sleeper.take();
        drop(news);
        if let Some(waker) = sleeper {
            waker.wake();
        }
        result
    }

    /// This connection has something for the loop.
    pub(crate) fn ready(&self, connection: usize) {
        self.ring(|news| news.ready.push_back(connection));
    }

    /// A job that the loop runs in its next turn. A loop that is gone drops it, uncalled.
    pub(crate) fn post(&self, job: Job<S>) {
        let refused = self.ring(|news| {
            if news.gone {
                return Some(job);
            }
            news.posts.push_back(job);
            None
        });
        drop(refused);
    }

    pub(crate) fn add_timeout(&self, delay: Duration, job: Job<S>) -> TimeoutId {
        self.ring(|news| news.timers.add(delay, job))
    }

    pub(crate) fn remove_timeout(&self, id: TimeoutId) -> bool {
        let job = self.lock().timers.remove(id);
        job.is_some()
    }

    /// A number for a new connection; it may have been another's before.
    pub(crate) fn number(&self) -> usize {
        self.lock().numbers.insert(())
    }

    /// The connection with that number is over.
    pub(crate) fn release(&self, number: usize) {
        self.lock().numbers.try_remove(number);
    }

    /// The last look before sleeping: false if something came meanwhile.
    pub(crate) fn may_sleep(&self, waker: Waker) -> bool {
        let mut news = self.lock();
        let idle = !news.is_any();
        let unused = if idle { news.sleeper.replace(waker) } else { Some(waker) };
        drop(news);
        drop(unused);
        idle
    }

    /// The loop is awake again, and needs no wake-up.
    pub(crate) fn awake(&self) {
        let unused = self.lock().sleeper.take();
        drop(unused);
    }

    /// The loop is gone; what it had to do is dropped, where no lock is held.
    pub(crate) fn gone(&self) {
        let mut news = self.lock();
        news.gone = true;
        let rest = (
            mem::take(&mut news.posts),
            mem::take(&mut news.connects),
            news.timers.drain().collect::<Vec<_>>(),
            news.sleeper.take(),
        );
        drop(news);
        rest.1.iter().for_each(|(connection, _)| connection.never_served());
        drop(rest);
    }

    /// A new connection for the loop; a loop that is gone drops the callback, uncalled.
    pub(crate) fn connect(&self, shared: Arc<Shared<S>>, on_open: OnOpen<S>) {
        let refused = self.ring(|news| {
            if news.gone {
                return Some((shared, on_open));
            }
            news.connects.push_back((shared, on_open));
            None
        });
        if let Some((shared, _)) = &refused {
            shared.never_served();
        }
        drop(refused);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }
}

impl<S> News<S> {
    pub(crate) fn is_any(&self) -> bool {
        self.stop
            || self.timers.has_fresh()
            || !(self.ready.is_empty() && self.posts.is_empty() && self.connects.is_empty() && self.resolved.is_empty())
    }
}

/// The wake protocol, in every order of its threads; CONTRIBUTING.md says how to run it.
#[cfg(all(test, loom))]
pub(super) mod loom {
    use super::*;
    use crate::{ConnectionHandle, config::parameters::ConnectionParameters, protocol::limits::Limits};
    use ::loom::{
        sync::{
            Condvar, Mutex,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        thread,
    };
    use std::task::Wake;

    /// What the operating system does for a loop: a wake-up that comes before the sleep ends it at once.
    pub(in crate::session) struct Sleep {
        rung: Mutex<bool>,
        condvar: Condvar,
        rings: AtomicUsize,
    }

    impl Wake for Sleep {
        fn wake(self: Arc<Self>) {
            self.rings.fetch_add(1, Relaxed);
            *self.rung.lock().unwrap() = true;
            self.condvar.notify_one();
        }
    }

    impl Sleep {
        pub(in crate::session) fn new() -> Arc<Self> {
            Arc::new(Self { rung: Mutex::new(false), condvar: Condvar::new(), rings: AtomicUsize::new(0) })
        }

        pub(in crate::session) fn sleep(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.condvar.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// A loop that counts the frames of its connections and its posts, and sleeps when it finds none. A wake-up that is
    /// lost leaves it asleep, which loom reports; one that was not needed would be a ring without a sleep.
    fn serve(bell: &Bell<usize>, connections: &[ConnectionHandle<usize>], frames: u64, posts: usize) {
        let sleep = Sleep::new();
        let (mut sent, mut posted, mut sleeps) = (0, 0, 0);
        loop {
            let mut news = bell.lock();
            let (ready, jobs) = (mem::take(&mut news.ready), mem::take(&mut news.posts));
            drop(news);
            jobs.into_iter().for_each(|job| job(&mut posted).unwrap());
            for number in ready {
                let mut state = connections[number].0.lock();
                state.looked_at();
                sent += state.take_frames();
                drop(state);
            }
            if (sent, posted) == (frames, posts) {
                break;
            }
            if bell.may_sleep(Waker::from(sleep.clone())) {
                sleeps += 1;
                sleep.sleep();
                bell.awake();
            }
        }
        assert!(sleep.rings.load(Relaxed) <= sleeps, "a ring without a sleep");
    }

    fn open(bell: &Arc<Bell<usize>>) -> ConnectionHandle<usize> {
        let shared = Shared::new(bell.clone(), ConnectionParameters::default(), true);
        let mut state = shared.lock();
        state.set_limits(Limits { channel_max: 9, ..Limits::PROVISIONAL });
        state.opened();
        drop(state);
        ConnectionHandle::new(shared)
    }

    /// Opens a channel, whose channel.open is one frame, and publishes: three frames each.
    fn publish(connection: &ConnectionHandle<usize>, messages: u64) {
        let channel = connection.channel().send().unwrap();
        (0..messages).for_each(|_| channel.basic_publish("", "q", "body").send().unwrap());
        // Its end would be one more frame.
        mem::forget(channel);
    }

    #[test]
    fn publishes_on_two_connections_wake_the_loop_once_per_sleep() {
        ::loom::model(|| {
            let bell = Bell::new();
            let connections = [open(&bell), open(&bell)];
            let threads: Vec<_> = (0..2)
                .map(|n| {
                    let connection = connections[n].clone();
                    thread::spawn(move || publish(&connection, 1))
                })
                .collect();
            serve(&bell, &connections, 8, 0);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn two_threads_on_one_connection_tell_the_loop_of_everything() {
        ::loom::model(|| {
            let bell = Bell::new();
            let connections = [open(&bell)];
            let other = connections[0].clone();
            let thread = thread::spawn(move || publish(&other, 2));
            let (posts, beside) = (bell.clone(), connections[0].clone());
            let poster = thread::spawn(move || {
                posts.post(Box::new(|posted: &mut usize| {
                    *posted += 1;
                    Ok(())
                }));
                publish(&beside, 1);
            });
            serve(&bell, &connections, 7 + 4, 1);
            thread.join().unwrap();
            poster.join().unwrap();
        });
    }

    #[test]
    fn a_post_reaches_a_loop_or_is_dropped_by_one_that_goes() {
        ::loom::model(|| {
            let bell = Bell::<usize>::new();
            let other = bell.clone();
            let kept = Arc::new(());
            let job = kept.clone();
            let thread = thread::spawn(move || {
                other.post(Box::new(move |_| {
                    drop(job);
                    Ok(())
                }));
            });
            bell.gone();
            thread.join().unwrap();
            assert_eq!(Arc::strong_count(&kept), 1, "a job outlives its loop");
        });
    }
}
