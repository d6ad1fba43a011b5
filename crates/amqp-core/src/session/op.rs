//! What the loop has to change in what it alone owns, and the program's closures that come with it.
//!
//! Closures are lent a handle, so this is the file of the session that looks up to the handles.

use crate::{
    api::{
        channel::{Channel, WeakChannel},
        connection::ConnectionHandle,
        consume::Oversized,
    },
    error::{Error, Result},
    session::channel::Identity,
    wire::{confirmation::Confirmation, message::Delivery, strings::ShortString},
};
use std::sync::Arc;

pub(crate) use crate::api::event::EventCallback;

/// A change for the loop. They are made in the order of the calls.
pub(crate) enum Op<S: 'static> {
    Open {
        identity: Arc<Identity>,
        handle: WeakChannel<S>,
    },
    Consume {
        channel: Channel<S>,
        queue: ShortString,
        tag: ShortString,
        no_ack: bool,
        callbacks: OnMessage<S>,
    },
    Cancel {
        identity: Arc<Identity>,
        tag: ShortString,
        nowait: bool,
    },
    Confirm {
        identity: Arc<Identity>,
        callback: OnConfirm<S>,
    },
    Closing(Arc<Identity>),
    /// The program has closed the connection.
    Shutdown,
    /// More has arrived than the program has taken: who waits for an answer gets this instead.
    Overwhelmed(Error),
    /// The same, and that did not help: the connection ends.
    Drowned(Error),
}

/// A consumer's callbacks.
pub(crate) struct OnMessage<S: 'static> {
    pub(crate) message: OnDelivery<S>,
    pub(crate) oversized: Option<OnOversized<S>>,
    /// A stream's, which ends when the broker ends its consumer.
    pub(crate) ended: Option<OnEnded>,
    /// What the program wants to be called with when it ends, and not because of the program.
    pub(crate) on_end: Option<OnEnd<S>>,
}

pub(crate) type OnDelivery<S> = Box<dyn FnMut(&mut S, &Channel<S>, Delivery<'_>) -> Result<()> + Send>;
pub(crate) type OnOversized<S> = Box<dyn FnMut(&mut S, &Channel<S>, Oversized) -> Result<()> + Send>;
pub(crate) type OnEnd<S> = Box<dyn FnOnce(&mut S, &Channel<S>, &Error) -> Result<()> + Send>;
pub(crate) type OnEnded = Box<dyn FnOnce(&ShortString) + Send>;

/// What is told of each confirm.
pub(crate) type OnConfirm<S> = Box<dyn FnMut(&mut S, &Channel<S>, Confirmation) -> Result<()> + Send>;

/// What is told whether a connection could be opened.
pub(crate) type OnOpen<S> = Box<dyn FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> Result<()> + Send>;
