//! The inbox keeps messages and events, in order, until a thread calls their callbacks, and bounds how many octets wait.

use super::weight;
use amqp_core::{Channel, ConnectionHandle, Error, Hold, Message, Result, ShortString, TimeoutId};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

/// Messages and calls that wait. What the broker sends is bounded, in octets, by three marks.
///
/// With more than [`LIMIT`] of messages the connection is not read, unless a thread waits for an answer, which comes after the
/// messages, or for room to send, which there may be only when the broker can send, too. Events stop nothing: a program may wait
/// for something else than them. With more than [`OVERWHELMED`] of both, threads that wait, and those that publish, get
/// [`Error::InboundFull`]. With more than [`DROWNED`], where that did not help, the connection ends.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// What everything weighs.
    octets: usize,
    /// What the messages weigh.
    messages: usize,
    hold: Option<Hold>,
    /// Threads that wait for room to send: reading goes on.
    pressing: usize,
    /// Who calls callbacks at the moment: one thread at a time.
    dispatcher: Option<ThreadId>,
}

/// Something for a callback.
pub(crate) enum Entry {
    Message(Box<Arrived>),
    Call {
        /// The timer's, where it is one: until it is called it can be taken back.
        timeout: Option<TimeoutId>,
        /// What it weighs; nothing where it is the program's own.
        octets: usize,
        call: Call,
    },
}

/// A message for a consumer with a callback.
pub(crate) struct Arrived {
    pub(crate) channel: Channel,
    pub(crate) consumer: Arc<CallbackConsumer>,
    pub(crate) message: Message,
    octets: usize,
}

/// What a callback does.
pub(crate) type Call = Box<dyn FnOnce() -> Result<()> + Send>;

/// A consumer with a callback.
pub(crate) struct CallbackConsumer {
    /// Known from its first message, or from the broker's answer.
    pub(crate) tag: OnceLock<ShortString>,
    pub(crate) no_ack: bool,
    /// Elsewhere while it is called.
    pub(crate) on_message: Mutex<Option<OnMessage>>,
}

/// A consumer's callback; the channel is given as its own kind of handle.
pub(crate) type OnMessage = Box<dyn FnMut(Channel, Message) -> Result<()> + Send>;

/// Octets of messages over which nothing is read that is not waited for.
const LIMIT: usize = 4 << 20;

/// Octets over which waiting for an answer, and publishing, is an error.
const OVERWHELMED: usize = 24 << 20;

/// Octets over which the connection ends.
const DROWNED: usize = 40 << 20;

/// What an entry takes beside what it carries: its place, and a call's closure.
const ENTRY: usize = 2 * size_of::<Entry>() + 128;

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message has come.
    pub(crate) fn message(&self, connection: &ConnectionHandle, arrived: Arrived) {
        self.arrived(connection, Entry::Message(Box::new(arrived)));
    }

    /// The broker has said something that weighs so much beside the call that it makes.
    pub(crate) fn event(&self, connection: &ConnectionHandle, octets: usize, call: Call) {
        self.arrived(connection, Entry::Call { timeout: None, octets: ENTRY + octets, call });
    }

    /// The program wants something called.
    pub(crate) fn call(&self, timeout: Option<TimeoutId>, call: Call) {
        self.lock().entries.push_back(Entry::Call { timeout, octets: 0, call });
    }

    fn arrived(&self, connection: &ConnectionHandle, entry: Entry) {
        let mut state = self.lock();
        // One message of any size may come: it is what was there already that is too much.
        let before = state.octets;
        let (octets, message) = entry.octets();
        state.octets += octets;
        state.messages += message;
        state.entries.push_back(entry);
        state.press(connection);
        drop(state);
        if before > DROWNED {
            connection.drowned(Error::InboundFull { held: before, limit: DROWNED });
        } else if before > OVERWHELMED {
            connection.overwhelmed(full(before));
        }
    }

    /// Whether so much waits for callbacks that this thread does better than wait for something else.
    pub(crate) fn overwhelmed(&self) -> Result<()> {
        let held = self.lock().octets;
        if held > OVERWHELMED { Err(full(held)) } else { Ok(()) }
    }

    /// Reading goes on, whatever waits here, until what this gives is dropped.
    pub(crate) fn pressing<'a>(&'a self, connection: &'a ConnectionHandle) -> Pressing<'a> {
        let mut state = self.lock();
        state.pressing += 1;
        let hold = state.hold.take();
        drop(state);
        drop(hold);
        Pressing { inbox: self, connection }
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
                    state.octets -= arrived.octets;
                    state.messages -= arrived.octets;
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
        let (octets, message) = entry.as_ref().map_or((0, 0), Entry::octets);
        state.octets -= octets;
        state.messages -= message;
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
    fn press(&mut self, connection: &ConnectionHandle) {
        if self.messages > LIMIT && self.hold.is_none() && self.pressing == 0 {
            self.hold = Some(connection.hold());
        }
    }

    /// The hold, if there is room again; to be given back where no lock is held.
    fn room(&mut self) -> Option<Hold> {
        if self.messages <= LIMIT / 2 { self.hold.take() } else { None }
    }
}

impl Entry {
    /// What it weighs, and what of that is a message.
    fn octets(&self) -> (usize, usize) {
        match self {
            Self::Message(arrived) => (arrived.octets, arrived.octets),
            Self::Call { octets, .. } => (*octets, 0),
        }
    }
}

impl Arrived {
    pub(crate) fn new(channel: Channel, consumer: Arc<CallbackConsumer>, message: Message) -> Self {
        let octets = ENTRY + size_of::<Self>() - size_of::<Message>() + weight::message(&message);
        Self { channel, consumer, message, octets }
    }
}

fn full(held: usize) -> Error {
    Error::InboundFull { held, limit: OVERWHELMED }
}

/// Reading that goes on.
pub(crate) struct Pressing<'a> {
    inbox: &'a Inbox,
    connection: &'a ConnectionHandle,
}

impl Drop for Pressing<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        state.pressing -= 1;
        state.press(self.connection);
    }
}

impl CallbackConsumer {
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
