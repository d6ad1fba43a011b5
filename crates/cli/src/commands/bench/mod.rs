//! `pooka bench`: the workloads that clients are compared by, each with one line of JSON at its end.

mod consuming;
mod idle;
mod publishing;
pub(crate) mod report;
mod round_trips;

use crate::{
    adapter::{self, OnOpen},
    app::App,
    end::End,
    options::{Bench, Common, Workload},
};
use pooka::{Channel, ConnectionHandle, Result};
use report::{Latencies, Usage};

/// The state of a workload.
struct Run {
    options: Bench,
    peer: String,
    body: Vec<u8>,
    queue: String,
    /// Messages sent, and messages that are through.
    begun: u64,
    done: u64,
    pressed: bool,
    from: Usage,
    latencies: Latencies,
}

pub(crate) fn run(common: &Common, options: &Bench) -> End {
    let peer = format!("pooka-{}", common.adapter);
    if options.workload == Workload::Idle {
        return idle::run(common, options, &peer);
    }
    let queue = options.queue.clone();
    let on_open: OnOpen<Run> = match options.workload {
        Workload::Publish => publishing::unconfirmed,
        Workload::PublishConfirm => publishing::confirmed,
        Workload::PublishConfirm1 => round_trips::confirms,
        Workload::ConsumeAutoack | Workload::ConsumeAck => consuming::consume,
        Workload::Get => round_trips::gets,
        Workload::Pingpong => round_trips::pings,
        Workload::Idle => return End::Usage("idle has no connection of its own".into()),
    };
    let run = Run {
        peer,
        body: vec![b'x'; options.size],
        queue: queue.unwrap_or_else(|| format!("flood-{}-{}", options.messages, options.size)),
        begun: 0,
        done: 0,
        pressed: false,
        from: Usage::now(),
        latencies: Latencies::default(),
        options: options.clone(),
    };
    adapter::run(common, run, on_open)
}

type BenchConnection = ConnectionHandle<App<Run>>;
type BenchChannel = Channel<App<Run>>;

/// An exchange without a queue, which drops every message.
pub(crate) const DROP: &str = "bench.drop";
pub(crate) const KEY: &str = "bench";
/// A queue of the connection's own, named by the broker. Its declaration is answered when everything before it has been taken.
pub(crate) const SYNC: &str = "";

impl Run {
    /// Starts the measurement.
    fn begin(&mut self) {
        self.from = Usage::now();
    }
}

/// Prints the result and ends the command, after the last message.
fn finish(app: &mut App<Run>, connection: &BenchConnection, more: &[(&str, f64)]) {
    let to = Usage::now();
    let run = &mut app.work;
    let mut extra = run.latencies.quantiles();
    extra.extend_from_slice(more);
    let end = report::print(&run.peer, &run.options, &run.from, &to, &extra);
    app.end(connection, end);
}

fn declare_drop(channel: &BenchChannel) -> Result<()> {
    channel.exchange_declare(DROP).exchange_type("fanout").durable(false).send()
}
