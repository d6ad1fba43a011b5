//! `pooka ping`

use crate::{adapter, end::End, options::Common};
use std::time::Instant;

pub(crate) fn run(common: &Common) -> End {
    adapter::run(common, Instant::now(), |app, connection| {
        let said = |name| connection.server_properties()?.get(name)?.as_str().map(str::to_owned);
        let product = said("product").unwrap_or_else(|| "a broker".into());
        let version = said("version").unwrap_or_default();
        let endpoint = connection.parameters().endpoint();
        let millis = app.work.elapsed().as_secs_f64() * 1000.0;
        app.end(connection, End::Done(format!("{product} {version} at {endpoint} answered in {millis:.1} ms")));
        Ok(())
    })
}
