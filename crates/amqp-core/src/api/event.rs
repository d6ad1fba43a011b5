//! Callbacks that are registered for events, and what they get.

use crate::{
    api::{channel::Channel, connection::ConnectionHandle},
    error::{Error, Result},
    session::callbacks::Facts,
    wire::{message::Returned, spec::Method, strings::ShortString, table::Value},
};

/// A callback for events: it may be called any number of times, and is lent the program's state each time.
pub type EventCallback<S> = dyn Fn(&mut S, &Source<S>, &Event) -> Result<()> + Send + Sync;

/// Where an event comes from.
#[derive(Debug)]
pub enum Source<S: 'static> {
    /// The connection.
    Connection(ConnectionHandle<S>),
    /// One of its channels.
    Channel(Channel<S>),
}

impl<S: 'static> Clone for Source<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Connection(connection) => Self::Connection(connection.clone()),
            Self::Channel(channel) => Self::Channel(channel.clone()),
        }
    }
}

/// What happened.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Event {
    /// The connection is open.
    Open,
    /// The connection could not be opened.
    OpenError(Error),
    /// The connection or the channel is closed.
    Close(Error),
    /// The broker lacks memory or disk and has stopped reading what is published; these are its words.
    Blocked(ShortString),
    /// The broker reads again.
    Unblocked,
    /// So many octets wait to be written: more than there should be.
    Backpressure(usize),
    /// The outbound buffer is short again.
    Drained,
    /// A message could not be routed.
    Return(Box<Returned>),
    /// The broker wants the channel's publishes to pause (`false`) or to go on.
    Flow(bool),
    /// The broker has ended the consumer with this tag, because its queue was deleted for example.
    Cancel(ShortString),
    /// A method has arrived.
    Method(Box<Method>),
}

impl Facts for Event {
    fn fact(&self, name: &str) -> Option<Value> {
        match (self, name) {
            (Self::Method(method), _) => method.argument(name),
            (Self::Cancel(tag), "consumer_tag") => Some(tag.clone().into()),
            (Self::Flow(active), "active") => Some((*active).into()),
            (Self::Return(returned), "reply_code") => Some(i32::from(returned.reply_code).into()),
            (Self::Return(returned), "exchange") => Some(returned.exchange.clone().into()),
            (Self::Return(returned), "routing_key") => Some(returned.routing_key.clone().into()),
            _ => None,
        }
    }
}
