//! Who is called when something happens: pika's `CallbackManager`.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use crate::{
    sync::{Mutex, MutexGuard},
    wire::{
        spec::MethodId,
        table::{Table, Value},
    },
};

/// The callbacks of one connection, by prefix and [`Key`].
///
/// A prefix is a channel's number, and 0 is the connection itself. `F` is the type that a callback has here, for
/// example `dyn Fn(&Event) + Send + Sync`: [`process`](Self::process) says how to call it.
///
/// Everything takes `&self`, from any thread and from within a callback. No callback is called or dropped, and no
/// [`Facts`] are asked, while the lock inside is held.
///
/// ```
/// # use std::sync::Arc;
/// # use amqp_core::callback::{CallbackManager, Key, Terms};
/// let manager = CallbackManager::<dyn Fn(&str) + Send + Sync>::new();
/// manager.add(1, Key::Cancel, Arc::new(|tag| println!("{tag} was cancelled")), Terms::persistent());
/// assert!(manager.process(1, Key::Cancel, None, &(), |callback| callback("ctag1")));
/// assert_eq!(manager.pending(1, Key::Cancel), Some(1));
/// ```
pub struct CallbackManager<F: ?Sized> {
    stack: Mutex<Stack<F>>,
    /// How many prefixes have an entry under a key of that [`bucket`](Key::bucket). Changed under the lock only.
    interest: [AtomicU32; Key::BUCKETS],
}

/// What a callback waits for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The connection or the channel is open.
    Open,
    /// The connection could not be opened.
    OpenError,
    /// The connection or the channel was closed, by whomever.
    Close,
    /// The broker stopped accepting publishes.
    Blocked,
    /// The broker accepts publishes again.
    Unblocked,
    /// The outbound buffer is longer than it should be, or short again.
    Backpressure,
    /// A message was returned.
    Return,
    /// The broker paused or resumed the channel.
    Flow,
    /// The broker cancelled a consumer.
    Cancel,
    /// The broker confirmed publishes, or refused to.
    Confirm,
    /// That method arrived.
    Method(MethodId),
}

/// When a callback is called, beyond its prefix and key.
///
/// The default is pika's: once, whatever the caller, whatever happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    one_shot: bool,
    only_caller: Option<Caller>,
    arguments: Option<Table>,
}

/// An identity that a callback can be reserved for; unlike an object's address it is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller(u64);

/// Names an entry, to [`remove`](CallbackManager::remove) it. Unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId {
    prefix: u16,
    key: Key,
    number: u64,
}

/// What happened, by name: a method's arguments, for example.
pub trait Facts {
    /// The value of that name; `None` where there is none, which no filter matches.
    fn fact(&self, name: &str) -> Option<Value>;
}

impl<F: ?Sized> CallbackManager<F> {
    /// No callbacks.
    pub fn new() -> Self {
        Self { stack: Mutex::default(), interest: [const { AtomicU32::new(0) }; Key::BUCKETS] }
    }

    /// Adds a callback after those that are there.
    ///
    /// The same callback (the same [`Arc`], not an equal one) on the same terms is not added twice: a one-shot entry
    /// then survives one call more, a persistent one stays as it is. The id is that of the entry that was there.
    pub fn add(&self, prefix: u16, key: Key, callback: Arc<F>, terms: Terms) -> CallbackId {
        let entry = Arc::new(Entry { id: CallbackId { prefix, key, number: next_number() }, callback, terms });
        let mut stack = self.lock();
        let slots = stack.entry(prefix).or_default().entry(key).or_default();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.entry.is_same(&entry)) {
            slot.calls = slot.calls.saturating_add(u32::from(entry.terms.one_shot));
            return slot.entry.id;
        }
        if slots.is_empty() {
            self.interest_in(key).fetch_add(1, Ordering::Release);
        }
        let id = entry.id;
        slots.push(Slot { entry, calls: 1 });
        id
    }

    /// Calls what waits for `key`, in the order of adding, and says whether anything waited, even if no terms matched.
    ///
    /// Who is called is settled before the first one is: one-shots are used up, what a callback adds is called next
    /// time at the earliest, and what it removes is still called. If `call` panics the rest are not called; to keep
    /// hold of them, [`take`](Self::take) them.
    pub fn process(
        &self,
        prefix: u16,
        key: Key,
        caller: Option<Caller>,
        facts: &dyn Facts,
        mut call: impl FnMut(&F),
    ) -> bool {
        let taken = self.take(prefix, key, caller, facts);
        let waited = taken.is_some();
        for callback in taken.into_iter().flatten() {
            call(&callback);
        }
        waited
    }

    /// Returns what [`process`](Self::process) would call now, used up as if it had; `None` where nothing waits.
    pub fn take(&self, prefix: u16, key: Key, caller: Option<Caller>, facts: &dyn Facts) -> Option<Vec<Arc<F>>> {
        if !self.may_have(key) {
            return None;
        }
        let mut chosen = self.snapshot(prefix, key)?;
        chosen.retain(|entry| entry.terms.match_caller(caller) && entry.terms.match_facts(facts));
        if chosen.iter().any(|entry| entry.terms.one_shot) {
            self.use_up(prefix, key, &mut chosen);
        }
        Some(chosen.iter().map(|entry| Arc::clone(&entry.callback)).collect())
    }

    /// Removes one entry, with all the calls that it has left; `false` where it is gone already.
    pub fn remove(&self, id: CallbackId) -> bool {
        self.remove_where(id.prefix, id.key, |entry| entry.id == id)
    }

    /// Removes all entries of a callback under that key, whatever their terms; `false` where there are none.
    pub fn remove_callback(&self, prefix: u16, key: Key, callback: &Arc<F>) -> bool {
        self.remove_where(prefix, key, |entry| is_same(&entry.callback, callback))
    }

    /// Removes all entries under that key; `false` where there are none.
    pub fn remove_all(&self, prefix: u16, key: Key) -> bool {
        self.remove_where(prefix, key, |_| true)
    }

    /// Returns how many entries wait under that key; `None` where there are none.
    pub fn pending(&self, prefix: u16, key: Key) -> Option<usize> {
        self.lock().get(&prefix)?.get(&key).map(Vec::len)
    }

    /// Removes all entries of a prefix; `false` where there are none.
    pub fn cleanup(&self, prefix: u16) -> bool {
        let mut stack = self.lock();
        let gone = stack.remove(&prefix);
        for &key in gone.iter().flat_map(HashMap::keys) {
            self.interest_in(key).fetch_sub(1, Ordering::Release);
        }
        drop(stack);
        gone.is_some()
    }

    /// Removes everything.
    pub fn clear(&self) {
        let mut stack = self.lock();
        let gone = std::mem::take(&mut *stack);
        for interest in &self.interest {
            interest.store(0, Ordering::Release);
        }
        drop(stack);
        drop(gone);
    }

    /// Returns whether anything may wait for `key`, under any prefix: one load and no lock, for paths that are taken often.
    ///
    /// `false` is certain. `true` may mean another [`Key::Method`].
    #[inline]
    pub fn may_have(&self, key: Key) -> bool {
        self.interest_in(key).load(Ordering::Acquire) != 0
    }

    /// Returns whether nothing waits at all. Takes no lock.
    pub fn is_empty(&self) -> bool {
        self.interest.iter().all(|interest| interest.load(Ordering::Acquire) == 0)
    }

    fn snapshot(&self, prefix: u16, key: Key) -> Option<Vec<Arc<Entry<F>>>> {
        let stack = self.lock();
        let slots = stack.get(&prefix)?.get(&key)?;
        Some(slots.iter().map(|slot| Arc::clone(&slot.entry)).collect())
    }

    /// Takes a call from each one-shot that was chosen; one that another thread has used up meanwhile is not chosen.
    fn use_up(&self, prefix: u16, key: Key, chosen: &mut Vec<Arc<Entry<F>>>) {
        let mut spent = Vec::new();
        let mut stack = self.lock();
        let mut slots = slots(&mut stack, prefix, key);
        let entries = std::mem::take(chosen);
        for entry in &entries {
            let slot = slots.as_deref_mut().and_then(|slots| slots.iter_mut().find(|slot| slot.entry.id == entry.id));
            match slot {
                _ if !entry.terms.one_shot => {}
                Some(slot) => slot.calls = slot.calls.saturating_sub(1),
                None => continue,
            }
            chosen.push(Arc::clone(entry));
        }
        if let Some(slots) = slots {
            spent.extend(take_where(slots, |slot| slot.calls == 0));
        }
        self.forget_if_empty(&mut stack, prefix, key);
        drop(stack);
        drop((spent, entries));
    }

    fn remove_where(&self, prefix: u16, key: Key, mut unwanted: impl FnMut(&Entry<F>) -> bool) -> bool {
        let mut stack = self.lock();
        let gone = slots(&mut stack, prefix, key).map(|slots| take_where(slots, |slot| unwanted(&slot.entry)));
        self.forget_if_empty(&mut stack, prefix, key);
        drop(stack);
        gone.is_some_and(|gone| !gone.is_empty())
    }

    fn forget_if_empty(&self, stack: &mut Stack<F>, prefix: u16, key: Key) {
        let Some(keys) = stack.get_mut(&prefix) else { return };
        if keys.get(&key).is_some_and(Vec::is_empty) {
            keys.remove(&key);
            self.interest_in(key).fetch_sub(1, Ordering::Release);
        }
        if keys.is_empty() {
            stack.remove(&prefix);
        }
    }

    fn interest_in(&self, key: Key) -> &AtomicU32 {
        // `bucket` is less than `BUCKETS`, whatever the key.
        &self.interest[key.bucket()]
    }

    /// A thread that panicked under the lock cannot have been in a callback, and left whole entries behind.
    fn lock(&self) -> MutexGuard<'_, Stack<F>> {
        self.stack.lock()
    }
}

impl<F: ?Sized> Default for CallbackManager<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: ?Sized> fmt::Debug for CallbackManager<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = |(&prefix, keys): (&u16, &HashMap<Key, Vec<Slot<F>>>)| {
            keys.iter().map(|(&key, slots)| ((prefix, key), slots.len())).collect::<Vec<_>>()
        };
        let entries: Vec<_> = self.lock().iter().flat_map(lengths).collect();
        f.debug_map().entries(entries).finish()
    }
}

impl Terms {
    /// To be called once, and then forgotten.
    pub fn one_shot() -> Self {
        Self { one_shot: true, only_caller: None, arguments: None }
    }

    /// To be called until it is removed.
    pub fn persistent() -> Self {
        Self { one_shot: false, ..Self::one_shot() }
    }

    /// Only when it is this caller who processes the key.
    #[must_use]
    pub fn only_caller(mut self, caller: Caller) -> Self {
        self.only_caller = Some(caller);
        self
    }

    /// Only when each of these equals the fact of its name; integers are compared by value, whatever their widths.
    #[must_use]
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.arguments = Some(arguments);
        self
    }

    fn match_caller(&self, caller: Option<Caller>) -> bool {
        self.only_caller.is_none() || self.only_caller == caller
    }

    fn match_facts(&self, facts: &dyn Facts) -> bool {
        self.arguments.iter().flat_map(Table::iter).all(|(name, wanted)| {
            let fact = name.as_str().and_then(|name| facts.fact(name));
            fact.is_some_and(|fact| fact == *wanted || (fact.as_i64().is_some() && fact.as_i64() == wanted.as_i64()))
        })
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::one_shot()
    }
}

impl Caller {
    /// Somebody new.
    #[expect(clippy::new_without_default, reason = "no two of them are equal, so there is no default one")]
    pub fn new() -> Self {
        Self(next_number())
    }
}

impl CallbackId {
    /// Returns the channel's number, or 0 for the connection.
    pub fn prefix(self) -> u16 {
        self.prefix
    }

    /// Returns what the callback waits for.
    pub fn key(self) -> Key {
        self.key
    }
}

impl Key {
    /// Ten for the events, and the rest for methods to share.
    const BUCKETS: usize = 32;

    /// Where [`may_have`](CallbackManager::may_have) counts this key.
    fn bucket(self) -> usize {
        match self {
            Self::Open => 0,
            Self::OpenError => 1,
            Self::Close => 2,
            Self::Blocked => 3,
            Self::Unblocked => 4,
            Self::Backpressure => 5,
            Self::Return => 6,
            Self::Flow => 7,
            Self::Cancel => 8,
            Self::Confirm => 9,
            Self::Method(MethodId { class, method }) => {
                10 + (usize::from(class) * 7 + usize::from(method)) % (Self::BUCKETS - 10)
            }
        }
    }
}

impl From<MethodId> for Key {
    fn from(method: MethodId) -> Self {
        Self::Method(method)
    }
}

/// Nothing is known.
impl Facts for () {
    fn fact(&self, _name: &str) -> Option<Value> {
        None
    }
}

/// The fields of the table.
impl Facts for Table {
    fn fact(&self, name: &str) -> Option<Value> {
        self.get(name).cloned()
    }
}

/// Never holds an empty list or an empty map.
type Stack<F> = HashMap<u16, HashMap<Key, Vec<Slot<F>>>>;

/// An entry in its list, with what changes about it.
struct Slot<F: ?Sized> {
    entry: Arc<Entry<F>>,
    /// How often a one-shot may still be called.
    calls: u32,
}

struct Entry<F: ?Sized> {
    id: CallbackId,
    terms: Terms,
    callback: Arc<F>,
}

impl<F: ?Sized> Entry<F> {
    fn is_same(&self, other: &Self) -> bool {
        is_same(&self.callback, &other.callback) && self.terms == other.terms
    }
}

/// By address alone, because one closure may have several vtables.
fn is_same<F: ?Sized>(a: &Arc<F>, b: &Arc<F>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

fn slots<F: ?Sized>(stack: &mut Stack<F>, prefix: u16, key: Key) -> Option<&mut Vec<Slot<F>>> {
    stack.get_mut(&prefix)?.get_mut(&key)
}

fn take_where<F: ?Sized>(slots: &mut Vec<Slot<F>>, unwanted: impl FnMut(&Slot<F>) -> bool) -> Vec<Slot<F>> {
    let (gone, kept) = std::mem::take(slots).into_iter().partition(unwanted);
    *slots = kept;
    gone
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::{OnceLock, Weak},
    };

    use super::*;

    type Callback = dyn Fn(&Log) + Send + Sync;
    type Log = RefCell<Vec<&'static str>>;

    const DECLARE_OK: Key = Key::Method(MethodId { class: 50, method: 11 });

    /// A callback that only says its name.
    fn says(name: &'static str) -> Arc<Callback> {
        Arc::new(move |log| log.borrow_mut().push(name))
    }

    fn manager() -> Arc<CallbackManager<Callback>> {
        Arc::default()
    }

    /// Whether the key had an entry, and who was called.
    fn process(manager: &CallbackManager<Callback>, prefix: u16, key: Key) -> (bool, Vec<&'static str>) {
        process_as(manager, prefix, key, None, &())
    }

    fn process_as(
        manager: &CallbackManager<Callback>,
        prefix: u16,
        key: Key,
        caller: Option<Caller>,
        facts: &dyn Facts,
    ) -> (bool, Vec<&'static str>) {
        let log = Log::default();
        let waited = manager.process(prefix, key, caller, facts, |callback| callback(&log));
        (waited, log.into_inner())
    }

    /// K1: in pika 0.9a two connections that shared a channel number cross-fired.
    #[test]
    fn two_connections_do_not_share_callbacks() {
        let (one, other) = (manager(), manager());
        let id = one.add(1, Key::Close, says("one"), Terms::one_shot());
        other.add(1, Key::Close, says("other"), Terms::one_shot());
        assert!(!other.remove(id), "an id names nothing elsewhere");
        assert_eq!(process(&other, 1, Key::Close), (true, vec!["other"]));
        assert_eq!(process(&one, 1, Key::Close), (true, vec!["one"]));
    }

    /// K2: a list for each prefix and key.
    #[test]
    fn a_callback_belongs_to_its_prefix_and_its_key() {
        let manager = manager();
        let id = manager.add(1, DECLARE_OK, says("a"), Terms::persistent());
        assert_eq!((id.prefix(), id.key()), (1, DECLARE_OK));
        assert_eq!(Key::from(MethodId { class: 50, method: 11 }), DECLARE_OK);
        assert_eq!(process(&manager, 2, DECLARE_OK), (false, vec![]));
        assert_eq!(process(&manager, 1, Key::Close), (false, vec![]));
        assert_eq!(process(&manager, 1, DECLARE_OK), (true, vec!["a"]));
    }

    /// K2: `one_shot=True`.
    #[test]
    fn a_callback_is_called_once_unless_it_is_persistent() {
        let manager = manager();
        manager.add(1, Key::Flow, says("once"), Terms::default());
        manager.add(1, Key::Flow, says("always"), Terms::persistent());
        assert_eq!(process(&manager, 1, Key::Flow), (true, vec!["once", "always"]));
        assert_eq!(process(&manager, 1, Key::Flow), (true, vec!["always"]));
    }

    /// K3: its `calls` counter.
    #[test]
    fn a_one_shot_that_is_added_twice_survives_two_calls() {
        let manager = manager();
        let callback = says("twice");
        let first = manager.add(1, Key::Open, callback.clone(), Terms::one_shot());
        let second = manager.add(1, Key::Open, callback, Terms::one_shot());
        assert_eq!((first, manager.pending(1, Key::Open)), (second, Some(1)));
        for _ in 0..2 {
            assert_eq!(process(&manager, 1, Key::Open), (true, vec!["twice"]));
        }
        assert_eq!(process(&manager, 1, Key::Open), (false, vec![]));
    }

    /// K3.
    #[test]
    fn a_persistent_callback_is_not_added_twice() {
        let manager = manager();
        let callback = says("a");
        let first = manager.add(1, Key::Return, callback.clone(), Terms::persistent());
        assert_eq!(manager.add(1, Key::Return, callback, Terms::persistent()), first);
        assert_eq!(process(&manager, 1, Key::Return), (true, vec!["a"]));
        assert!(manager.remove(first));
        assert_eq!(manager.pending(1, Key::Return), None);
    }

    /// K3: callback, arguments, caller and one-shot, all four.
    #[test]
    fn other_terms_or_another_arc_make_another_entry() {
        let manager = manager();
        let callback = says("a");
        let terms = [
            Terms::one_shot(),
            Terms::persistent(),
            Terms::one_shot().only_caller(Caller::new()),
            Terms::one_shot().arguments(Table::new().with("queue", "q")),
        ];
        for terms in terms {
            manager.add(1, Key::Open, callback.clone(), terms);
        }
        manager.add(1, Key::Open, says("a"), Terms::one_shot());
        assert_eq!(manager.pending(1, Key::Open), Some(5));
    }

    /// K4: in the order of registration.
    #[test]
    fn callbacks_are_called_in_the_order_of_adding() {
        let manager = manager();
        for name in ["c", "a", "b"] {
            manager.add(1, Key::Close, says(name), Terms::one_shot());
        }
        assert_eq!(process(&manager, 1, Key::Close), (true, vec!["c", "a", "b"]));
    }

    /// K4: one-shots are removed before any callback runs.
    #[test]
    fn a_one_shot_is_gone_before_the_first_callback_runs() {
        let manager = manager();
        let within = Arc::downgrade(&manager);
        let look: Arc<Callback> = Arc::new(move |log| {
            let manager = within.upgrade().unwrap();
            assert_eq!(manager.pending(1, Key::Close), None);
            log.borrow_mut().push("looked");
        });
        manager.add(1, Key::Close, look, Terms::one_shot());
        manager.add(1, Key::Close, says("later"), Terms::one_shot());
        assert_eq!(process(&manager, 1, Key::Close), (true, vec!["looked", "later"]));
    }

    /// K4: what a callback adds is seen only next time.
    #[test]
    fn what_a_callback_adds_is_called_next_time() {
        let manager = manager();
        let within = Arc::downgrade(&manager);
        let adder: Arc<Callback> = Arc::new(move |log| {
            log.borrow_mut().push("adder");
            within.upgrade().unwrap().add(1, Key::Close, says("added"), Terms::one_shot());
        });
        manager.add(1, Key::Close, adder, Terms::one_shot());
        assert_eq!(process(&manager, 1, Key::Close), (true, vec!["adder"]));
        assert_eq!(process(&manager, 1, Key::Close), (true, vec!["added"]));
    }

    /// K4: a callback may re-add itself, which is no duplicate, because it is gone already.
    #[test]
    fn a_callback_may_add_itself_again() {
        let manager = manager();
        let itself: Arc<OnceLock<Weak<Callback>>> = Arc::default();
        let (within, me) = (Arc::downgrade(&manager), itself.clone());
        let again: Arc<Callback> = Arc::new(move |log| {
            log.borrow_mut().push("again");
            let callback = me.get().and_then(Weak::upgrade).unwrap();
            within.upgrade().unwrap().add(1, Key::Flow, callback, Terms::one_shot());
        });
        itself.set(Arc::downgrade(&again)).unwrap();
        manager.add(1, Key::Flow, again, Terms::one_shot());
        for _ in 0..3 {
            assert_eq!(process(&manager, 1, Key::Flow), (true, vec!["again"]));
            assert_eq!(manager.pending(1, Key::Flow), Some(1));
        }
    }

    /// K4: already-snapshotted ones still run.
    #[test]
    fn what_a_callback_removes_is_still_called_this_time() {
        let manager = manager();
        let within = Arc::downgrade(&manager);
        let remover: Arc<Callback> = Arc::new(move |log| {
            log.borrow_mut().push("remover");
            assert!(within.upgrade().unwrap().remove_all(1, Key::Flow));
        });
        manager.add(1, Key::Flow, remover, Terms::one_shot());
        manager.add(1, Key::Flow, says("removed"), Terms::persistent());
        assert_eq!(process(&manager, 1, Key::Flow), (true, vec!["remover", "removed"]));
        assert_eq!(process(&manager, 1, Key::Flow), (false, vec![]));
    }

    /// K4: true if the key had an entry even if no callback matched.
    #[test]
    fn processing_says_whether_anything_waited_even_if_nobody_was_called() {
        let manager = manager();
        manager.add(1, Key::Flow, says("a"), Terms::one_shot().only_caller(Caller::new()));
        assert_eq!(process(&manager, 1, Key::Flow), (true, vec![]));
        assert_eq!(process(&manager, 1, Key::Open), (false, vec![]));
        assert_eq!(manager.pending(1, Key::Flow), Some(1), "it was not used up either");
    }

    /// K5, K10: a stale object's callbacks don't fire.
    #[test]
    fn a_callback_may_be_reserved_for_one_caller() {
        let manager = manager();
        let (me, you) = (Caller::new(), Caller::new());
        manager.add(1, Key::Flow, says("mine"), Terms::persistent().only_caller(me));
        manager.add(1, Key::Flow, says("anybody's"), Terms::persistent());
        assert_eq!(process_as(&manager, 1, Key::Flow, Some(me), &()), (true, vec!["mine", "anybody's"]));
        assert_eq!(process_as(&manager, 1, Key::Flow, Some(you), &()), (true, vec!["anybody's"]));
        assert_eq!(process_as(&manager, 1, Key::Flow, None, &()), (true, vec!["anybody's"]));
    }

    /// K6: each must be equal; missing = no match.
    #[test]
    fn arguments_must_all_equal_the_facts() {
        let manager = manager();
        let wanted = Table::new().with("consumer_tag", "ctag1").with("message_count", 3);
        manager.add(1, Key::Cancel, says("a"), Terms::persistent().arguments(wanted));
        let called = |facts: &dyn Facts| process_as(&manager, 1, Key::Cancel, None, facts).1.len();
        let same = Table::new().with("message_count", 3_u32).with("consumer_tag", "ctag1").with("more", true);
        assert_eq!(called(&same), 1, "of the same value, though not of the same width");
        assert_eq!(called(&same.clone().with("message_count", 4_u32)), 0, "one differs");
        assert_eq!(called(&Table::new().with("consumer_tag", "ctag1")), 0, "one is missing");
        assert_eq!(called(&()), 0, "all are missing");
    }

    /// K6: an empty dict filters nothing.
    #[test]
    fn no_arguments_match_everything() {
        let manager = manager();
        manager.add(1, Key::Cancel, says("a"), Terms::one_shot().arguments(Table::new()));
        assert_eq!(process(&manager, 1, Key::Cancel), (true, vec!["a"]));
    }

    /// K7, K10: explicit ops for one, for all of a callback and for all; `false` if there are none.
    #[test]
    fn callbacks_are_removed_by_id_by_identity_or_altogether() {
        let manager = manager();
        let callback = says("twice");
        let first = manager.add(1, Key::Flow, says("first"), Terms::persistent());
        manager.add(1, Key::Flow, callback.clone(), Terms::persistent());
        manager.add(1, Key::Flow, callback.clone(), Terms::persistent().only_caller(Caller::new()));
        manager.add(1, Key::Flow, says("last"), Terms::persistent());

        assert!(manager.remove(first) && !manager.remove(first));
        assert!(manager.remove_callback(1, Key::Flow, &callback), "whatever the terms");
        assert_eq!(manager.pending(1, Key::Flow), Some(1));
        assert!(!manager.remove_callback(1, Key::Flow, &callback));
        assert!(!manager.remove_callback(2, Key::Flow, &callback));
        assert_eq!(process(&manager, 1, Key::Flow), (true, vec!["last"]));
        assert!(manager.remove_all(1, Key::Flow) && !manager.remove_all(1, Key::Flow));
        assert!(manager.is_empty());
    }

    /// K8.
    #[test]
    fn pending_is_a_number_or_none() {
        let manager = manager();
        assert_eq!(manager.pending(1, Key::Flow), None);
        manager.add(1, Key::Flow, says("a"), Terms::one_shot());
        manager.add(1, Key::Flow, says("b"), Terms::persistent());
        assert_eq!((manager.pending(1, Key::Flow), manager.pending(2, Key::Flow)), (Some(2), None));
        process(&manager, 1, Key::Flow);
        assert_eq!(manager.pending(1, Key::Flow), Some(1));
        assert_eq!(format!("{manager:?}"), "{(1, Flow): 1}");
    }

    /// K9.
    #[test]
    fn cleanup_drops_a_prefix_and_clear_everything() {
        let manager = manager();
        for (prefix, key) in [(0, Key::Close), (1, Key::Close), (1, DECLARE_OK), (2, Key::Close)] {
            manager.add(prefix, key, says("a"), Terms::persistent());
        }
        assert!(manager.cleanup(1) && !manager.cleanup(1));
        assert_eq!((manager.pending(1, DECLARE_OK), manager.pending(2, Key::Close)), (None, Some(1)));
        assert!(!manager.may_have(DECLARE_OK) && manager.may_have(Key::Close));
        manager.clear();
        assert!(manager.is_empty());
        assert_eq!(process(&manager, 0, Key::Close), (false, vec![]));
    }

    #[test]
    fn a_hot_path_can_see_without_a_lock_that_nobody_waits() {
        let manager = manager();
        assert!(manager.is_empty() && !manager.may_have(Key::Backpressure));
        let always = manager.add(1, Key::Backpressure, says("a"), Terms::persistent());
        manager.add(2, Key::Backpressure, says("b"), Terms::one_shot());
        let locked = manager.lock();
        assert!(manager.may_have(Key::Backpressure) && !manager.may_have(Key::Blocked));
        assert!(!manager.process(1, Key::Blocked, None, &(), |_| ()), "not even processing takes the lock");
        drop(locked);
        assert!(manager.remove(always) && manager.may_have(Key::Backpressure), "the other one is still there");
        process(&manager, 2, Key::Backpressure);
        assert!(manager.is_empty());
    }

    #[test]
    fn what_was_taken_can_be_called_later() {
        let manager = manager();
        manager.add(1, Key::Close, says("a"), Terms::one_shot());
        let taken = manager.take(1, Key::Close, None, &()).unwrap();
        assert_eq!((taken.len(), manager.pending(1, Key::Close)), (1, None));
        assert!(manager.take(1, Key::Close, None, &()).is_none());
    }

    /// DESIGN 2, rule 5: the callback's owner may use the manager while it is dropped.
    #[test]
    fn callbacks_are_dropped_unlocked() {
        struct Nosy(Weak<CallbackManager<Callback>>, Arc<AtomicU32>);
        impl Drop for Nosy {
            fn drop(&mut self) {
                if let Some(manager) = self.0.upgrade() {
                    assert!(manager.stack.is_free(), "dropped under the lock");
                    self.1.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let manager = manager();
        let drops = Arc::new(AtomicU32::new(0));
        let nosy = || -> Arc<Callback> {
            let nosy = Nosy(Arc::downgrade(&manager), drops.clone());
            Arc::new(move |_| assert!(nosy.0.upgrade().is_some()))
        };
        let add = || manager.add(1, Key::Flow, nosy(), Terms::one_shot());
        let removals: [&dyn Fn(); 6] = [
            &|| assert!(manager.remove(add())),
            &|| assert!(add().prefix() == 1 && manager.remove_all(1, Key::Flow)),
            &|| assert!(add().prefix() == 1 && process(&manager, 1, Key::Flow).0),
            &|| assert!(add().prefix() == 1 && manager.cleanup(1)),
            &|| {
                add();
                manager.clear();
            },
            &|| {
                // The entry that `add` made of a duplicate.
                let callback = nosy();
                manager.add(1, Key::Flow, callback.clone(), Terms::one_shot());
                manager.add(1, Key::Flow, callback, Terms::one_shot());
                assert!(manager.remove_all(1, Key::Flow));
            },
        ];
        for (number, remove) in (1..).zip(removals) {
            remove();
            assert_eq!(drops.load(Ordering::Relaxed), number);
        }
    }

    #[test]
    fn facts_are_asked_unlocked() {
        struct Nosy(Arc<CallbackManager<Callback>>);
        impl Facts for Nosy {
            fn fact(&self, _name: &str) -> Option<Value> {
                assert!(self.0.stack.is_free(), "asked under the lock");
                Some(1.into())
            }
        }
        let manager = manager();
        manager.add(1, Key::Flow, says("a"), Terms::one_shot().arguments(Table::new().with("n", 1)));
        assert_eq!(process_as(&manager, 1, Key::Flow, None, &Nosy(manager.clone())), (true, vec!["a"]));
    }

    #[test]
    fn a_one_shot_is_called_once_whoever_processes_it() {
        let manager = manager();
        for _ in 0..100 {
            manager.add(1, Key::Flow, says("a"), Terms::one_shot());
        }
        let take = || manager.take(1, Key::Flow, None, &()).map_or(0, |taken| taken.len());
        let called: usize = std::thread::scope(|threads| {
            let threads = [threads.spawn(take), threads.spawn(take)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((called, manager.pending(1, Key::Flow)), (100, None));
    }

    #[test]
    fn every_event_has_a_bucket_of_its_own_and_every_method_some_bucket() {
        let events = [
            Key::Open,
            Key::OpenError,
            Key::Close,
            Key::Blocked,
            Key::Unblocked,
            Key::Backpressure,
            Key::Return,
            Key::Flow,
            Key::Cancel,
            Key::Confirm,
        ];
        assert!(events.into_iter().map(Key::bucket).eq(0..10));
        for number in 0..=u16::MAX {
            let bucket = Key::Method(MethodId { class: number, method: !number }).bucket();
            assert!((10..Key::BUCKETS).contains(&bucket));
        }
    }
}
