//! `pooka ping`

use crate::{adapter, end::End, options::Common};
use pooka::ConnectionHandle;
use std::time::Instant;

pub(crate) fn run(common: &Common) -> End {
    adapter::run(common, Instant::now(), |app, connection| {
        let end = answered(connection, app.work);
        app.end(connection, end);
        Ok(())
    })
}

/// The broker's name, where it is, and how long it took.
pub(crate) fn answered<S>(connection: &ConnectionHandle<S>, begun: Instant) -> End {
    let said = |name| connection.server_properties()?.get(name)?.as_str().map(str::to_owned);
    let product = said("product").unwrap_or_else(|| "a broker".into());
    let version = said("version").unwrap_or_default();
    let endpoint = connection.parameters().endpoint();
    let millis = begun.elapsed().as_secs_f64() * 1000.0;
    End::Done(format!("{product} {version} at {endpoint} answered in {millis:.1} ms"))
}
