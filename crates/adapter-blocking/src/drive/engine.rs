//! What a connection and its channels share: the seat, what waits for callbacks, and waiting itself.

use super::{
    driven::Driven,
    inbox::{self, Arrived, Entry, Inbox},
    keeper::{self, Call, Kept},
    seat::Seat,
};
use amqp_core::{
    Awaited, ConnectionHandle, ConnectionParameters, Consumer, Error, IoLoop, LoopHandle, Message, Result, TimeoutId,
    basic,
};
use pooka_select::{PollerKind, SelectLoop};
use std::{
    env, fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

pub(crate) struct Engine {
    pub(crate) connection: ConnectionHandle,
    pub(crate) inbox: Arc<Inbox>,
    ioloop: LoopHandle,
    seat: Seat<Driven>,
    me: Weak<Self>,
    begun: Instant,
    /// Nanoseconds after `begun` of the last time that something was written at once.
    written: AtomicU64,
    /// Consumers that were left, until the broker has answered.
    leaving: Mutex<Vec<Awaited<basic::CancelOk>>>,
}

/// What a consumer gives.
type Item = Option<Result<Message>>;

/// A thread that sends again so soon is in the middle of a burst.
const BURST: Duration = Duration::from_micros(200);

/// The rest of a burst is written by then.
const SOON: Duration = Duration::from_millis(1);

/// How long a broker that is not read may take nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// More octets than this are written at once.
const PIECE: usize = 64 << 10;

impl Engine {
    /// Opens a connection and waits for it.
    pub(crate) fn open(parameters: ConnectionParameters, keep: bool) -> Result<Arc<Self>> {
        // One connection is watched with the fewest system calls by poll.
        let named = env::var_os("POOKA_POLLER").is_some_and(|name| !name.is_empty());
        let ioloop = SelectLoop::new(if named { PollerKind::Auto } else { PollerKind::Poll })?;
        let handle = ioloop.handle();
        let (opening, opened) = mpsc::channel();
        let connection = handle.connect_for_calls(parameters, move |result| drop(opening.send(result)));
        let engine = Arc::new_cyclic(|me: &Weak<Self>| {
            let kept: Weak<dyn Kept> = if keep { me.clone() } else { Weak::<Self>::new() };
            let driven = Driven::new(ioloop, handle.clone(), Waker::from(Arc::new(Call(kept.clone()))));
            let seat = Seat::new(driven, move |at| keeper::promise(kept.clone(), at));
            let (me, inbox) = (me.clone(), Arc::default());
            let (begun, written, leaving) = (Instant::now(), AtomicU64::new(0), Mutex::default());
            Self { connection, inbox, ioloop: handle, seat, me, begun, written, leaving }
        });
        let mut result = None;
        let waited = engine.until(None, &mut || {
            result = result.take().or_else(|| opened.try_recv().ok());
            result.is_some()
        });
        waited.and_then(|_| result.unwrap_or(Err(Error::LoopGone)))?;
        Ok(engine)
    }

    /// Drives until `done`, or until the deadline.
    pub(crate) fn until(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<bool> {
        loop {
            match self.seat.until(deadline, done) {
                Err(error @ Error::Callback(_)) => self.failed(error),
                result => return result,
            }
        }
    }

    /// Writes and reads what can be written and read now, unless another thread does so.
    pub(crate) fn tend(&self, look: bool) -> Result<()> {
        match self.seat.tend(look) {
            Err(error @ Error::Callback(_)) => self.failed(error),
            result => return result,
        }
        Ok(())
    }

    /// A callback failed that was given to the loop itself: its error comes out where callbacks are called.
    fn failed(&self, error: Error) {
        self.inbox.call(None, Box::new(move || Err(error)));
    }

    /// Something will be asked of the loop next, and this thread sees to it.
    pub(crate) fn attended(&self) {
        if self.seat.is_free() {
            self.ioloop.attended();
        }
    }

    /// Something was sent whose answer is not waited for. It is written now, or a millisecond later in the middle of a burst.
    pub(crate) fn sent(&self) -> Result<()> {
        let now = Instant::now();
        let since = u64::try_from(now.duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX);
        let written = self.written.load(Ordering::Relaxed);
        let burst = since.saturating_sub(written) < BURST.as_nanos() as u64;
        if burst && self.connection.outbound_len() < PIECE {
            now.checked_add(SOON).into_iter().for_each(|soon| self.seat.by(soon));
            return Ok(());
        }
        self.written.store(since, Ordering::Relaxed);
        self.tend(false)
    }

    /// Waits until a message more may be sent, until the deadline at most. An error if so much has arrived that the program had
    /// better look at.
    pub(crate) fn room(&self, deadline: Option<Instant>) -> Result<()> {
        self.inbox.overwhelmed()?;
        let parameters = self.connection.parameters();
        if self.connection.outbound_len() > parameters.outbound_high_water() {
            let low = parameters.low_water();
            let room = || self.connection.outbound_len() <= low || self.connection.is_closed();
            let patience = Instant::now().checked_add(PATIENCE);
            self.until(patience.into_iter().chain(deadline).min(), &mut || room())?;
            if !room() {
                // A broker that cannot send may take nothing either.
                let _reading = self.inbox.pressing(&self.connection);
                self.until(deadline, &mut || room() || self.inbox.overwhelmed().is_err())?;
                self.inbox.overwhelmed()?;
            }
        }
        Ok(())
    }

    /// Drives until the future is ready.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        self.block_on_or(future, None, &mut || false)?.ok_or(Error::LoopGone)
    }

    /// Drives until the future is ready, or until the deadline.
    pub(crate) fn block_on_until<F: Future>(&self, future: F, deadline: Option<Instant>) -> Result<Option<F::Output>> {
        self.block_on_or(future, deadline, &mut || false)
    }

    /// Drives until the future is ready, until the deadline, or until `stop`.
    fn block_on_or<F: Future>(
        &self,
        future: F,
        deadline: Option<Instant>,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<F::Output>> {
        let mut future = pin!(future);
        let signal =
            Arc::new(FutureWaker { woken: AtomicBool::new(true), thread: thread::current(), engine: self.me.clone() });
        let waker = Waker::from(signal.clone());
        let mut context = Context::from_waker(&waker);
        let woken = || signal.woken.load(Ordering::Acquire);
        let mut looked = false;
        loop {
            // With the seat free: the future may keep its thread to itself.
            while signal.woken.swap(false, Ordering::AcqRel) {
                self.attended();
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return Ok(Some(output));
                }
            }
            if stop() {
                return Ok(None);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if mem::replace(&mut looked, true) {
                    return Ok(None);
                }
                self.tend(true)?; // who has no time still hears of what is there
            } else if !self.until(deadline, &mut || woken() || stop())? {
                // The connection may be over, and the future wait for something else.
                while !woken() {
                    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                        None => thread::park(),
                        Some(Duration::ZERO) => break,
                        Some(left) => thread::park_timeout(left),
                    }
                }
            }
        }
    }

    /// Makes the waiting threads look at what they wait for.
    pub(crate) fn look_again(&self) {
        self.ioloop.look_again();
        self.seat.tell();
    }

    /// Ends a consumer, without waiting for the answer. What was not taken goes back.
    pub(crate) fn leave(&self, consumer: Consumer) {
        self.attended();
        let answered = |reply: &mut Awaited<_>| pin!(reply).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let last = consumer.leave();
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain_mut(|reply| !answered(reply));
        leaving.extend(last);
    }

    /// Waits until every message has gone back that was on its way to a consumer that was left. The next consumer would
    /// otherwise be sent those after it first, and a message that is late each time comes back more often than a quorum queue
    /// allows.
    pub(crate) fn left(&self) -> Result<()> {
        let leaving = mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        for reply in leaving {
            let _ = self.block_on(reply)?; // without an answer the channel or the connection is over
        }
        Ok(())
    }

    /// A consumer's next item; `None` at the deadline, or when callbacks have been called meanwhile.
    pub(crate) fn next(&self, consumer: &mut Consumer, deadline: Option<Instant>) -> Result<Option<Item>> {
        // Mostly the next message is here already.
        if let Poll::Ready(next) = pin!(consumer.next()).poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(Some(next));
        }
        let next = self.block_on_or(consumer.next(), deadline, &mut || self.inbox.has_work())?;
        if next.is_none() {
            self.dispatch()?;
        }
        Ok(next)
    }

    pub(crate) fn call_later(&self, delay: Duration, call: inbox::Call) -> Result<TimeoutId> {
        self.attended();
        let known = Arc::new(Mutex::new(None));
        let (told, inbox) = (known.clone(), self.inbox.clone());
        // A timer that is due at once waits until its id is known, by which it can be taken back.
        let mut id = known.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = self.ioloop.add_timeout(delay, move |()| {
            let id = *told.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.call(id, call);
        });
        *id = Some(timeout);
        drop(id);
        self.tend(false)?; // the delay counts from the turn that hears of it
        Ok(timeout)
    }

    pub(crate) fn remove_timeout(&self, id: TimeoutId) -> bool {
        self.ioloop.remove_timeout(id) || self.inbox.remove_timeout(id)
    }

    /// Calls the callbacks of what has arrived by now; nothing if a thread does so already, this one perhaps.
    pub(crate) fn dispatch(&self) -> Result<()> {
        let Some(dispatcher) = self.inbox.dispatcher() else { return Ok(()) };
        let mut result = Ok(());
        for _ in 0..self.inbox.len() {
            result = match self.inbox.pop() {
                Some(Entry::Message(arrived)) => lend(*arrived),
                Some(Entry::Call { call, .. }) => call(),
                None => break,
            };
            if result.is_err() {
                break;
            }
        }
        drop(dispatcher);
        if !self.inbox.is_empty() {
            self.look_again(); // another thread may wait for its turn
        }
        result
    }

    /// Waits until there is something for callbacks, until the deadline at most, and calls them.
    pub(crate) fn process(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<()> {
        let forever = deadline.is_none() && !self.inbox.is_dispatched_here();
        if forever || deadline.is_some_and(|deadline| deadline > Instant::now()) {
            self.until(deadline, &mut || self.inbox.has_work() || done() || self.connection.is_closed())?;
        } else {
            self.tend(true)?;
        }
        self.dispatch()
    }

    /// The socket is closed, now or when the thread that drives gives up the seat.
    pub(crate) fn close(&self) {
        self.seat.close();
        self.look_again();
        self.inbox.clear();
    }

    fn guarded(&self, tend: impl FnOnce() -> Result<()>) {
        // The keeper goes on whatever happens here: the panic hook has told of a panic, and an error of the system's will
        // come again to a thread that waits.
        let _ = catch_unwind(AssertUnwindSafe(tend));
    }
}

impl Kept for Engine {
    fn due(self: Arc<Self>, at: Instant) {
        if self.seat.kept(at) {
            self.guarded(|| self.tend(false));
        }
    }

    fn called(self: Arc<Self>) {
        self.guarded(|| self.tend(false));
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Gives a message to its callback. One that panics costs its channel.
fn lend(Arrived { channel, consumer, message, .. }: Arrived) -> Result<()> {
    let slot = || consumer.on_message.lock().unwrap_or_else(PoisonError::into_inner);
    if channel.is_closed() {
        return Ok(()); // the broker has requeued it
    }
    let Some(mut on_message) = slot().take() else { return Ok(()) };
    let lent = channel.clone();
    let called = catch_unwind(AssertUnwindSafe(|| on_message(lent, message)));
    *slot() = Some(on_message);
    called.unwrap_or_else(|payload| {
        let _ = channel.close().reply_text("a callback panicked").send();
        resume_unwind(payload)
    })
}

/// Wakes a thread that waits for a future.
struct FutureWaker {
    woken: AtomicBool,
    thread: Thread,
    engine: Weak<Engine>,
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The thread itself looks before it sleeps.
        if !self.woken.swap(true, Ordering::AcqRel) && thread::current().id() != self.thread.id() {
            self.thread.unpark();
            self.engine.upgrade().into_iter().for_each(|engine| engine.look_again());
        }
    }
}
