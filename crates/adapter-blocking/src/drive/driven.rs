//! adapter-select's loop, as the seat drives it.

use super::seat::{Drive, Next};
use amqp_core::{LoopHandle, Result, hub::Turn};
use pooka_select::{SelectLoop, Until};
use std::{
    task::Waker,
    time::{Duration, Instant},
};

/// A loop and what there is to know between its turns.
#[derive(Debug)]
pub(crate) struct Driven {
    ioloop: SelectLoop,
    handle: LoopHandle,
    keeper: Waker,
    looked: Instant,
}

/// Who only sends looks at the sockets so often.
const LOOKS: Duration = Duration::from_millis(1);

impl Driven {
    pub(crate) fn new(ioloop: SelectLoop, handle: LoopHandle, keeper: Waker) -> Self {
        Self { ioloop, handle, keeper, looked: Instant::now() }
    }
}

impl Drive for Driven {
    fn attend(&mut self) {
        self.handle.attended();
    }

    fn turn(&mut self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> Result<Next> {
        let until = || match (done(), deadline) {
            (true, _) => Until::Now,
            (false, Some(deadline)) => Until::At(deadline),
            (false, None) => Until::Needed,
        };
        next(self.ioloop.turn(&mut (), until))
    }

    fn glance(&mut self, look: bool) -> Result<Next> {
        let now = Instant::now();
        if look || now.duration_since(self.looked) > LOOKS {
            self.looked = now;
            self.ioloop.look()?;
        }
        next(self.ioloop.turn(&mut (), || Until::Now))
    }

    fn rest(&mut self) -> bool {
        self.ioloop.rest(self.keeper.clone())
    }
}

fn next(turn: Result<Turn>) -> Result<Next> {
    Ok(match turn? {
        Turn::Over => Next::Never,
        Turn::Again => Next::Now,
        Turn::Sleep(by) => Next::By(by),
    })
}
