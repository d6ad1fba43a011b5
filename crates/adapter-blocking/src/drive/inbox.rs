//! What has arrived for callbacks, in order, until a thread comes that may call them.

use amqp_core::{Channel, ConnectionHandle, Hold, Message, Result, ShortString, TimeoutId};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

/// Messages and calls that wait. It is bounded: over [`LIMIT`] the connection is not read, unless somebody waits for an
/// answer.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    octets: usize,
    hold: Option<Hold>,
    /// Who calls callbacks at the moment: one thread at a time.
    dispatcher: Option<ThreadId>,
}

/// Something for a callback.
pub(crate) enum Entry {
    Message(Box<Arrived>),
    Call {
        /// The timer's, where it is one: until it is called it can be taken back.
        timeout: Option<TimeoutId>,
        call: Call,
    },
}

/// A message for a consumer with a callback.
pub(crate) struct Arrived {
    pub(crate) channel: Channel,
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) message: Message,
}

/// What a callback does.
pub(crate) type Call = Box<dyn FnOnce() -> Result<()> + Send>;

/// A consumer with a callback.
pub(crate) struct Consumer {
    /// Known from its first message, or from the broker's answer.
    pub(crate) tag: OnceLock<ShortString>,
    pub(crate) no_ack: bool,
    /// Elsewhere while it is called.
    pub(crate) on_message: Mutex<Option<OnMessage>>,
}

/// A consumer's callback; the channel is given as its own kind of handle.
pub(crate) type OnMessage = Box<dyn FnMut(Channel, Message) -> Result<()> + Send>;

/// Octets that may wait.
const LIMIT: usize = 4 << 20;

/// What an entry costs beside its body.
const ENTRY: usize = 256;

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn message(&self, connection: &ConnectionHandle, arrived: Arrived) {
        let mut state = self.lock();
        state.octets += ENTRY + arrived.message.body.len();
        state.entries.push_back(Entry::Message(Box::new(arrived)));
        if state.octets > LIMIT && state.hold.is_none() {
            state.hold = Some(connection.hold());
        }
    }

    pub(crate) fn call(&self, timeout: Option<TimeoutId>, call: Call) {
        self.lock().entries.push_back(Entry::Call { timeout, call });
    }

    /// Takes back a timer that is due and has not been called.
    pub(crate) fn remove_timeout(&self, id: TimeoutId) -> bool {
        let mut state = self.lock();
        let at =
            state.entries.iter().position(|entry| matches!(entry, Entry::Call { timeout: Some(at), .. } if *at == id));
        let entry = at.and_then(|at| state.entries.remove(at));
        drop(state);
        entry.is_some()
    }

    /// Takes out what waits for a consumer that is cancelled.
    pub(crate) fn cancel(&self, channel: u16, tag: &ShortString) -> Vec<Arrived> {
        let mut state = self.lock();
        let mut cancelled = vec![];
        for entry in mem::take(&mut state.entries) {
            match entry {
                Entry::Message(arrived)
                    if arrived.channel.channel_number() == channel && arrived.consumer.is_tagged(tag) =>
                {
                    state.octets -= ENTRY + arrived.message.body.len();
                    cancelled.push(*arrived);
                }
                entry => state.entries.push_back(entry),
            }
        }
        let hold = state.room();
        drop(state);
        drop(hold);
        cancelled
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next entry, in the order of their coming.
    pub(crate) fn pop(&self) -> Option<Entry> {
        let mut state = self.lock();
        let entry = state.entries.pop_front();
        if let Some(Entry::Message(arrived)) = &entry {
            state.octets -= ENTRY + arrived.message.body.len();
        }
        let hold = state.room();
        drop(state);
        drop(hold);
        entry
    }

    /// The right to call callbacks; `None` while a thread has it, this one perhaps.
    pub(crate) fn dispatcher(&self) -> Option<Dispatcher<'_>> {
        let mut state = self.lock();
        if state.dispatcher.is_some() {
            return None;
        }
        state.dispatcher = Some(thread::current().id());
        Some(Dispatcher(self))
    }

    /// Whether another thread can be waited for, or this one can go on by itself: not from within a callback.
    pub(crate) fn is_dispatched_here(&self) -> bool {
        self.lock().dispatcher == Some(thread::current().id())
    }

    /// Whether there is something that this thread may call.
    pub(crate) fn has_work(&self) -> bool {
        let state = self.lock();
        !state.entries.is_empty() && state.dispatcher.is_none()
    }

    /// Everything is dropped; the connection is over.
    pub(crate) fn clear(&self) {
        let state = mem::take(&mut *self.lock());
        drop(state);
    }
}

impl State {
    /// The hold, if there is room again; to be given back where no lock is held.
    fn room(&mut self) -> Option<Hold> {
        if self.octets <= LIMIT / 2 { self.hold.take() } else { None }
    }
}

impl Consumer {
    fn is_tagged(&self, tag: &ShortString) -> bool {
        self.tag.get() == Some(tag)
    }
}

/// The right to call callbacks, given back when it is dropped.
pub(crate) struct Dispatcher<'a>(&'a Inbox);

impl Drop for Dispatcher<'_> {
    fn drop(&mut self) {
        self.0.lock().dispatcher = None;
    }
}
