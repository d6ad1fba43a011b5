//! What handles and the loop share of a connection, behind one mutex.

pub(crate) mod bell;
pub mod callbacks;
pub(crate) mod channel;
pub(crate) mod confirm;
pub(crate) mod flow;
pub(crate) mod reply;
pub(crate) mod slot;
pub mod timer;

use crate::{
    api::{
        channel::{Channel, WeakChannel},
        consume::OnMessage,
        event::EventCallback,
    },
    config::parameters::ConnectionParameters,
    error::{Error, Result},
    protocol::limits::Limits,
    session::{
        bell::Bell,
        callbacks::CallbackManager,
        channel::{ChannelState, Identity, Phase as ChannelPhase},
        confirm::{Confirms, PAUSED},
        reply::{Continuation, Expect},
    },
    sync::{Mutex, MutexGuard},
    wire::{
        fault::Invalid,
        frame::{Content, put_ack, put_content, put_method},
        message::DeliveryTag,
        outbox::Outbox,
        spec::{self, Method, basic},
        strings::ShortString,
        table::Table,
    },
};
use slab::Slab;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// A connection as its handles and its loop see it.
pub(crate) struct Shared<S: 'static> {
    /// Its number on its loop.
    pub(crate) number: usize,
    pub(crate) bell: Arc<Bell<S>>,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) callbacks: CallbackManager<EventCallback<S>>,
    pub(crate) server_properties: OnceLock<Table>,
    /// An end that nobody is told of comes out of the loop.
    pub(crate) raises: bool,
    /// How many [`Hold`](crate::api::hold::Hold)s there are.
    pub(crate) holds: AtomicUsize,
    /// An [`Op`] waits: looked at before each frame, without the lock.
    pub(crate) news: AtomicBool,
    /// pika's back-pressure rule: average frames that may wait.
    pub(crate) backpressure_multiplier: AtomicU32,
    state: Mutex<State<S>>,
}

/// Everything behind the mutex. Nothing of the program's is called, cloned, woken or dropped while it is locked.
pub(crate) struct State<S: 'static> {
    pub(crate) phase: Phase,
    /// `host:port` of the endpoint that is tried, or connected to.
    pub(crate) endpoint: Arc<str>,
    pub(crate) outbox: Outbox,
    /// Octets that the loop has ever taken out of the outbox, to write them.
    pub(crate) taken: u64,
    /// Octets that the loop has taken out of the outbox and not yet written.
    pub(crate) in_flight: usize,
    /// Octets of channels on which the broker wants no content for the time being.
    pub(crate) paused: usize,
    pub(crate) limits: Limits,
    pub(crate) channels: BTreeMap<u16, ChannelState<S>>,
    pub(crate) ops: Vec<Op<S>>,
    /// Who waits for connection.close-ok.
    pub(crate) closers: Vec<Continuation<S>>,
    /// What channel 0 expects: update-secret-ok.
    pub(crate) fifo: VecDeque<Pending<S>>,
    /// Who waits until there is less to write.
    pub(crate) waiting_for_room: Slab<Waker>,
    /// Counts requests that wait for a reply.
    pub(crate) requests: u64,
    /// Frames put into the outbox, for the average of pika's back-pressure rule.
    pub(crate) frames: u64,
    /// The loop has been told, and has taken nothing out of the outbox since.
    queued: bool,
    /// Octets waiting over which the loop wants to be told again, because its callbacks are to be.
    pub(crate) weigh_at: usize,
}

/// Where a connection is in its life.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    Opening,
    Open,
    Closing { code: u16, text: Arc<str> },
    Closed(Error),
}

/// A request that waits for its reply.
pub(crate) struct Pending<S> {
    pub(crate) expect: Expect,
    pub(crate) then: Continuation<S>,
    /// Its place among the connection's requests.
    pub(crate) number: u64,
    /// The consumer that it starts or ends, if it does.
    pub(crate) consumer_tag: Option<ShortString>,
}

/// What the loop has to change in what it alone owns, in the order of the calls.
pub(crate) enum Op<S: 'static> {
    Open {
        identity: Arc<Identity>,
        handle: WeakChannel<S>,
    },
    Consume {
        channel: Channel<S>,
        queue: ShortString,
        tag: ShortString,
        no_ack: bool,
        callbacks: OnMessage<S>,
    },
    Cancel {
        identity: Arc<Identity>,
        tag: ShortString,
        nowait: bool,
    },
    Confirm {
        identity: Arc<Identity>,
        callback: crate::session::confirm::OnConfirm<S>,
    },
    Closing(Arc<Identity>),
    /// The program has closed the connection.
    Shutdown,
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
            holds: AtomicUsize::new(0),
            news: AtomicBool::new(false),
            backpressure_multiplier: AtomicU32::new(10),
            state: Mutex::new(State {
                phase: Phase::Opening,
                endpoint,
                outbox: Outbox::default(),
                taken: 0,
                in_flight: 0,
                paused: 0,
                limits: Limits::PROVISIONAL,
                channels: BTreeMap::new(),
                ops: vec![],
                closers: vec![],
                fifo: VecDeque::new(),
                waiting_for_room: Slab::new(),
                requests: 0,
                frames: 0,
                queued: false,
                weigh_at: usize::MAX,
            }),
        })
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, S> {
        #[cfg(debug_assertions)]
        HELD.with(|held| held.set(held.get() + 1));
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unlocks, and tells the loop if it has not been told yet.
    #[inline]
    pub(crate) fn unlock(&self, mut state: Locked<'_, S>) {
        let heavy = state.held() > state.weigh_at;
        if heavy {
            state.weigh_at = usize::MAX;
        }
        let first = !std::mem::replace(&mut state.queued, true);
        drop(state);
        if first || heavy {
            self.bell.ready(self.number);
        }
    }

    /// The loop went without having heard of this connection.
    pub(crate) fn never_served(&self) {
        let mut state = self.lock();
        if let Phase::Closed(_) = state.phase {
            return;
        }
        state.phase = Phase::Closed(Error::LoopGone);
        let closers = mem::take(&mut state.closers);
        drop(state);
        // There is no state to lend: callbacks are dropped, whoever else waits is told.
        closers.into_iter().for_each(|closer| drop(closer.resolve(Err(Error::LoopGone))));
    }

    /// Whether the broker says that it can do this.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        let capabilities = self.server_properties.get().and_then(|properties| properties.get("capabilities"));
        capabilities.and_then(|value| value.as_table()?.get(name)?.as_bool()).unwrap_or(false)
    }

    /// Sends a method on a channel. What cannot be sent comes back with the reason and its continuation.
    pub(crate) fn submit(
        &self,
        identity: &Arc<Identity>,
        method: &Method,
        expect: Option<Expect>,
        then: Continuation<S>,
        op: Option<Op<S>>,
    ) -> Result<(), Box<Refused<S>>> {
        let confirms = || ["publisher_confirms", "basic.nack"].into_iter().all(|name| self.has_capability(name));
        if matches!(method, Method::Confirm(_)) && !confirms() {
            return Err(Box::new(Refused { error: Invalid::NoConfirms.into(), then, op }));
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Err((error, then)) = state.request(identity, method, expect, then) {
            drop(guard);
            return Err(Box::new(Refused { error, then, op }));
        }
        let op = op.or_else(|| side_effect(identity, method));
        if let Some(op) = op {
            state.ops.push(op);
            state.hurry();
            self.news.store(true, Ordering::Release);
        }
        self.unlock(guard);
        Ok(())
    }

    /// A request that could not be sent is answered by the loop, as all others are.
    pub(crate) fn answer_later(&self, then: Continuation<S>, error: Error) {
        if let Some(job) = then.resolve(Err(error)) {
            self.bell.post(job);
        }
    }

    /// A request of the connection itself.
    pub(crate) fn submit_on_connection(
        &self,
        method: &Method,
        expect: Expect,
        then: Continuation<S>,
    ) -> Result<(), Box<Refused<S>>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let result = match &state.phase {
            Phase::Open => put_method(state.outbox.octets(), 0, method, state.limits.frame_max).map_err(Error::from),
            phase => Err(phase.refusal()),
        };
        if let Err(error) = result {
            drop(guard);
            return Err(Box::new(Refused { error, then, op: None }));
        }
        state.requests += 1;
        state.hurry();
        state.fifo.push_back(Pending { expect, then, number: state.requests, consumer_tag: None });
        self.unlock(guard);
        Ok(())
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
        let mut state = self.lock();
        state.usable(identity)?;
        state.frames += 1;
        put(state.outbox.octets(), identity.number, tag.map_or(0, |tag| tag.tag));
        self.unlock(state);
        Ok(())
    }

    /// Encodes a publish straight into the outbox. In confirm mode it has a number, which `then` waits for.
    #[inline]
    pub(crate) fn publish(
        &self,
        identity: &Identity,
        content: &Content<'_>,
        mut then: Option<(Continuation<S>, u64)>,
    ) -> Result<(), Box<Refused<S>>> {
        let mut state = self.lock();
        if let Err(error) = state.publish(identity, content, &mut then, self.parameters.outbound_limit()) {
            drop(state);
            let then = then.map_or(Continuation::Nobody, |(then, _)| then);
            return Err(Box::new(Refused { error, then, op: None }));
        }
        self.unlock(state);
        Ok(())
    }
}

/// What could not be sent: everything that its caller gave, to be resolved or dropped where no lock is held.
pub(crate) struct Refused<S: 'static> {
    pub(crate) error: Error,
    pub(crate) then: Continuation<S>,
    #[expect(dead_code, reason = "dropped by whoever gets it")]
    pub(crate) op: Option<Op<S>>,
}

impl<S: 'static> State<S> {
    /// The channel's state, if it can be used.
    #[inline]
    pub(crate) fn usable(&mut self, identity: &Identity) -> Result<&mut ChannelState<S>> {
        usable(&mut self.channels, identity)
    }

    /// Encodes a method on a channel; if a reply is expected, `then` gets it.
    pub(crate) fn request(
        &mut self,
        identity: &Identity,
        method: &Method,
        expect: Option<Expect>,
        then: Continuation<S>,
    ) -> Result<(), (Error, Continuation<S>)> {
        if let Method::Basic(basic::Method::Cancel(cancel)) = method {
            let number = self.requests + 1;
            match self.usable(identity) {
                Ok(channel) if channel.is_starting(&cancel.consumer_tag) => {
                    channel.cancelling(&cancel.consumer_tag, true);
                    let consumer_tag = Some(cancel.consumer_tag.clone());
                    let pending = expect.map(|expect| Pending { expect, then, number, consumer_tag });
                    channel.held.push((cancel.clone(), pending));
                    self.requests = number;
                    return Ok(());
                }
                _ => {}
            }
        }
        if let Err(error) = self.encode(identity, method, expect) {
            return Err((error, then));
        }
        if let Some(expect) = expect {
            self.requests += 1;
            self.hurry();
            if let Some(channel) = self.channels.get_mut(&identity.number) {
                let consumer_tag = match method {
                    Method::Basic(basic::Method::Consume(consume)) => Some(consume.consumer_tag.clone()),
                    Method::Basic(basic::Method::Cancel(cancel)) => Some(cancel.consumer_tag.clone()),
                    _ => None,
                };
                channel.fifo.push_back(Pending { expect, then, number: self.requests, consumer_tag });
            }
        }
        Ok(())
    }

    /// The consumer with this tag has begun: what was to cancel it goes out. Who cannot be answered any more comes back.
    pub(crate) fn release(&mut self, number: u16, tag: &ShortString) -> Vec<(Error, Continuation<S>)> {
        let mut refused = vec![];
        let Some(channel) = self.channels.get_mut(&number) else { return refused };
        let identity = channel.identity.clone();
        let (due, held) = mem::take(&mut channel.held).into_iter().partition(|(cancel, _)| cancel.consumer_tag == *tag);
        channel.held = held;
        let due: Vec<(basic::Cancel, Option<Pending<S>>)> = due;
        for (cancel, pending) in due {
            let (expect, then) = match pending {
                Some(pending) => (Some(pending.expect), pending.then),
                None => (None, Continuation::Nobody),
            };
            refused.extend(self.request(&identity, &cancel.into(), expect, then).err());
        }
        refused
    }

    fn encode(&mut self, identity: &Identity, method: &Method, expect: Option<Expect>) -> Result<()> {
        let channel = usable(&mut self.channels, identity)?;
        channel.put_request(&mut self.outbox, &mut self.paused, self.taken, method, self.limits.frame_max)?;
        self.frames += 1;
        match method {
            Method::Channel(spec::channel::Method::Close(close)) => {
                let error = Error::ChannelClosedByClient {
                    channel: identity.number,
                    code: close.reply_code,
                    text: close.reply_text.to_string().into(),
                };
                channel.phase = ChannelPhase::Closing;
                identity.close(error);
            }
            Method::Confirm(spec::confirm::Method::Select(_)) if channel.confirms.is_none() => {
                channel.confirms = Some(Confirms::default());
            }
            Method::Basic(basic::Method::Cancel(cancel)) => channel.cancelling(&cancel.consumer_tag, expect.is_some()),
            Method::Basic(basic::Method::Qos(qos)) if !qos.global => channel.prefetch = qos.prefetch_count,
            _ => {}
        }
        Ok(())
    }

    /// Encodes a publish; in confirm mode `then` is taken.
    #[inline]
    fn publish(
        &mut self,
        identity: &Identity,
        content: &Content<'_>,
        then: &mut Option<(Continuation<S>, u64)>,
        limit: Option<usize>,
    ) -> Result<()> {
        let frame_max = self.limits.frame_max;
        let held = self.held();
        if let Some(limit) = limit.filter(|limit| held > *limit) {
            return Err(Error::OutboundFull { held, limit });
        }
        let channel = usable(&mut self.channels, identity)?;
        if then.is_some() && channel.confirms.is_none() {
            return Err(Invalid::NotInConfirmMode.into());
        }
        channel.put_message(&mut self.outbox, &mut self.paused, |outbox| {
            put_content(outbox, identity.number, content, frame_max)
        })?;
        if let Some(confirms) = &mut channel.confirms {
            let end = if channel.paused.is_some() { PAUSED } else { self.taken + self.outbox.len() as u64 };
            confirms.published(end, then.take());
        }
        self.frames += content.frames(frame_max);
        Ok(())
    }

    /// connection.close is next: whatever waits goes out before it, and nothing more can be asked of the channels.
    pub(crate) fn desert(&mut self, reason: &Error) {
        for channel in self.channels.values_mut().filter(|channel| channel.phase == ChannelPhase::Open) {
            self.paused -= channel.release_to(&mut self.outbox, self.taken);
            channel.phase = ChannelPhase::Deserted;
            channel.identity.close(reason.clone());
        }
    }

    /// Whether somebody waits for what only reading can bring.
    pub(crate) fn is_awaited(&self) -> bool {
        self.phase != Phase::Open
            || self.fifo.iter().any(|pending| pending.then.is_somebody())
            || self.channels.values().any(ChannelState::is_awaited)
    }

    /// Octets that wait to be written.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.outbox.len() + self.in_flight + self.paused
    }

    /// The loop is to be told although it may wait for a socket that takes nothing.
    pub(crate) fn hurry(&mut self) {
        self.queued = false;
    }

    /// The loop is about to look: whoever comes later has to tell it again.
    pub(crate) fn looked_at(&mut self) {
        self.queued = false;
    }
}

/// The channel's state, if it can be used: for whoever needs the rest of the connection's beside it.
#[inline]
fn usable<'a, S>(
    channels: &'a mut BTreeMap<u16, ChannelState<S>>,
    identity: &Identity,
) -> Result<&'a mut ChannelState<S>> {
    match channels.get_mut(&identity.number) {
        Some(channel) if channel.identity.serial == identity.serial => match &channel.phase {
            ChannelPhase::Open => Ok(channel),
            ChannelPhase::Closing | ChannelPhase::Deserted => Err(identity.reason()),
        },
        _ => Err(identity.reason()),
    }
}

impl Phase {
    /// Why nothing can be asked of a connection in this phase.
    pub(crate) fn refusal(&self) -> Error {
        match self {
            Self::Opening | Self::Open => Error::NotOpen,
            Self::Closing { code, text } => Error::ConnectionClosedByClient { code: *code, text: text.clone() },
            Self::Closed(error) => error.clone(),
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

/// The lock, held.
pub(crate) struct Locked<'a, S: 'static>(MutexGuard<'a, State<S>>);

impl<S> std::ops::Deref for Locked<'_, S> {
    type Target = State<S>;
    fn deref(&self) -> &State<S> {
        &self.0
    }
}

impl<S> std::ops::DerefMut for Locked<'_, S> {
    fn deref_mut(&mut self) -> &mut State<S> {
        &mut self.0
    }
}

#[cfg(debug_assertions)]
mod held {
    use std::cell::Cell;
    thread_local!(pub(super) static HELD: Cell<u32> = const { Cell::new(0) });
}
#[cfg(debug_assertions)]
use held::HELD;

#[cfg(debug_assertions)]
impl<S> Drop for Locked<'_, S> {
    fn drop(&mut self) {
        HELD.with(|held| held.set(held.get() - 1));
    }
}

/// The program may only be called where no connection's lock is held.
#[cfg(debug_assertions)]
pub(crate) fn assert_unlocked() {
    HELD.with(|held| assert_eq!(held.get(), 0, "the program is called under a connection's lock"));
}
