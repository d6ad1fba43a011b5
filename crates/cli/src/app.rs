//! The state that the loop lends to a command's callbacks.

use crate::end::End;
use pooka::{Channel, ConnectionHandle, Error, Result};

/// A command's own work, and how the whole will have ended.
#[derive(Debug)]
pub(crate) struct App<W: 'static> {
    pub(crate) work: W,
    /// What is still done with the work while the connection is open.
    pub(crate) before_end: Option<fn(&mut W)>,
    end: Option<End>,
}

impl<W: 'static> App<W> {
    pub(crate) fn new(work: W) -> Self {
        Self { work, before_end: None, end: None }
    }

    /// The end; the first one stands. The connection is closed.
    pub(crate) fn end(&mut self, connection: &ConnectionHandle<Self>, end: End) {
        if let Some(before_end) = self.before_end.take() {
            before_end(&mut self.work);
        }
        self.end.get_or_insert(end);
        // It may be closed already.
        let _ = connection.close().send();
    }

    /// The same for something that failed.
    pub(crate) fn fail(&mut self, connection: &ConnectionHandle<Self>, error: Error) {
        self.end(connection, error.into());
    }

    /// The value, or the end.
    pub(crate) fn check<T>(&mut self, connection: &ConnectionHandle<Self>, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(connection, error)).ok()
    }

    /// The connection is closed, by whomever.
    pub(crate) fn closed(&mut self, error: &Error) {
        self.end.get_or_insert_with(|| error.clone().into());
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn take(self) -> Option<(End, W)> {
        Some((self.end?, self.work))
    }
}

/// A channel whose end is the command's.
pub(crate) fn channel<W: 'static>(connection: &ConnectionHandle<App<W>>) -> Result<Channel<App<W>>> {
    let channel = connection.channel().send()?;
    channel.add_on_close_callback(|app: &mut App<W>, channel, error: &Error| {
        if !matches!(error, Error::ChannelClosedByClient { .. }) {
            app.fail(&channel.connection(), error.clone());
        }
    });
    Ok(channel)
}
