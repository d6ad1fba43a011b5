//! Tasks that wait until there is less to write.

use slab::Slab;
use std::{mem, task::Waker};

/// The wakers of tasks that wait for room. All of them leave together, or each by itself.
#[derive(Default)]
pub(crate) struct Room {
    waiting: Slab<Waker>,
    /// Counts how often all have left.
    round: u64,
}

/// A task's place. It is never another's: one who comes back after all have left has a place of another round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    at: usize,
    round: u64,
}

impl Room {
    /// A task waits.
    pub(crate) fn enter(&mut self, waker: Waker) -> Place {
        Place { at: self.waiting.insert(waker), round: self.round }
    }

    /// The task at this place waits no more; its waker is to be dropped where no lock is held.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        if place.round != self.round {
            return None;
        }
        self.waiting.try_remove(place.at)
    }

    /// There is room, or there will be none: the tasks are returned, to be woken where no lock is held.
    pub(super) fn leave_all(&mut self) -> Wakers {
        if self.waiting.is_empty() {
            return Wakers::default();
        }
        self.round += 1;
        Wakers(mem::take(&mut self.waiting))
    }
}

/// Tasks that have left.
#[derive(Default)]
pub(crate) struct Wakers(Slab<Waker>);

impl Wakers {
    /// Wakes all; no lock may be held.
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Waiting for room, in every order of the threads; CONTRIBUTING.md says how to run it.
#[cfg(all(test, loom))]
mod loom {
    use crate::{
        ConnectionHandle, ConnectionParameters,
        session::{
            Shared,
            bell::{Bell, loom::Sleep},
            state::Marks,
        },
        wire::outbox::Outbox,
    };
    use ::loom::thread;
    use std::{
        future::Future,
        mem,
        pin::pin,
        task::{Context, Waker},
    };

    fn wait(connection: &ConnectionHandle<usize>) {
        let sleep = Sleep::new();
        let waker = Waker::from(sleep.clone());
        let mut writable = pin!(connection.writable());
        while writable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            sleep.sleep();
        }
    }

    fn fill(shared: &Shared<usize>) {
        shared.lock().say_octets(&[0; 20]);
    }

    fn done(shared: &Shared<usize>) {
        shared.bell.post(Box::new(|done: &mut usize| {
            *done += 1;
            Ok(())
        }));
    }

    /// Trial T1: a task that is woken, and waits again before another one that was woken with it looks, is woken again.
    #[test]
    fn whoever_waits_for_room_is_woken() {
        ::loom::model(|| {
            let bell = Bell::new();
            let parameters = ConnectionParameters::builder().outbound_high_water(10).build().unwrap();
            let shared = Shared::new(bell.clone(), parameters, true);
            fill(&shared);
            let threads = [1, 2].map(|rounds| {
                let connection = ConnectionHandle::new(shared.clone());
                thread::spawn(move || {
                    for round in 1..=rounds {
                        wait(&connection);
                        if round < rounds {
                            fill(&connection.0);
                        }
                    }
                    done(&connection.0);
                })
            });
            let sleep = Sleep::new();
            let mut finished = 0;
            while finished < 2 {
                let mut news = bell.lock();
                let (ready, posts) = (mem::take(&mut news.ready), mem::take(&mut news.posts));
                drop(news);
                posts.into_iter().for_each(|job| job(&mut finished).unwrap());
                if !ready.is_empty() {
                    let mut state = shared.lock();
                    state.looked_at();
                    let mut writing = Outbox::default();
                    state.hand_over(&mut writing);
                    drop(state);
                    let marks = Marks { high: 10, low: 5, frames: None, sent: 0, pressed: false };
                    let weight = shared.lock().weigh(0, &marks);
                    weight.room.wake();
                }
                if finished < 2 && bell.may_sleep(Waker::from(sleep.clone())) {
                    sleep.sleep();
                    bell.awake();
                }
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
