//! channel.open, to be sent.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        connection::ConnectionHandle,
        start::{self, Start, To},
    },
    error::Result,
    session::{
        channel::Identity,
        next_serial,
        reply::{Answer, Outcome},
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

    /// Sets the channel's number, instead of the lowest that is free.
    pub fn channel_number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }

    /// Opens the channel; `callback` gets it when the broker has answered, or the reason why there is none.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<()>) -> R + Send + 'static) {
        start::then(self, callback);
    }

    /// Opens the channel and gives it without waiting: channel.open is sent before what is called on it.
    ///
    /// # Errors
    /// The connection is not open, or all channels are.
    pub fn send(self) -> Result<Channel<S>> {
        start::send(self)
    }

    /// The channel, which nothing is known of on the wire yet. One that cannot be opened is closed from the beginning.
    fn register(self) -> (Channel<S>, Result<()>) {
        let shared = self.connection.0.clone();
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

impl<S: 'static> Start for OpenChannel<S> {
    type State = S;
    type Lent = Channel<S>;
    type Answer = Answer;
    type Told = ();
    type Sent = Channel<S>;

    fn start<W>(self, _: bool, to: impl FnOnce(&Channel<S>) -> (To<Self>, W)) -> (Channel<S>, W, Result<()>) {
        let (channel, registered) = self.register();
        let (to, with) = to(&channel);
        let result = match registered {
            Ok(()) => channel.open(to),
            Err(error) => channel.shared().refuse(error, to),
        };
        (channel, with, result)
    }

    fn read(_: Answer) -> Result<()> {
        Ok(())
    }
}

impl<S: 'static> IntoFuture for OpenChannel<S> {
    type Output = Result<Channel<S>>;
    type IntoFuture = Awaited<Channel<S>>;

    /// Sends channel.open. If the channel is not taken, it is closed again.
    fn into_future(self) -> Awaited<Channel<S>> {
        start::wait(self, |channel| {
            let (channel, unclaimed) = (channel.clone(), channel.clone());
            (move |_| Ok(channel), move |_| drop(unclaimed))
        })
    }
}
