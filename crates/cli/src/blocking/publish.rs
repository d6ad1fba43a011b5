//! `pooka --adapter blocking publish`

use crate::{
    end::End,
    options::Publish,
    progress::Progress,
    stdin::{Input, Next},
};
use pooka::{BlockingChannel, BlockingConnection, Error, Result};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Unconfirmed publishes after which it looks whether one has come back.
const TURN: u64 = 1000;

pub(super) fn run(
    connection: &Arc<BlockingConnection>,
    channel: &BlockingChannel,
    mut options: Publish,
) -> Result<End> {
    let endpoint = connection.handle().parameters().endpoint();
    let timeout = connection.handle().parameters().rpc_timeout().unwrap_or(Duration::MAX);
    let properties = options.properties();
    let progress = Progress::new("published", (!options.lines).then_some(options.count));
    let came_back = Arc::new(Mutex::new(None));
    if options.no_confirm {
        let first = came_back.clone();
        channel.add_on_return_callback(move |_, returned| {
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(returned.clone());
        });
    } else {
        channel.confirm_select().call()?;
    }
    let refused = || {
        let came_back = came_back.lock().unwrap_or_else(PoisonError::into_inner);
        came_back.as_ref().map(|returned| options.returned(returned, &endpoint))
    };
    let ringing = connection.clone();
    let mut input = Input::new(&options, move || ringing.add_callback_threadsafe(|| ()));
    let mut published = 0;
    loop {
        let body = match input.next() {
            Next::Body(body) => body,
            Next::Over => break,
            Next::Later => {
                connection.process_data_events(None)?;
                if let Some(end) = refused() {
                    return Ok(end);
                }
                continue;
            }
            Next::Failed(error) => return Ok(Publish::unreadable(&error)),
        };
        let publish = channel.basic_publish(&options.exchange, &options.routing_key, &body);
        let publish = publish.properties(&properties).mandatory(!options.no_mandatory).confirm_within(timeout);
        match if options.no_confirm { publish.send() } else { publish.call() } {
            Ok(()) => published += 1,
            Err(Error::Unroutable(returned)) => return Ok(options.returned(&returned, &endpoint)),
            Err(Error::Nacked { .. }) => return Ok(options.nacked(&endpoint)),
            Err(Error::Timeout { .. }) => return Ok(Publish::unconfirmed(1, &endpoint, timeout)),
            Err(error) => return Err(error),
        }
        progress.is_at(published);
        if options.no_confirm && published % TURN == 0 {
            connection.process_data_events(Duration::ZERO)?;
            if let Some(end) = refused() {
                return Ok(end);
            }
        }
    }
    // The broker answers when it has taken everything, or says what was wrong.
    channel.close().call()?;
    connection.process_data_events(Duration::ZERO)?;
    Ok(refused().unwrap_or_else(|| options.done(published, &endpoint)))
}
