//! `fluffle`: what one wants to have beside a service on RabbitMQ. So far `fluffle bench`, a load generator.

mod args;
mod bench;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Bench(args) => bench::command(&args),
    }
}
