//! A hub inside a future: what the adapters of runtimes share.

use crate::{
    api::{awaited::Awaited, connection::ConnectionHandle, loop_handle::LoopHandle},
    config::parameters::ConnectionParameters,
    error::Result,
    hub::{Hub, Network, Token, Turn},
    sync::{Mutex, MutexGuard},
};
use std::{
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

/// A runtime's clock and timer.
pub trait Clock {
    /// The time.
    fn now(&self) -> Instant;

    /// Ready when `until` has come; before that the task is woken then.
    fn poll_until(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()>;
}

/// The task that serves a hub: its sockets wake it, each saying which one it is.
#[derive(Clone, Debug, Default)]
pub struct Task(Arc<Mutex<Woken>>);

#[derive(Debug, Default)]
struct Woken {
    ready: Vec<Token>,
    waker: Option<Waker>,
}

/// Turns in a row before other tasks have theirs.
const TURNS: usize = 32;

impl Task {
    /// Returns a waker for one socket.
    pub fn waker(&self, token: Token) -> Waker {
        Waker::from(Arc::new(Ready { task: self.clone(), token }))
    }

    /// Serves the hub as far as that is possible now; ready when its loop is over.
    ///
    /// # Errors
    /// The error of a callback. The next poll continues after it.
    ///
    /// # Panics
    /// Resumes a panic of a callback. The next poll continues after it.
    pub fn poll<S: 'static, N: Network>(
        &self,
        hub: &mut Hub<S, N>,
        state: &mut S,
        clock: &mut impl Clock,
        context: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        self.entered(context);
        hub.awake();
        for _ in 0..TURNS {
            self.report(hub);
            match hub.turn(&|| clock.now(), state)? {
                Turn::Over => return Poll::Ready(Ok(())),
                Turn::Again => {}
                Turn::Sleep(until) => {
                    let due = until.is_some_and(|until| clock.poll_until(until, context).is_ready());
                    if !due && hub.may_sleep(context.waker().clone()) {
                        return Poll::Pending;
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock()
    }

    fn entered(&self, context: &Context<'_>) {
        let waker = context.waker().clone();
        let before = self.lock().waker.replace(waker);
        drop(before);
    }

    fn report<S: 'static, N: Network>(&self, hub: &mut Hub<S, N>) {
        let ready = mem::take(&mut self.lock().ready);
        for token in ready {
            hub.ready(token, true);
        }
    }
}

/// A loop as a future: a hub, the task that serves it, and a runtime's clock.
#[derive(Debug)]
pub struct Served<S: 'static, N: Network, C> {
    hub: Hub<S, N>,
    task: Task,
    clock: C,
}

impl<S: 'static, N: Network, C: Clock> Served<S, N, C> {
    /// Returns a loop without connections, on a network whose sockets wake the task.
    pub fn new(network: impl FnOnce(Task) -> N, clock: C) -> Self {
        let task = Task::default();
        Self { hub: Hub::new(network(task.clone())), task, clock }
    }

    /// Returns a handle to the loop. It is `Clone + Send + Sync`.
    pub fn handle(&self) -> LoopHandle<S> {
        self.hub.handle()
    }

    /// Serves until it is stopped, until its last connection is over and no timer is pending, or until a callback fails.
    ///
    /// # Errors
    /// The error of a callback. It can be called again, and continues after it.
    ///
    /// # Panics
    /// Resumes a panic of a callback. It can be called again, and continues after it.
    pub async fn run(&mut self, state: &mut S) -> Result<()> {
        poll_fn(|context| self.poll(state, context)).await
    }

    fn poll(&mut self, state: &mut S, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.task.poll(&mut self.hub, state, &mut self.clock, context)
    }
}

impl<N: Network, C: Clock> Served<(), N, C> {
    /// Returns a connection, and the future that serves it and that runs by itself: it continues after a callback that panicked.
    /// The panic hook has told of it, and its channel is closed.
    pub fn pair(
        mut self,
        parameters: ConnectionParameters,
    ) -> (Awaited<ConnectionHandle>, impl Future<Output = Result<()>>) {
        let connecting = self.handle().connect(parameters).into_future();
        let driver = poll_fn(move |context| {
            loop {
                if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| self.poll(&mut (), context))) {
                    return poll;
                }
            }
        });
        (connecting, driver)
    }
}

struct Ready {
    task: Task,
    token: Token,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.task.lock();
        if !woken.ready.contains(&self.token) {
            woken.ready.push(self.token);
        }
        let waker = woken.waker.take();
        drop(woken);
        waker.into_iter().for_each(Waker::wake);
    }
}
