//! Counting handles: a connection that is awaited or called closes itself with its last handle.

use crate::{
    session::{Shared, op::Op, reply::Continuation},
    wire::{
        frame::put_method,
        outbox::Outbox,
        spec::{FRAME_MIN_SIZE, connection},
    },
};
use std::sync::atomic::Ordering;

impl<S: 'static> Shared<S> {
    /// There is one more handle.
    pub(super) fn keep(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// There is one handle less. Called where no lock is held.
    pub(super) fn release(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close_if_forsaken();
        }
    }

    /// Closes the connection if there is no handle and nothing is going on; one that was opened with a callback is kept by its
    /// loop.
    pub(crate) fn close_if_forsaken(&self) {
        if self.raises || self.handles.load(Ordering::Acquire) > 0 || self.bell.is_gone() {
            return;
        }
        let close = connection::Close { reply_code: 200, reply_text: "Dropped".into(), class_id: 0, method_id: 0 };
        let mut last = Outbox::default();
        let put = put_method(last.octets(), 0, &close.into(), FRAME_MIN_SIZE as usize);
        debug_assert!(put.is_ok());
        let mut state = self.lock();
        if state.is_idle() && matches!(state.close((200, "Dropped".into()), last, Continuation::Nobody), Ok(true)) {
            state.queue(Op::Shutdown);
        }
    }
}
