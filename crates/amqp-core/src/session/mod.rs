//! What handles and the loop share of a connection, under one mutex.

pub(crate) mod bell;
pub mod callbacks;
pub(crate) mod channel;
pub(crate) mod confirm;
pub(crate) mod op;
pub(crate) mod reply;
pub(crate) mod slot;
pub(crate) mod state;
pub mod timer;

pub(crate) use op::Op;
pub(crate) use state::{Pending, Phase, State};

use crate::{
    config::parameters::ConnectionParameters,
    error::{Error, Result},
    session::{
        bell::Bell,
        callbacks::CallbackManager,
        channel::Identity,
        confirm::PublishOutcome,
        op::EventCallback,
        reply::{Answer, Continuation, Expect},
    },
    sync::{Mutex, MutexGuard},
    wire::{
        fault::Invalid,
        frame::{Content, put_ack},
        message::DeliveryTag,
        spec::{self, Method, basic},
        table::Table,
    },
};
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

/// A connection as its handles and its loop see it.
pub(crate) struct Shared<S: 'static> {
    /// Its number on its loop.
    pub(crate) number: usize,
    pub(crate) bell: Arc<Bell<S>>,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) callbacks: CallbackManager<EventCallback<S>>,
    pub(crate) server_properties: OnceLock<Table>,
    /// An end without a callback or a pending request is an error of the loop.
    pub(crate) raises: bool,
    /// How many handles of it and of its channels the program has, lent ones included.
    pub(crate) handles: AtomicUsize,
    /// How many [`Hold`](crate::api::hold::Hold)s there are.
    pub(crate) holds: AtomicUsize,
    /// An [`Op`] waits: looked at before each frame, without the lock.
    pub(crate) news: AtomicBool,
    /// pika's back-pressure rule: average frames that may wait.
    pub(crate) backpressure_multiplier: AtomicU32,
    state: Mutex<State<S>>,
}

/// The state, locked. Dropped, it rings for the loop if that has to look, after the lock has been given back.
pub(crate) struct Locked<'a, S: 'static> {
    state: MutexGuard<'a, State<S>>,
    ring: Ring<'a, S>, // dropped after the guard
}

struct Ring<'a, S: 'static> {
    shared: &'a Shared<S>,
    is_due: bool,
}

impl<S: 'static> Locked<'_, S> {
    /// Something for the loop to change in what it alone owns.
    pub(crate) fn queue(&mut self, op: Op<S>) {
        self.state.push(op);
        self.ring.shared.news.store(true, Ordering::Release);
    }
}

impl<S: 'static> Deref for Locked<'_, S> {
    type Target = State<S>;

    #[inline]
    fn deref(&self) -> &State<S> {
        &self.state
    }
}

impl<S: 'static> DerefMut for Locked<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<S> {
        &mut self.state
    }
}

impl<S: 'static> Drop for Locked<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.ring.is_due = self.state.rings();
    }
}

impl<S: 'static> Drop for Ring<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.is_due {
            self.shared.bell.ready(self.shared.number);
        }
    }
}

impl<S: 'static> Shared<S> {
    pub(crate) fn new(bell: Arc<Bell<S>>, parameters: ConnectionParameters, raises: bool) -> Arc<Self> {
        let endpoint = parameters.endpoint();
        Arc::new(Self {
            number: bell.number(),
            bell,
            parameters,
            callbacks: CallbackManager::new(),
            server_properties: OnceLock::new(),
            raises,
            handles: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
            news: AtomicBool::new(false),
            backpressure_multiplier: AtomicU32::new(10),
            state: Mutex::new(State::new(endpoint)),
        })
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, S> {
        Locked { state: self.state.lock(), ring: Ring { shared: self, is_due: false } }
    }

    /// The loop went without having heard of this connection.
    pub(crate) fn never_served(&self) {
        let Some(rest) = self.lock().end(Error::LoopGone, None) else { return };
        rest.room.wake();
        // There is no state to lend: callbacks are dropped, whatever else waits is answered.
        rest.closers.into_iter().for_each(|closer| drop(closer.resolve(Err(Error::LoopGone))));
    }

    /// Whether the broker says that it can do this.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        let capabilities = self.server_properties.get().and_then(|properties| properties.get("capabilities"));
        capabilities.and_then(|value| value.as_table()?.get(name)?.as_bool()).unwrap_or(false)
    }

    /// Sends a method on a channel. What cannot be sent is answered later with the error that is returned.
    pub(crate) fn submit(
        &self,
        identity: &Arc<Identity>,
        method: &Method,
        expect: Option<Expect>,
        then: Continuation<S>,
        op: Option<Op<S>>,
    ) -> Result<()> {
        let confirms = || ["publisher_confirms", "basic.nack"].into_iter().all(|name| self.has_capability(name));
        if matches!(method, Method::Confirm(_)) && !confirms() {
            return self.refuse(Invalid::NoConfirms.into(), then);
        }
        let mut state = self.lock();
        if let Err((error, then)) = state.request(identity, method, expect, then) {
            drop(state);
            if matches!(method, Method::Channel(spec::channel::Method::Close(_))) && error.is_deliberate() {
                return self.answer(then, Ok(Answer::Method(spec::channel::CloseOk {}.into())));
            }
            return self.refuse(error, then);
        }
        if let Some(op) = op.or_else(|| side_effect(identity, method)) {
            state.queue(op);
        }
        Ok(())
    }

    /// Sends a request of the connection itself.
    pub(crate) fn submit_on_connection(&self, method: &Method, expect: Expect, then: Continuation<S>) -> Result<()> {
        let result = self.lock().request_on_connection(method, expect, then);
        result.or_else(|(error, then)| self.refuse(error, then))
    }

    /// What cannot be sent is answered by the loop, as everything is.
    #[cold]
    pub(crate) fn refuse<A: Send + 'static>(&self, error: Error, then: Continuation<S, A>) -> Result<()> {
        self.answer(then, Err(error))
    }

    /// What needs no answer of the broker's is answered by the loop, too. Returned is whether it was good.
    pub(crate) fn answer<A: Send + 'static>(&self, then: Continuation<S, A>, answer: Result<A>) -> Result<()> {
        let result = answer.as_ref().map(drop).map_err(Error::clone);
        if let Some(job) = then.resolve(answer) {
            self.bell.post(job);
        }
        result
    }

    /// Acknowledges, or whatever else `put` writes about a delivery.
    #[inline]
    pub(crate) fn settle(
        &self,
        identity: &Identity,
        tag: Option<DeliveryTag>,
        put: impl FnOnce(&mut Vec<u8>, u16, u64),
    ) -> Result<()> {
        if let Some(stale) = tag.filter(|tag| tag.generation != identity.serial) {
            return Err(Error::StaleDeliveryTag { tag: stale.tag });
        }
        self.lock().settle(identity, |out| put(out, identity.number, tag.map_or(0, |tag| tag.tag)))
    }

    /// Encodes a publish straight into the outbox. In confirm mode it has a number, which `then` waits for.
    #[inline]
    pub(crate) fn publish(
        &self,
        identity: &Identity,
        content: &Content<'_>,
        mut then: Option<(Continuation<S, PublishOutcome>, u64)>,
    ) -> Result<()> {
        let published = self.lock().publish(identity, content, &mut then, self.parameters.outbound_limit());
        match (published, then) {
            (Err(error), Some((then, _))) => self.refuse(error, then),
            (published, _) => published,
        }
    }
}

/// What a method means for what the loop owns.
fn side_effect<S>(identity: &Arc<Identity>, method: &Method) -> Option<Op<S>> {
    match method {
        Method::Channel(spec::channel::Method::Close(_)) => Some(Op::Closing(identity.clone())),
        Method::Basic(basic::Method::Cancel(cancel)) => {
            let (identity, tag) = (identity.clone(), cancel.consumer_tag.clone());
            Some(Op::Cancel { identity, tag, nowait: cancel.nowait })
        }
        _ => None,
    }
}

/// Numbers channels, never twice in a process.
pub(crate) fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// basic.ack of one message.
#[inline]
pub(crate) fn ack(out: &mut Vec<u8>, channel: u16, tag: u64) {
    put_ack(out, channel, tag, false);
}
