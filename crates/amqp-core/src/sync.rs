//! Locks that never fail, and their one rule, checked in debug builds: the program is called where none is held.

#[cfg(loom)]
use loom::sync as of;
#[cfg(not(loom))]
use std::sync as of;
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::PoisonError,
};

/// The standard library's mutex, or loom's where threads are model-checked.
///
/// It knows no poison: nothing of the program's is called, cloned, woken or dropped while it is locked, so a panic leaves
/// nothing half-changed.
pub(crate) struct Mutex<T>(of::Mutex<T>);

/// A mutex, locked.
pub(crate) struct MutexGuard<'a, T>(of::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(of::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(debug_assertions)]
        held::HELD.with(|held| held.set(held.get() + 1));
        MutexGuard(guard)
    }

    #[cfg(test)]
    pub(crate) fn is_free(&self) -> bool {
        self.0.try_lock().is_ok()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(debug_assertions)]
impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        held::HELD.with(|held| held.set(held.get() - 1));
    }
}

#[cfg(debug_assertions)]
mod held {
    use std::cell::Cell;
    thread_local!(pub(super) static HELD: Cell<u32> = const { Cell::new(0) });
}

/// The program may only be called where no lock of ours is held.
#[cfg(debug_assertions)]
pub(crate) fn assert_unlocked() {
    held::HELD.with(|held| assert_eq!(held.get(), 0, "the program is called under a lock"));
}
