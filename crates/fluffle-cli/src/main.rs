//! `fluffle`: command-line tools for services on RabbitMQ.

mod args;
mod bench;
mod common;
mod dlq;
mod doctor;
mod new;
mod shell;
mod topology;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command},
    common::failure::exit_code,
};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Bench(args) => bench::command(&args),
        Command::New(args) => exit_code("new", new::make(&args)),
        Command::Topology(args) => topology::command(&args),
        Command::Dlq(args) => dlq::command(&args),
        Command::Doctor(args) => doctor::command(&args),
        Command::Completions(args) => exit_code("completions", shell::completions(&args, Cli::command())),
        Command::Man(args) => exit_code("man", shell::man(&args, Cli::command())),
    }
}
