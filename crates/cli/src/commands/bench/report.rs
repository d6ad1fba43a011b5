//! Clocks, and the line of JSON.

use crate::{end::End, options::Bench};
use clap::ValueEnum;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde_json::{Map, Value};
use std::{
    fs,
    io::{self, Write},
    time::Instant,
};

/// What has been used up so far.
pub(crate) struct Usage {
    at: Instant,
    user: f64,
    system: f64,
    max_rss_kb: u64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let used = getrusage(UsageWho::RUSAGE_SELF);
        let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
        let (user, system) = used.map_or((0.0, 0.0), |used| (seconds(used.user_time()), seconds(used.system_time())));
        // Not ru_maxrss: that one survives exec, and so may be the parent's.
        Self { at: Instant::now(), user, system, max_rss_kb: status_kb("VmHWM:") }
    }

    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// A line of `/proc/self/status`, in KiB; 0 where there is none.
pub(crate) fn status_kb(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// How long round trips took, in nanoseconds.
#[derive(Default)]
pub(crate) struct Latencies {
    begun: Option<Instant>,
    nanos: Vec<u64>,
}

impl Latencies {
    pub(crate) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    pub(crate) fn end(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.nanos.push(begun.elapsed().as_nanos() as u64);
        }
    }

    pub(crate) fn quantiles(&mut self) -> Vec<(&'static str, f64)> {
        self.nanos.sort_unstable();
        let Some(last) = self.nanos.len().checked_sub(1) else { return vec![] };
        let at = |share: f64| self.nanos.get((last as f64 * share) as usize).map_or(0.0, |nanos| *nanos as f64 / 1e3);
        vec![("p50_us", at(0.5)), ("p99_us", at(0.99))]
    }
}

/// Prints the line, which says all there is to say of a measurement that ended well.
pub(crate) fn print(peer: &str, options: &Bench, from: &Usage, to: &Usage, extra: &[(&str, f64)]) -> End {
    let wall = to.at.duration_since(from.at).as_secs_f64();
    let messages = options.messages as f64;
    let workload = options.workload.to_possible_value();
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| line.insert(name.into(), value);
    put("peer", peer.into());
    put("workload", workload.map_or(Value::Null, |workload| workload.get_name().into()));
    put("messages", options.messages.into());
    put("size", options.size.into());
    put("wall_s", wall.into());
    put("user_s", (to.user - from.user).into());
    put("sys_s", (to.system - from.system).into());
    put("max_rss_kb", to.max_rss_kb.into());
    put("msgs_per_s", (messages / wall).into());
    put("cpu_ns_per_msg", ((to.cpu() - from.cpu()) * 1e9 / messages).into());
    for (name, value) in extra {
        put(name, (*value).into());
    }
    match writeln!(io::stdout(), "{}", Value::from(line)) {
        Ok(()) => End::Done(String::new()),
        Err(error) => End::Lost(format!("cannot write to stdout: {error}")),
    }
}
