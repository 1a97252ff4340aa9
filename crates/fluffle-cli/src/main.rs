//! `fluffle`: command-line tools for services on RabbitMQ. So far there is one, `fluffle bench`, a load generator.

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
