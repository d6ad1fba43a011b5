//! Which event loop serves a command: the only place that knows adapters.

use crate::{
    app::App,
    end::End,
    options::{Common, TlsKind},
};
use pooka::{
    Connection, ConnectionHandle, ConnectionParameters, Error, IoLoop, MioConnection, Result, SelectConnection,
    SmolConnection, TlsOptions, TokioConnection, TokioLoop, tls::TlsBackend,
};
use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// An adapter, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AdapterKind {
    Select,
    Mio,
    /// On a current-thread runtime
    Tokio,
    /// On a multi-thread runtime
    TokioMt,
    Smol,
    /// Calls that wait
    Blocking,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Select => "select",
            Self::Mio => "mio",
            Self::Tokio => "tokio",
            Self::TokioMt => "tokio-mt",
            Self::Smol => "smol",
            Self::Blocking => "blocking",
        })
    }
}

/// What a command does with the open connection.
pub(crate) type OnOpen<W> = fn(&mut App<W>, &ConnectionHandle<App<W>>) -> Result<()>;

/// Opens a connection, serves it to its end, and returns what that was.
pub(crate) fn run<W: 'static>(common: &Common, work: W, on_open: OnOpen<W>) -> End {
    let parameters = match parameters(common) {
        Ok(parameters) => parameters,
        Err(error) => return error.into(),
    };
    run_with(common, parameters, App::new(work), on_open).0
}

/// Does the same and returns the state as well.
pub(crate) fn run_with<W: 'static>(
    common: &Common,
    parameters: ConnectionParameters,
    app: App<W>,
    on_open: OnOpen<W>,
) -> (End, Option<W>) {
    let opened = move |app: &mut App<W>, connection: &ConnectionHandle<App<W>>, opened: Result<()>| {
        if let Err(error) = opened.and_then(|()| on_open(app, connection)) {
            app.fail(connection, error);
        }
    };
    let served = match common.adapter {
        AdapterKind::Select => serve(SelectConnection::open_with(common.poller, parameters, opened), app),
        AdapterKind::Mio => serve(MioConnection::open(parameters, opened), app),
        AdapterKind::Tokio => serve(TokioConnection::open(parameters, opened), app),
        AdapterKind::Smol => serve(SmolConnection::open(parameters, opened), app),
        AdapterKind::Blocking => return (End::Usage("--adapter blocking has no callbacks".into()), None),
        AdapterKind::TokioMt => {
            let ioloop = TokioLoop::new();
            let connection = ioloop.handle().connect(parameters).then(opened);
            on_threads(ioloop, &connection, app)
        }
    };
    match served {
        Ok((end, work)) => (end, Some(work)),
        Err(error) => (error.into(), None),
    }
}

/// Returns the parameters that the command line describes.
pub(crate) fn parameters(common: &Common) -> Result<ConnectionParameters> {
    let parameters: ConnectionParameters = common.url.parse()?;
    let tls = tls(common, parameters.tls())?;
    let builder = parameters.into_builder().connection_name("pooka");
    let builder = match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    };
    let builder = match common.timeout {
        Some(timeout) => {
            builder.socket_timeout(timeout).stack_timeout(timeout).rpc_timeout(Some(timeout)).close_timeout(timeout)
        }
        None => builder,
    };
    builder.build()
}

/// Returns the TLS options of the URL as changed by the command line; `None` if it changes nothing.
fn tls(common: &Common, of_url: Option<&TlsOptions>) -> Result<Option<TlsOptions>> {
    let Common { cacert, cert, key, tls, .. } = common;
    if cacert.is_none() && cert.is_none() && key.is_none() && tls.is_none() {
        return Ok(None);
    }
    let bad = |problem: &str| Err(Error::BadParameter { name: "tls", problem: problem.into() });
    let Some(mut options) = of_url.cloned() else {
        return bad("--cacert, --cert, --key and --tls are for a URL that begins with amqps://");
    };
    if let Some(file) = cacert {
        options = options.ca_file(file);
    }
    options = match (cert, key) {
        (Some(cert), Some(key)) => options.client_certificate_files(cert, key),
        (None, None) => options,
        _ => return bad("--cert and --key belong together"),
    };
    Ok(Some(match tls {
        Some(TlsKind::Rustls) => options.backend(TlsBackend::Rustls),
        Some(TlsKind::NativeTls) => options.backend(TlsBackend::NativeTls),
        None => options,
    }))
}

fn serve<W: 'static, C: Connection<App<W>>>(connection: Result<C>, mut app: App<W>) -> Result<(End, W)> {
    let mut connection = connection?;
    watch(connection.handle());
    let served = connection.ioloop().start(&mut app);
    finish(app, served)
}

fn on_threads<W: 'static>(
    mut ioloop: TokioLoop<App<W>>,
    connection: &ConnectionHandle<App<W>>,
    mut app: App<W>,
) -> Result<(End, W)> {
    watch(connection);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Io { what: "making a tokio runtime".into(), cause: error.into() })?;
    let served = runtime.block_on(ioloop.run(&mut app));
    finish(app, served)
}

fn finish<W: 'static>(mut app: App<W>, served: Result<()>) -> Result<(End, W)> {
    if let Err(error) = served {
        app.closed(&error);
    }
    app.take().ok_or(Error::LoopGone)
}

/// Ends the command when the connection is closed, and on Ctrl-C.
fn watch<W: 'static>(connection: &ConnectionHandle<App<W>>) {
    connection.add_on_close_callback(|app: &mut App<W>, connection, error: &Error| {
        app.closed(error);
        connection.ioloop().stop(); // whatever timers are left
    });
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let connection = connection.clone();
    let interrupt = move || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let closing = connection.clone();
        connection.ioloop().post(move |app: &mut App<W>| {
            app.end(&closing, End::Interrupted("interrupted; the connection was closed".into()));
        });
    };
    // Without a handler Ctrl-C ends the process as usual.
    let _ = ctrlc::set_handler(interrupt);
}
