//! connection.close, to be sent.

use crate::{
    api::{
        awaited::Awaited,
        connection::ConnectionHandle,
        start::{self, Start, To},
    },
    error::Result,
    session::{Op, reply::Outcome},
    wire::{
        frame::put_method,
        outbox::Outbox,
        spec::{FRAME_MIN_SIZE, connection},
        strings::ShortString,
    },
};
use std::{future::IntoFuture, sync::Arc};

/// connection.close, to be sent.
#[must_use = "nothing is sent before then(), .await or send()"]
#[derive(Debug)]
pub struct CloseConnection<S: 'static = ()> {
    connection: ConnectionHandle<S>,
    code: u16,
    text: ShortString,
}

impl<S: 'static> CloseConnection<S> {
    pub(super) fn new(connection: ConnectionHandle<S>) -> Self {
        Self { connection, code: 200, text: "Normal shutdown".into() }
    }

    /// Sets the reply code, 200 otherwise.
    pub fn reply_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// Sets the reply text, `Normal shutdown` otherwise.
    pub fn reply_text(mut self, text: impl Into<ShortString>) -> Self {
        self.text = text.into();
        self
    }

    /// Closes; `callback` is called when the broker has agreed, or with the reason why it did not.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) {
        start::then(self, callback);
    }

    /// Closes.
    ///
    /// # Errors
    /// It has ended otherwise than by a close of this program's: the reason.
    pub fn send(self) -> Result<()> {
        start::send(self)
    }
}

impl<S: 'static> Start for CloseConnection<S> {
    type State = S;
    type Lent = ConnectionHandle<S>;
    type Answer = ();
    type Told = ();
    type Sent = ();

    fn start<W>(self, _: bool, to: impl FnOnce(&ConnectionHandle<S>) -> (To<Self>, W)) -> ((), W, Result<()>) {
        let (to, with) = to(&self.connection);
        let (code, text) = (self.code, Arc::from(self.text.to_string_lossy()));
        let close = connection::Close { reply_code: code, reply_text: self.text, class_id: 0, method_id: 0 };
        let shared = &self.connection.0;
        let mut last = Outbox::default();
        if let Err(invalid) = put_method(last.octets(), 0, &close.into(), FRAME_MIN_SIZE as usize) {
            return ((), with, shared.refuse(invalid.into(), to));
        }
        let mut state = shared.lock();
        let result = match state.close((code, text), last, to) {
            Ok(begins) => {
                if begins {
                    state.queue(Op::Shutdown);
                }
                Ok(())
            }
            Err((error, to)) => {
                drop(state);
                // It is closed as the program wants it to be.
                if error.is_deliberate() { shared.answer(to, Ok(())) } else { shared.refuse(error, to) }
            }
        };
        ((), with, result)
    }

    fn read((): ()) -> Result<()> {
        Ok(())
    }
}

impl<S: 'static> IntoFuture for CloseConnection<S> {
    type Output = Result<()>;
    type IntoFuture = Awaited<()>;

    /// Sends connection.close.
    fn into_future(self) -> Awaited<()> {
        start::wait(self, |_| (Ok, drop))
    }
}
