//! Adapters for bodies that await: what serves their connection, and what polls them.

use futures_lite::{FutureExt, future::block_on};
use pooka::{
    BlockingConnection, Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, Result, SmolConnection,
    TokioConnection, tls::TlsBackend,
};
use pooka_testkit::{RabbitNode, broker_url, tls_broker_url};
use std::{
    future::{Future, IntoFuture},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A row of the suite.
pub(crate) trait Row {
    /// Whether a body that keeps its thread to itself leaves the loop another one.
    const HAS_OWN_THREAD: bool = true;

    /// How it speaks TLS, if it does.
    const TLS: Option<TlsBackend> = None;

    /// What the broker that all share is opened with.
    fn parameters() -> ConnectionParameters {
        Self::at(if Self::TLS.is_some() { tls_broker_url() } else { broker_url() }.unwrap())
    }

    /// The same for a node of one's own.
    fn parameters_of(node: &RabbitNode) -> ConnectionParameters {
        Self::at(if Self::TLS.is_some() { node.tls_url() } else { node.url() })
    }

    fn at(url: String) -> ConnectionParameters {
        let parameters: ConnectionParameters = url.parse().unwrap();
        let tls = parameters.tls().cloned();
        let tls = tls.and_then(|tls| Some(tls.backend(Self::TLS?)));
        parameters.into_builder().tls(tls).build().unwrap()
    }

    /// Opens a connection, polls `body` to its end, and then sees that the loop has ended.
    fn run<F: Future<Output = ()> + Send + 'static>(
        parameters: ConnectionParameters,
        body: impl FnOnce(Link) -> F + Send + 'static,
    );

    /// Runs a task beside the body.
    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Boxed<T>;
}

/// What a body gets.
pub(crate) struct Link {
    connecting: Boxed<Result<ConnectionHandle>>,
    drop_loop: Box<dyn FnOnce() + Send>,
}

impl Link {
    pub(crate) async fn open(self) -> ConnectionHandle {
        self.open_and_drop().await.0
    }

    /// The connection, and what drops its loop, as a program does that ends without closing.
    pub(crate) async fn open_and_drop(self) -> (ConnectionHandle, impl FnOnce()) {
        (soon("opening", self.connecting).await.unwrap(), self.drop_loop)
    }
}

/// Nothing is waited for without end: this is shorter than `rpc_timeout`, which would hide what hangs.
pub(crate) async fn soon<F: IntoFuture>(what: &str, future: F) -> F::Output {
    let late = async {
        smol::Timer::after(LATE).await;
        panic!("{what} hangs");
    };
    future.into_future().or(late).await
}

const LATE: Duration = Duration::from_secs(25);

/// A loop that blocks has a thread to itself; the body is polled by another.
pub(crate) struct OnItsThread<C>(C);

impl<C: Connection + 'static> Row for OnItsThread<C> {
    fn run<F: Future<Output = ()> + Send + 'static>(
        parameters: ConnectionParameters,
        body: impl FnOnce(Link) -> F + Send + 'static,
    ) {
        let (opened, is_open) = smol::channel::bounded(1);
        let (made, is_made) = mpsc::channel();
        let (over, is_over) = mpsc::channel();
        thread::spawn(move || {
            let on_open = move |_: &mut (), connection: &ConnectionHandle, result: Result<()>| {
                opened.try_send(result.map(|()| connection.clone())).unwrap();
            };
            let mut connection = C::open(parameters, on_open).unwrap();
            made.send(connection.ioloop().handle()).unwrap();
            // Behind a callback that panicked it goes on.
            while catch_unwind(AssertUnwindSafe(|| connection.ioloop().start(&mut ()).unwrap())).is_err() {}
            drop(connection);
            over.send(()).unwrap();
        });
        let ioloop = is_made.recv().unwrap();
        let connecting = Box::pin(async move { is_open.recv().await.unwrap_or(Err(Error::LoopGone)) });
        block_on(body(Link { connecting, drop_loop: Box::new(move || ioloop.stop()) }));
        is_over.recv_timeout(LATE).expect("the loop ends with its last connection");
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
        Box::pin(smol::spawn(task))
    }
}

/// A runtime with so many threads; with none of its own it runs on the body's.
pub(crate) struct OnTokio<const THREADS: usize>;

impl<const THREADS: usize> Row for OnTokio<THREADS> {
    const HAS_OWN_THREAD: bool = THREADS > 0;

    fn run<F: Future<Output = ()> + Send + 'static>(
        parameters: ConnectionParameters,
        body: impl FnOnce(Link) -> F + Send + 'static,
    ) {
        use tokio::runtime::Builder;
        let runtime = match THREADS {
            0 => Builder::new_current_thread().enable_all().build(),
            threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        };
        runtime.unwrap().block_on(async move {
            let (connecting, driver) = TokioConnection::pair(parameters);
            let driver = tokio::spawn(driver);
            let task = driver.abort_handle();
            let link = Link { connecting: Box::pin(connecting), drop_loop: Box::new(move || task.abort()) };
            // Not spawned: a body that blocks a worker's thread keeps what that worker was to run next from running.
            body(link).await;
            match soon("the loop's end", driver).await {
                Ok(ended) => ended.unwrap(),
                Err(error) => assert!(error.is_cancelled(), "{error}"),
            }
        });
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
        let task = tokio::spawn(task);
        Box::pin(async move { task.await.unwrap() })
    }
}

/// Everything on smol's executor, which has a thread of its own.
pub(crate) struct OnSmol;

impl Row for OnSmol {
    fn run<F: Future<Output = ()> + Send + 'static>(
        parameters: ConnectionParameters,
        body: impl FnOnce(Link) -> F + Send + 'static,
    ) {
        smol::block_on(async move {
            let (connecting, driver) = SmolConnection::pair(parameters);
            let (dropping, dropped) = smol::channel::bounded::<()>(1);
            let driver = smol::spawn(driver.or(async move {
                let _ = dropped.recv().await;
                Ok(())
            }));
            let drop_loop = dropping.clone();
            let drop_loop = Box::new(move || drop_loop.try_send(()).unwrap());
            body(Link { connecting: Box::pin(connecting), drop_loop }).await;
            soon("the loop's end", driver).await.unwrap();
            drop(dropping);
        });
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
        Box::pin(smol::spawn(task))
    }
}

/// Calls that wait: the body's thread drives the connection whenever it waits, and the keeper when it does not.
pub(crate) struct OnBlocking<const TLS: usize>;

impl<const TLS: usize> Row for OnBlocking<TLS> {
    const TLS: Option<TlsBackend> = [None, Some(TlsBackend::Rustls), Some(TlsBackend::NativeTls)][TLS];

    fn run<F: Future<Output = ()> + Send + 'static>(
        parameters: ConnectionParameters,
        body: impl FnOnce(Link) -> F + Send + 'static,
    ) {
        let connection = Arc::new(BlockingConnection::open(parameters).unwrap());
        let opened = connection.handle().clone();
        let dropped = connection.clone();
        let link =
            Link { connecting: Box::pin(async move { Ok(opened) }), drop_loop: Box::new(move || dropped.abandon()) };
        let mut body = Box::pin(body(link));
        let mut panics = 0;
        // A callback's panic comes out of the call that drove the loop; the body's own comes out again.
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| connection.block_on(body.as_mut()).unwrap())) {
            panics += 1;
            if panics > 1 {
                resume_unwind(payload);
            }
        }
        assert!(connection.is_closed(), "the loop ends with its connection");
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
        Box::pin(smol::spawn(task))
    }
}
