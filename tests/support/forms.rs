//! Adapters in the forms that they have besides their own.
#![allow(dead_code, reason = "not every suite has every form")]

use pooka::{
    Connection, ConnectionHandle, ConnectionParameters, IoLoop, LoopHandle, PollerKind, Result, SelectConnection,
    SelectLoop, TokioLoop, request::Outcome,
};
use tokio::runtime::{Builder, Runtime};

/// `SelectConnection` with a poller of its own.
macro_rules! pollers {
    ($($Form:ident = $kind:expr;)*) => { $(
        pub(crate) struct $Form<S: 'static>(SelectConnection<S>);

        impl<S: 'static> Connection<S> for $Form<S> {
            type Loop = SelectLoop<S>;
            fn open<R: Outcome>(
                parameters: ConnectionParameters,
                on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
            ) -> Result<Self> {
                SelectConnection::open_with($kind, parameters, on_open).map(Self)
            }
            fn ioloop(&mut self) -> &mut SelectLoop<S> {
                self.0.ioloop()
            }
            fn handle(&self) -> &ConnectionHandle<S> {
                self.0.handle()
            }
        }
    )* };
}

pollers! {
    BySelect = PollerKind::Select;
    ByPoll = PollerKind::Poll;
}

/// `TokioConnection` on a multi-thread runtime, whose threads wait for the sockets.
pub(crate) struct OnThreads<S: 'static> {
    ioloop: ThreadsLoop<S>,
    handle: ConnectionHandle<S>,
}

pub(crate) struct ThreadsLoop<S: 'static> {
    ioloop: TokioLoop<S>,
    runtime: Runtime,
}

impl<S: 'static> IoLoop<S> for ThreadsLoop<S> {
    fn handle(&self) -> LoopHandle<S> {
        self.ioloop.handle()
    }

    fn start(&mut self, state: &mut S) -> Result<()> {
        self.runtime.block_on(self.ioloop.run(state))
    }
}

impl<S: 'static> Connection<S> for OnThreads<S> {
    type Loop = ThreadsLoop<S>;

    fn open<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ioloop = TokioLoop::new();
        let handle = ioloop.handle().connect(parameters).then(on_open);
        Ok(Self { ioloop: ThreadsLoop { ioloop, runtime }, handle })
    }

    fn ioloop(&mut self) -> &mut ThreadsLoop<S> {
        &mut self.ioloop
    }

    fn handle(&self) -> &ConnectionHandle<S> {
        &self.handle
    }
}
