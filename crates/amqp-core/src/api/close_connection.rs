//! connection.close, to be sent.

use crate::{
    api::{awaited::Awaited, connection::ConnectionHandle},
    error::{Error, Result},
    session::{
        Op,
        reply::{Answer, Continuation, Outcome},
        slot::Slot,
    },
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

    /// The reply code, 200 otherwise.
    pub fn reply_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// The reply text, `Normal shutdown` otherwise.
    pub fn reply_text(mut self, text: impl Into<ShortString>) -> Self {
        self.text = text.into();
        self
    }

    /// Closes; `callback` is called when the broker has agreed, or told why it did not.
    pub fn then<R: Outcome>(
        self,
        callback: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) {
        let lent = self.connection.clone();
        let shared = self.connection.0.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer| {
            callback(state, &lent, answer.map(|_| ())).outcome()
        }));
        if let Err((error, then)) = self.submit(then) {
            shared.answer_later(then, error);
        }
    }

    /// Closes.
    ///
    /// # Errors
    /// It has ended otherwise than by a close of this program's: the reason.
    pub fn send(self) -> Result<()> {
        self.submit(Continuation::Nobody).map_err(|(error, _)| error)
    }

    fn submit(self, then: Continuation<S>) -> Result<(), (Error, Continuation<S>)> {
        let (code, text) = (self.code, Arc::from(self.text.to_string_lossy()));
        let close = connection::Close { reply_code: code, reply_text: self.text, class_id: 0, method_id: 0 };
        let mut last = Outbox::default();
        if let Err(invalid) = put_method(last.octets(), 0, &close.into(), FRAME_MIN_SIZE as usize) {
            return Err((invalid.into(), then));
        }
        let shared = &self.connection.0;
        let mut state = shared.lock();
        match state.close((code, text), last, then) {
            Ok(true) => state.queue(Op::Shutdown),
            Ok(false) => {}
            Err((error, then)) if error.is_deliberate() => {
                drop(state);
                shared.resolve_later(then, Ok(Answer::Method(connection::CloseOk {}.into())));
            }
            Err(refused) => return Err(refused),
        }
        Ok(())
    }
}

impl<S: 'static> IntoFuture for CloseConnection<S> {
    type Output = Result<()>;
    type IntoFuture = Awaited<()>;

    /// Sends connection.close.
    fn into_future(self) -> Awaited<()> {
        let slot = Slot::new();
        let shared = self.connection.0.clone();
        if let Err((error, then)) = self.submit(Continuation::Slot(slot.clone())) {
            shared.answer_later(then, error);
        }
        Awaited::new(slot, |_| Ok(()))
    }
}
