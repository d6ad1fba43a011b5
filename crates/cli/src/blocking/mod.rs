//! The same commands with calls that wait: `--adapter blocking`.

mod bench;
mod consume;
mod publish;

use crate::{
    adapter::parameters,
    commands::{get::got_one, ping::answered},
    end::End,
    options::{Bind, Command, Common, Declare, Delete, Get, Purge},
};
use pooka::{BlockingChannel, BlockingConnection, ConnectionParameters, Result};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

pub(crate) fn run(common: &Common, command: Command) -> End {
    let begun = Instant::now();
    let parameters = match parameters(common) {
        Ok(parameters) => parameters,
        Err(error) => return error.into(),
    };
    if let Command::Bench(options) = &command {
        return bench::run(&parameters, options);
    }
    with(parameters, |connection| {
        let endpoint = connection.handle().parameters().endpoint();
        let line = |line: String| End::Done(format!("{line} at {endpoint}"));
        if let Command::Ping = command {
            return Ok(answered(connection.handle(), begun));
        }
        let channel = connection.channel().call()?;
        Ok(match command {
            Command::Declare(options) => line(declare(&channel, &options)?),
            Command::Delete(options) => line(delete(&channel, options)?),
            Command::Purge(options) => line(purge(&channel, &options)?),
            Command::Bind(options) => line(bind(&channel, &options)?),
            Command::Get(options) => get(&channel, &options, &endpoint)?,
            Command::Publish(options) => publish::run(connection, &channel, options)?,
            Command::Consume(options) => consume::run(connection, &channel, &options, &endpoint)?,
            Command::Ping | Command::Bench(_) => End::Usage("ping and bench open no channel here".into()),
        })
    })
}

/// Opens a connection for some work, and closes it. Ctrl-C closes it earlier, whatever the work waits for.
fn with(parameters: ConnectionParameters, work: impl FnOnce(&Arc<BlockingConnection>) -> Result<End>) -> End {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let connection = match BlockingConnection::open(parameters) {
        Ok(connection) => Arc::new(connection),
        Err(error) => return error.into(),
    };
    let closing = Arc::downgrade(&connection);
    // Without a handler Ctrl-C ends the process as usual.
    let _ = ctrlc::set_handler(move || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let _ = closing.upgrade().map(|connection| connection.close().call());
    });
    let end = work(&connection).and_then(|end| connection.close().call().map(|()| end));
    match end {
        _ if INTERRUPTED.load(Ordering::Relaxed) => End::Interrupted("interrupted; the connection was closed".into()),
        Ok(end) => end,
        Err(error) => error.into(),
    }
}

fn declare(channel: &BlockingChannel, options: &Declare) -> Result<String> {
    if let Some(exchange) = &options.exchange {
        options.exchange(channel.exchange_declare(exchange.as_str())).call()?;
        return Ok(options.exchange_line(exchange));
    }
    let queue = options.queue.as_deref().unwrap_or_default();
    let ok = options.queue(queue, channel.queue_declare(queue)).call()?;
    Ok(options.queue_line(&ok))
}

fn delete(channel: &BlockingChannel, options: Delete) -> Result<String> {
    let Delete { queue, exchange, if_unused, if_empty } = options;
    if let Some(exchange) = exchange {
        channel.exchange_delete(exchange.as_str()).if_unused(if_unused).call()?;
        return Ok(Delete::exchange_line(&exchange));
    }
    let queue = queue.unwrap_or_default();
    let ok = channel.queue_delete(queue.as_str()).if_unused(if_unused).if_empty(if_empty).call()?;
    Ok(Delete::queue_line(&queue, &ok))
}

fn purge(channel: &BlockingChannel, options: &Purge) -> Result<String> {
    Ok(options.line(&channel.queue_purge(options.queue.as_str()).call()?))
}

fn bind(channel: &BlockingChannel, options: &Bind) -> Result<String> {
    options.request(channel.queue_bind(options.queue.as_str(), options.exchange.as_str())).call()?;
    Ok(options.line())
}

fn get(channel: &BlockingChannel, options: &Get, endpoint: &str) -> Result<End> {
    let got = channel.basic_get(options.queue.as_str()).call()?;
    Ok(got_one(options, endpoint, got, |tag| channel.basic_ack(tag)))
}
