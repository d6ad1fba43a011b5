//! `pooka`: publish, consume and look at a RabbitMQ from the command line.
#![forbid(unsafe_code)]

mod adapter;
mod app;
mod blocking;
mod commands;
mod end;
mod message;
mod options;
mod progress;
mod stdin;
mod stdout;

use adapter::AdapterKind;
use clap::Parser;
use commands::{bench, consume, get, ping, publish, topology};
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
    end.print();
    end.code().into()
}
