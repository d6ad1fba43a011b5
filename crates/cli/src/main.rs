//! `pooka`: publish, consume and look at a RabbitMQ from the command line.
#![forbid(unsafe_code)]

mod adapter;
mod app;
mod bench;
mod blocking;
mod consume;
mod end;
mod get;
mod input;
mod options;
mod output;
mod ping;
mod progress;
mod publish;
mod topology;

use adapter::AdapterKind;
use clap::Parser;
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Options { common, command } = Options::parse();
    let end = match command {
        command if common.adapter == AdapterKind::Blocking => blocking::run(&common, command),
        Command::Ping => ping::run(&common),
        Command::Publish(options) => publish::run(&common, options),
        Command::Consume(options) => consume::run(&common, options),
        Command::Get(options) => get::run(&common, options),
        Command::Declare(options) => topology::declare(&common, options),
        Command::Delete(options) => topology::delete(&common, options),
        Command::Purge(options) => topology::purge(&common, options),
        Command::Bind(options) => topology::bind(&common, options),
        Command::Bench(options) => bench::run(&common, &options),
    };
    end.tell();
    end.code().into()
}
