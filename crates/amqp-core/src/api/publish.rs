//! basic.publish, to be sent.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        start::{self, Start, To},
        writable::Writable,
    },
    error::Result,
    session::{
        confirm::{PUBLISH_HEADER, PublishOutcome},
        reply::Outcome,
    },
    wire::{
        frame::{Body, Content},
        properties::BasicProperties,
    },
};
use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

/// A message that has not been sent yet. It borrows everything and allocates nothing.
#[must_use = "nothing is sent before then(), .await or send()"]
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

    /// Sets the message's properties; none otherwise.
    #[inline]
    pub fn properties(mut self, properties: &'a BasicProperties) -> Self {
        self.content.properties = Some(properties);
        self
    }

    /// Sets whether the message comes back if no queue is bound for it.
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
        channel.shared().publish(channel.identity(), &self.content, None)
    }

    /// Publishes in [confirm mode](Channel::confirm_delivery); `callback` gets the outcome.
    ///
    /// A mandatory message carries its number in the header `x-pooka-publish`: by that alone a message that comes back
    /// is known again when many are on their way.
    ///
    /// An error is the reason why there is no outcome. [`Invalid`](crate::Error::Invalid) and
    /// [`OutboundFull`](crate::Error::OutboundFull) say that nothing was sent. That the channel or the connection has ended
    /// leaves open whether the broker has the message.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &Channel<S>, Result<PublishOutcome>) -> R + Send + 'static,
    ) {
        start::then(self, callback);
    }
}

/// Publishes in confirm mode.
impl<S: 'static> Start for Publish<'_, S> {
    type State = S;
    type Lent = Channel<S>;
    type Answer = PublishOutcome;
    type Told = PublishOutcome;
    type Sent = ();

    fn start<W>(self, _: bool, to: impl FnOnce(&Channel<S>) -> (To<Self>, W)) -> ((), W, Result<()>) {
        let Self { channel, content } = self;
        let (to, with) = to(channel);
        // Of a message that cannot come back no number is needed.
        let mark = if content.mandatory { next_mark() } else { 0 };
        let tagged = content.mandatory.then(|| tagged(content.properties, mark));
        let properties = tagged.as_ref().or(content.properties);
        let content = Content { properties, ..content };
        ((), with, channel.shared().publish(channel.identity(), &content, Some((to, mark))))
    }

    fn read(outcome: PublishOutcome) -> Result<PublishOutcome> {
        Ok(outcome)
    }
}

/// Awaits what became of the message, in [confirm mode](Channel::confirm_select). While more than `outbound_high_water`
/// octets wait to be written it waits for room first.
impl<'a, S: 'static> IntoFuture for Publish<'a, S> {
    type Output = Result<PublishOutcome>;
    type IntoFuture = Publishing<'a, S>;

    fn into_future(self) -> Publishing<'a, S> {
        let room = self.channel.connection().writable();
        Publishing(Progress::Waiting(room, Some(self)))
    }
}

/// A publish that is awaited. If it is dropped before it was sent, nothing is sent; later, its outcome is discarded.
#[doc(alias = "PublisherConfirm")]
#[must_use = "nothing is sent before .await"]
#[derive(Debug)]
pub struct Publishing<'a, S: 'static = ()>(Progress<'a, S>);

#[derive(Debug)]
enum Progress<'a, S: 'static> {
    Waiting(Writable<S>, Option<Publish<'a, S>>),
    Sent(Awaited<PublishOutcome>),
}

impl<S: 'static> Future for Publishing<'_, S> {
    type Output = Result<PublishOutcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Progress::Sent(outcome) => return Pin::new(outcome).poll(context),
                Progress::Waiting(room, publish) => {
                    // The end of a connection is reported by the publish itself, with the channel's reason.
                    if Pin::new(room).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let Some(publish) = publish.take() else { return Poll::Pending };
                    self.0 = Progress::Sent(start::wait(publish, |_| (Ok, drop)));
                }
            }
        }
    }
}

impl<S: 'static> Unpin for Publishing<'_, S> {}

/// The properties with a header that identifies the publish.
fn tagged(properties: Option<&BasicProperties>, mark: u64) -> BasicProperties {
    properties.cloned().unwrap_or_default().header(PUBLISH_HEADER, mark as i64)
}

/// Numbers mandatory publishes, never twice in a process.
fn next_mark() -> u64 {
    static MARK: AtomicU64 = AtomicU64::new(1);
    MARK.fetch_add(1, Ordering::Relaxed)
}
