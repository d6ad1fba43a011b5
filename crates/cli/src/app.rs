//! The state that the loop lends to a command's callbacks.

use crate::end::End;
use pooka::{Channel, ConnectionHandle, Error, Result};

/// A command's own work, and how the whole will have ended.
#[derive(Debug)]
pub(crate) struct App<W: 'static> {
    pub(crate) work: W,
    /// Called once before the connection is closed, to do what is left of the work.
    pub(crate) before_end: Option<fn(&mut W)>,
    end: Option<End>,
}

impl<W: 'static> App<W> {
    pub(crate) fn new(work: W) -> Self {
        Self { work, before_end: None, end: None }
    }

    /// Ends the command: the first end stands, and the connection is closed.
    pub(crate) fn end(&mut self, connection: &ConnectionHandle<Self>, end: End) {
        if let Some(before_end) = self.before_end.take() {
            before_end(&mut self.work);
        }
        self.end.get_or_insert(end);
        // It may be closed already.
        let _ = connection.close().send();
    }

    /// Ends the command with an error.
    pub(crate) fn fail(&mut self, connection: &ConnectionHandle<Self>, error: Error) {
        self.end(connection, error.into());
    }

    /// Returns the value; an error ends the command.
    pub(crate) fn check<T>(&mut self, connection: &ConnectionHandle<Self>, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(connection, error)).ok()
    }

    /// Takes the reason why the connection is closed as the end, unless there is one already.
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

/// Opens a channel; if it is closed by an error, the command ends.
pub(crate) fn channel<W: 'static>(connection: &ConnectionHandle<App<W>>) -> Result<Channel<App<W>>> {
    let channel = connection.channel().send()?;
    channel.add_on_close_callback(|app: &mut App<W>, channel, error: &Error| {
        if !matches!(error, Error::ChannelClosedByClient { .. }) {
            app.fail(&channel.connection(), error.clone());
        }
    });
    Ok(channel)
}
