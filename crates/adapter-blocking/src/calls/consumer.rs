//! A consumer as an iterator.

use crate::drive::engine::Engine;
use amqp_core::{Consumer, Error, Message, Result, ShortString};
use std::{
    future::IntoFuture,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// A consumer, whose messages it yields in the order in which the broker sent them.
///
/// An error is the reason why there are no more. `None` is the end that the program itself has made, or
/// says that nothing came within the inactivity timeout: the next call continues. A loop that is left can be entered again with `for message in &mut messages`.
///
/// Dropped, the consumer is cancelled, and what was never yielded goes back to the queue, which the broker counts as a delivery
/// of each: [how many that are](crate::BlockingConsume#how-many-messages-an-iterator-takes-ahead). What was yielded stays the program's to
/// acknowledge.
#[derive(Debug)]
pub struct BlockingConsumer {
    pub(super) engine: Arc<Engine>,
    /// Why it could not be started, or the consumer.
    pub(super) consumer: Result<Consumer, Option<Error>>,
    pub(super) inactivity_timeout: Option<Duration>,
}

impl BlockingConsumer {
    /// Returns the consumer's tag; empty if it could not be started.
    pub fn consumer_tag(&self) -> ShortString {
        self.consumer.as_ref().map(|consumer| consumer.consumer_tag().clone()).unwrap_or_default()
    }

    /// BlockingConsumer that have arrived and were not yielded yet: pika's `get_waiting_message_count`.
    #[doc(alias = "get_waiting_message_count")]
    pub fn waiting_message_count(&self) -> usize {
        self.consumer.as_ref().map_or(0, Consumer::len)
    }

    /// Returns the next message, if one comes in time. Callbacks of timers and other consumers run meanwhile.
    ///
    /// # Errors
    /// Why there are no more, or what a callback returned.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Message>> {
        self.take(Instant::now().checked_add(limit)).transpose()
    }

    /// Ends the consumer and waits for the broker's answer: what was never yielded goes back to the queue. Counted is what
    /// had arrived already; what was still on its way goes back as well.
    ///
    /// # Errors
    /// The broker did not answer: the reason.
    pub fn cancel(self) -> Result<usize> {
        let Ok(consumer) = &self.consumer else { return Ok(0) };
        self.engine.block_on(consumer.cancel().into_future())??;
        let untaken = consumer.len();
        let engine = self.engine.clone();
        drop(self);
        engine.tend(false)?;
        Ok(untaken)
    }

    fn take(&mut self, deadline: Option<Instant>) -> Option<Result<Message>> {
        let Self { engine, consumer, .. } = self;
        let consumer = match consumer {
            Ok(consumer) => consumer,
            Err(error) => return error.take().map(Err),
        };
        loop {
            match engine.next(consumer, deadline) {
                Ok(Some(next)) => return next,
                Ok(None) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return None,
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for BlockingConsumer {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        let deadline = self.inactivity_timeout.and_then(|limit| Instant::now().checked_add(limit));
        self.take(deadline)
    }
}

/// What was never yielded goes back at once.
impl Drop for BlockingConsumer {
    fn drop(&mut self) {
        if let Ok(consumer) = mem::replace(&mut self.consumer, Err(None)) {
            self.engine.leave(consumer);
        }
        let _ = self.engine.tend(false);
    }
}
