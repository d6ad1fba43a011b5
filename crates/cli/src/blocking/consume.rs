//! `pooka --adapter blocking consume`

use crate::{end::End, message, options::Consume, progress::Progress};
use pooka::{BlockingChannel, Error, Result};
use std::io;

/// Messages that may wait here where the broker knows no limit.
const CAPACITY: usize = 1000;

pub(super) fn run(channel: &BlockingChannel, options: &Consume, endpoint: &str) -> Result<End> {
    let progress = Progress::new("consumed", options.count);
    let messages = channel.consume(options.queue.as_str()).prefetch(options.wanted()).no_ack(options.no_ack);
    let messages = messages.capacity(CAPACITY);
    let messages = match options.idle_timeout {
        Some(idle) => messages.inactivity_timeout(idle),
        None => messages,
    };
    let mut out = io::stdout().lock();
    let mut consumed = 0;
    for message in messages.call()? {
        let message = match message {
            Ok(message) => message,
            Err(Error::ConsumerCancelled { .. }) => return Ok(options.cancelled(endpoint)),
            Err(error) => return Err(error),
        };
        if let Err(error) = message::write(&mut out, options.format, &(&message).into()) {
            return Ok(options.unwritable(&error, endpoint));
        }
        consumed += 1;
        progress.is_at(consumed);
        if !options.no_ack {
            channel.basic_ack(message.delivery_tag)?;
        }
        if options.count == Some(consumed) {
            return Ok(options.done(consumed, endpoint));
        }
    }
    Ok(match options.idle_timeout {
        Some(idle) => options.idle(consumed, endpoint, idle),
        None => options.done(consumed, endpoint),
    })
}
