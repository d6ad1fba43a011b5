//! basic.publish, to be sent.

use crate::engine::Engine;
use amqp_core::{BasicProperties, Channel, Error, Publish, PublishOutcome, Result};
use std::{fmt, future::IntoFuture, sync::Arc};

/// A message that has not been sent yet: [`call`](Self::call) waits for its confirm, [`send`](Self::send) does not.
#[must_use = "nothing is sent before call() or send()"]
pub struct BlockingPublish<'a> {
    engine: &'a Arc<Engine>,
    channel: &'a Channel,
    publish: Publish<'a, ()>,
}

impl<'a> BlockingPublish<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>, channel: &'a Channel, publish: Publish<'a, ()>) -> Self {
        Self { engine, channel, publish }
    }

    /// The message's properties; none otherwise.
    pub fn properties(mut self, properties: &'a BasicProperties) -> Self {
        self.publish = self.publish.properties(properties);
        self
    }

    /// Whether the message comes back if no queue is bound for it.
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.publish = self.publish.mandatory(mandatory);
        self
    }

    /// Publishes, and in [confirm mode](crate::BlockingChannel::confirm_select) waits until the broker has taken
    /// responsibility. Otherwise it waits only while too much is to be written, and nobody knows what became of the
    /// message.
    ///
    /// # Errors
    /// [`Error::Unroutable`] with the message, if it was mandatory; [`Error::Nacked`]; or why the outcome is unknown.
    /// Without confirm mode as [`send`](Self::send).
    pub fn call(self) -> Result<()> {
        if !self.channel.is_confirming() {
            return self.send();
        }
        let channel = self.channel.channel_number();
        match self.engine.block_on(self.publish.into_future())?? {
            PublishOutcome::Acked => Ok(()),
            PublishOutcome::Nacked => Err(Error::Nacked { channel }),
            PublishOutcome::Returned(returned) => Err(Error::Unroutable((*returned).into())),
        }
    }

    /// Publishes, and waits only while more than `outbound_high_water` octets are to be written.
    ///
    /// # Errors
    /// The reason why the channel is closed, names or properties that are too long. Nothing was sent.
    pub fn send(self) -> Result<()> {
        self.engine.room()?;
        self.engine.attended();
        self.publish.send()?;
        self.engine.sent()
    }
}

impl fmt::Debug for BlockingPublish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publish.fmt(f)
    }
}
