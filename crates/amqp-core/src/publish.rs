//! basic.publish, to be sent.

use crate::{
    confirm::{PUBLISH_HEADER, PublishOutcome, outcome},
    error::Result,
    frame::{Body, Content},
    handle::Channel,
    properties::BasicProperties,
    reply::{Answer, Continuation, Outcome},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// A message that has not been sent yet. It borrows everything and allocates nothing.
#[must_use = "nothing is sent before then() or send()"]
#[derive(Debug)]
pub struct Publish<'a, S: 'static> {
    channel: &'a Channel<S>,
    content: Content<'a>,
}

impl<'a, S: 'static> Publish<'a, S> {
    #[inline]
    pub(crate) fn new(channel: &'a Channel<S>, exchange: &'a [u8], routing_key: &'a [u8], body: Body<'a>) -> Self {
        Self { channel, content: Content { exchange, routing_key, mandatory: false, properties: None, body } }
    }

    /// The message's properties; none otherwise.
    #[inline]
    pub fn properties(mut self, properties: &'a BasicProperties) -> Self {
        self.content.properties = Some(properties);
        self
    }

    /// Whether the message comes back if no queue is bound for it.
    #[inline]
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.content.mandatory = mandatory;
        self
    }

    /// Publishes.
    ///
    /// # Errors
    /// The reason why the channel is closed, names or properties that are too long, or a full outbound buffer. Nothing
    /// was sent, and the channel is unharmed.
    #[inline]
    pub fn send(self) -> Result<()> {
        let channel = self.channel;
        channel.shared().publish(channel.identity(), &self.content, None).map_err(|refused| refused.error)
    }

    /// Publishes in [confirm mode](Channel::confirm_delivery); `callback` is told what became of the message.
    ///
    /// A mandatory message carries its number in the header `x-pooka-publish`: by that alone a message that comes back
    /// is known again when many are on their way. An error says that the outcome is unknown, because the channel or the
    /// connection ended first.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &Channel<S>, Result<PublishOutcome>) -> R + Send + 'static,
    ) {
        let Self { channel, content } = self;
        let lent = channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer: Result<Answer>| {
            callback(state, &lent, answer.and_then(outcome)).outcome()
        }));
        // Of a message that cannot come back no number is needed.
        let mark = if content.mandatory { next_mark() } else { 0 };
        let tagged = content.mandatory.then(|| tagged(content.properties, mark));
        let properties = tagged.as_ref().or(content.properties);
        let content = Content { properties, ..content };
        if let Err(refused) = channel.shared().publish(channel.identity(), &content, Some((then, mark))) {
            channel.shared().answer_later(refused.then, refused.error);
        }
    }
}

/// The properties with a header that identifies the publish.
fn tagged(properties: Option<&BasicProperties>, mark: u64) -> BasicProperties {
    properties.cloned().unwrap_or_default().header(PUBLISH_HEADER, mark as i64)
}

/// Numbers mandatory publishes, never twice in a process.
fn next_mark() -> u64 {
    static MARK: AtomicU64 = AtomicU64::new(1);
    MARK.fetch_add(1, Ordering::Relaxed)
}
