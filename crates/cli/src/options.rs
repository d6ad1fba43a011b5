//! The command line.

use crate::adapter::AdapterKind;
use clap::{ArgGroup, Args, Parser, Subcommand};
use pooka::{PollerKind, Table, Value};
use std::{path::PathBuf, time::Duration};

/// Publish, consume and look at a RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "pooka", version, after_help = EXIT_CODES)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 get found the queue empty; 2 usage; 3 could not connect, lost the \
    connection or could not write to stdout; 4 the broker refused; 5 timeout; 130 interrupted";

#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Common {
    /// The broker's URL
    #[arg(
        short,
        long,
        global = true,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@localhost:5672/%2F"
    )]
    pub(crate) url: String,
    /// The event loop that serves the connection
    #[arg(long, global = true, value_enum, default_value = "select")]
    pub(crate) adapter: AdapterKind,
    /// The system call that the select adapter waits with: auto, select, poll, epoll or kqueue
    #[arg(long, global = true, default_value = "auto")]
    pub(crate) poller: PollerKind,
    /// Trust the CA certificates in this file (PEM) instead of the system's; this, --cert, --key and --tls are for amqps:// only
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// The client certificate to present (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The client certificate's key (PEM, not encrypted)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The library for TLS
    #[arg(long, global = true, value_enum)]
    pub(crate) tls: Option<TlsKind>,
    /// Seconds to wait for the connection and for each reply and confirm, but not for messages
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// A back end of TLS, by its name on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum TlsKind {
    Rustls,
    NativeTls,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connect, and print the broker's name and version
    Ping,
    /// Publish messages, and wait for the broker's confirms
    Publish(Publish),
    /// Write the messages of a queue to stdout, and acknowledge those that were read
    Consume(Consume),
    /// Write one message of a queue to stdout, and acknowledge it
    Get(Get),
    /// Declare a queue or an exchange
    Declare(Declare),
    /// Delete a queue or an exchange
    Delete(Delete),
    /// Drop the messages of a queue
    Purge(Purge),
    /// Bind a queue to an exchange
    Bind(Bind),
    /// Measure a workload; the result is a line of JSON
    Bench(Bench),
}

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// The exchange; empty is the default exchange, which routes to the queue that the key names
    #[arg(short, long, default_value = "")]
    pub(crate) exchange: String,
    /// The routing key
    #[arg(short = 'r', long = "routing-key", default_value = "")]
    pub(crate) routing_key: String,
    /// The body; without it and without --lines it is all of stdin
    #[arg(short, long, conflicts_with = "lines")]
    pub(crate) body: Option<String>,
    /// Publish each line of stdin as a message
    #[arg(long)]
    pub(crate) lines: bool,
    /// Publish the message so many times
    #[arg(long, default_value_t = 1, conflicts_with = "lines")]
    pub(crate) count: u64,
    /// Drop a message that no queue is bound for; otherwise it is an error
    #[arg(long, overrides_with = "mandatory")]
    pub(crate) no_mandatory: bool,
    /// A message that no queue is bound for is an error: the default
    #[arg(long, overrides_with = "no_mandatory", hide = true)]
    pub(crate) mandatory: bool,
    /// Do not wait for confirms
    #[arg(long)]
    pub(crate) no_confirm: bool,
    /// Ask durable queues to write the messages to disk
    #[arg(long)]
    pub(crate) persistent: bool,
    /// A header; true, false and integers have their own types, all else is text
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) headers: Vec<(String, Value)>,
}

#[derive(Args, Debug)]
pub(crate) struct Consume {
    /// The queue
    #[arg(short, long)]
    pub(crate) queue: String,
    /// Stop after so many messages
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How many messages may be unacknowledged at a time; 0 is no limit
    #[arg(long, default_value_t = 100)]
    pub(crate) prefetch: u16,
    /// Count messages as acknowledged when the broker sends them: faster, but they can be lost
    #[arg(long)]
    pub(crate) no_ack: bool,
    /// Stop when no message has come for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle_timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Format {
    /// End each body with a newline
    #[arg(long, conflicts_with = "json")]
    pub(crate) lines: bool,
    /// Write each message as an object, one a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The queue
    #[arg(short, long)]
    pub(crate) queue: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["queue", "exchange"]))]
pub(crate) struct Declare {
    /// The queue; empty lets the broker choose a name
    #[arg(short, long)]
    pub(crate) queue: Option<String>,
    /// The exchange
    #[arg(short, long)]
    pub(crate) exchange: Option<String>,
    /// The exchange's type: direct, fanout, topic, headers, or a plugin's
    #[arg(short = 't', long = "type", default_value = "direct", conflicts_with = "queue")]
    pub(crate) exchange_type: String,
    /// Do not keep it over a restart of the broker
    #[arg(long)]
    pub(crate) transient: bool,
    /// Make it this connection's alone: it is deleted when this command ends
    #[arg(long, conflicts_with = "exchange")]
    pub(crate) exclusive: bool,
    /// Delete it with its last consumer, or its last binding
    #[arg(long)]
    pub(crate) auto_delete: bool,
    /// Only look whether it exists
    #[arg(long)]
    pub(crate) passive: bool,
    /// An argument, x-queue-type=quorum for example
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) arguments: Vec<(String, Value)>,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["queue", "exchange"]))]
pub(crate) struct Delete {
    /// The queue
    #[arg(short, long)]
    pub(crate) queue: Option<String>,
    /// The exchange
    #[arg(short, long)]
    pub(crate) exchange: Option<String>,
    /// Only if it has no consumer, or nothing is bound to it
    #[arg(long)]
    pub(crate) if_unused: bool,
    /// Only if it has no messages
    #[arg(long, conflicts_with = "exchange")]
    pub(crate) if_empty: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Purge {
    /// The queue
    #[arg(short, long)]
    pub(crate) queue: String,
}

#[derive(Args, Debug)]
pub(crate) struct Bind {
    /// The queue
    #[arg(short, long)]
    pub(crate) queue: String,
    /// The exchange
    #[arg(short, long)]
    pub(crate) exchange: String,
    /// The routing key
    #[arg(short = 'r', long = "routing-key", default_value = "")]
    pub(crate) routing_key: String,
    /// An argument, for a headers exchange
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) arguments: Vec<(String, Value)>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Bench {
    /// The workload to measure
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    /// How many messages, or connections for idle
    #[arg(long, default_value_t = 100_000)]
    pub(crate) messages: u64,
    /// Octets in a body
    #[arg(long, default_value_t = 16)]
    pub(crate) size: usize,
    /// How many publishes may wait for their confirms
    #[arg(long, default_value_t = 1000)]
    pub(crate) window: u64,
    /// How many messages may be unacknowledged at a time
    #[arg(long, default_value_t = 1000)]
    pub(crate) prefetch: u16,
    /// The queue that is consumed; otherwise flood-MESSAGES-SIZE, which the benchmarks' null broker makes up
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Seconds for which idle connections are held
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) hold: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    Publish,
    PublishConfirm,
    #[value(name = "publish-confirm-1")]
    PublishConfirm1,
    ConsumeAutoack,
    ConsumeAck,
    Get,
    Pingpong,
    Idle,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("not a positive number of seconds".into()),
    }
}

fn pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    let value = match (value, value.parse::<i64>()) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        (_, Ok(number)) => number.into(),
        (text, _) => text.into(),
    };
    Ok((key.into(), value))
}

/// Headers or arguments as a table.
pub(crate) fn table(pairs: Vec<(String, Value)>) -> Table {
    pairs.into_iter().fold(Table::default(), |table, (key, value)| table.with(key, value))
}
