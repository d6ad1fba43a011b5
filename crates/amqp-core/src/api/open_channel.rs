//! channel.open, to be sent.

use crate::{
    api::{awaited::Awaited, channel::Channel, connection::ConnectionHandle},
    error::Result,
    session::{
        channel::Identity,
        next_serial,
        reply::{Continuation, Outcome},
        slot::Slot,
    },
};
use std::future::IntoFuture;

/// channel.open, to be sent: [`then`](Self::then) lends the channel to a callback, `.await` gives it when the broker has
/// answered, [`send`](Self::send) at once.
#[must_use = "nothing is sent before then(), .await or send()"]
#[derive(Debug)]
pub struct OpenChannel<S: 'static = ()> {
    connection: ConnectionHandle<S>,
    number: Option<u16>,
}

impl<S: 'static> OpenChannel<S> {
    pub(super) fn new(connection: ConnectionHandle<S>) -> Self {
        Self { connection, number: None }
    }

    /// This number instead of the lowest that is free.
    pub fn channel_number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }

    /// Opens the channel; `callback` is lent it when the broker has answered, or told why there is none.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<()>) -> R + Send + 'static) {
        let (channel, opened) = self.register();
        let lent = channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer| {
            callback(state, &lent, answer.map(|_| ())).outcome()
        }));
        let refused = match opened {
            Ok(()) => channel.open(then).err(),
            Err(error) => Some((error, then)),
        };
        if let Some((error, then)) = refused {
            channel.shared().answer_later(then, error);
        }
    }

    /// Opens the channel and gives it without waiting: what is called on it goes out behind channel.open.
    ///
    /// # Errors
    /// The connection is not open, or all channels are.
    pub fn send(self) -> Result<Channel<S>> {
        let (channel, opened) = self.register();
        opened?;
        channel.open(Continuation::Nobody).map_err(|(error, _)| error)?;
        Ok(channel)
    }

    /// The channel, which nothing is known of on the wire yet. One that cannot be opened is closed from the beginning.
    fn register(self) -> (Channel<S>, Result<()>) {
        let shared = self.connection.0;
        let serial = next_serial();
        let registered = shared.lock().register(self.number, serial);
        match registered {
            Ok(identity) => (Channel::new(shared, identity), Ok(())),
            Err(error) => {
                let identity = Identity::new(0, serial);
                identity.close(error.clone());
                (Channel::new(shared, identity), Err(error))
            }
        }
    }
}

impl<S: 'static> IntoFuture for OpenChannel<S> {
    type Output = Result<Channel<S>>;
    type IntoFuture = Awaited<Channel<S>>;

    /// Sends channel.open. If nobody takes the channel, it is closed again.
    fn into_future(self) -> Awaited<Channel<S>> {
        let slot = Slot::new();
        let (channel, opened) = self.register();
        let then = Continuation::Slot(slot.clone());
        if let Err((error, then)) = match opened {
            Ok(()) => channel.open(then),
            Err(error) => Err((error, then)),
        } {
            channel.shared().answer_later(then, error);
        }
        let unclaimed = channel.clone();
        Awaited::new(slot, move |_| Ok(channel)).or_else(move |_| drop(unclaimed))
    }
}
