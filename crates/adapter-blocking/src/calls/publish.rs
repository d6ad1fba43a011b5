//! basic.publish, to be sent.

use crate::drive::engine::Engine;
use amqp_core::{BasicProperties, Channel, Error, Publish, PublishOutcome, Result, WaitForConfirms, error::Stage};
use std::{
    fmt,
    future::IntoFuture,
    sync::Arc,
    time::{Duration, Instant},
};

/// A message that has not been sent yet: [`call`](Self::call) waits for its confirm, [`send`](Self::send) does not.
#[must_use = "nothing is sent before call() or send()"]
pub struct BlockingPublish<'a> {
    engine: &'a Arc<Engine>,
    channel: &'a Channel,
    publish: Publish<'a, ()>,
    confirm_within: Option<Duration>,
}

impl<'a> BlockingPublish<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>, channel: &'a Channel, publish: Publish<'a, ()>) -> Self {
        Self { engine, channel, publish, confirm_within: None }
    }

    /// Sets the message's properties; none otherwise.
    pub fn properties(mut self, properties: &'a BasicProperties) -> Self {
        self.publish = self.publish.properties(properties);
        self
    }

    /// Sets whether the message comes back if no queue is bound for it.
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.publish = self.publish.mandatory(mandatory);
        self
    }

    /// Sets how long [`call`](Self::call) waits for the confirm; otherwise as long as the connection lives, because a broker
    /// that is short of memory takes its time.
    pub fn confirm_within(mut self, limit: Duration) -> Self {
        self.confirm_within = Some(limit);
        self
    }

    /// Publishes, and in [confirm mode](crate::BlockingChannel::confirm_select) waits until the broker has taken
    /// responsibility. Otherwise it waits only while too much is to be written, and the outcome is not known for the
    /// message.
    ///
    /// # Errors
    /// [`Error::Unroutable`] with the message, if it was mandatory; [`Error::Nacked`]; or why the outcome is unknown, of
    /// which [`Error::Timeout`] is one.
    /// Without confirm mode as [`send`](Self::send).
    pub fn call(self) -> Result<()> {
        if !self.channel.is_confirming() {
            return self.send();
        }
        let channel = self.channel.channel_number();
        let deadline = self.confirm_within.and_then(|limit| Instant::now().checked_add(limit));
        self.engine.room(deadline)?;
        // Others may have taken the room meanwhile.
        let _reading = self.engine.inbox.pressing(&self.engine.connection);
        let outcome = self.engine.block_on_until(self.publish.into_future(), deadline)?;
        match outcome.unwrap_or_else(|| Err(unconfirmed(self.engine, self.confirm_within)))? {
            PublishOutcome::Acked => Ok(()),
            PublishOutcome::Nacked => Err(Error::Nacked { channel }),
            PublishOutcome::Returned(returned) => Err(Error::Unroutable((*returned).into())),
        }
    }

    /// Publishes. While more than `outbound_high_water` octets are to be written it waits first, until they have sunk to
    /// `outbound_low_water`.
    ///
    /// # Errors
    /// The reason why the channel is closed, names or properties that are too long; [`Error::InboundFull`] where the program
    /// takes too little of what arrives. Nothing was sent.
    pub fn send(self) -> Result<()> {
        self.engine.room(None)?;
        self.engine.attended();
        self.publish.send()?;
        self.engine.sent()
    }
}

/// Waits for confirms, to be called.
#[must_use = "nothing is waited for before call()"]
#[derive(Debug)]
pub struct BlockingWaitForConfirms {
    engine: Arc<Engine>,
    wait: WaitForConfirms,
}

impl BlockingWaitForConfirms {
    pub(crate) fn new(engine: &Arc<Engine>, channel: &Channel) -> Self {
        Self { engine: engine.clone(), wait: channel.wait_for_confirms() }
    }

    /// Until no more than so many are unconfirmed, instead of none.
    pub fn at_most(mut self, unconfirmed: usize) -> Self {
        self.wait = self.wait.at_most(unconfirmed);
        self
    }

    /// Sets how long it waits; `rpc_timeout` otherwise.
    pub fn within(mut self, limit: Duration) -> Self {
        self.wait = self.wait.within(limit);
        self
    }

    /// Waits. The answer is whether all that was published since the last wait was acked.
    ///
    /// # Errors
    /// [`Error::Timeout`], after which the confirms may still come; or why they will not.
    pub fn call(self) -> Result<bool> {
        self.engine.block_on(self.wait.into_future())?
    }
}

fn unconfirmed(engine: &Engine, limit: Option<Duration>) -> Error {
    let what = format!("the confirm of {}", engine.connection.endpoint());
    Error::Timeout { stage: Stage::Reply, what: what.into(), after: limit.unwrap_or_default() }
}

impl fmt::Debug for BlockingPublish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publish.fmt(f)
    }
}
