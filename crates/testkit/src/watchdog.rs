//! Nothing may hang.

use amqp_core::LoopHandle;
use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// Ends a loop with an error when it takes too long, unless it is dropped before. A timer of the loop's own would keep the
/// loop.
#[derive(Debug)]
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Watches from now on; `says` is what the error says.
    pub fn new<S: 'static>(
        ioloop: LoopHandle<S>,
        limit: Duration,
        says: impl FnOnce(&mut S) -> String + Send + 'static,
    ) -> Self {
        let (alive, gone) = mpsc::channel();
        thread::spawn(move || {
            if gone.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                ioloop.post(move |state: &mut S| Err::<(), _>(says(state)));
            }
        });
        Self { _alive: alive }
    }
}
