//! `fluffle`: command-line tools for services on RabbitMQ.

mod args;
mod bench;
mod common;
mod decode;
mod dlq;
mod doctor;
mod explain;
mod message;
mod new;
mod plan;
mod publish;
mod shell;
mod tail;
mod top;
mod topology;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command},
    common::exit::{Exit, exit_code, of_usage},
};

fn main() -> ExitCode {
    // For TLS to the management API. An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return of_usage(&error),
    };
    match cli.command {
        Command::Bench(args) => exit_code("bench", bench::command(&args)),
        Command::Explain(args) => exit_code("explain", explain::command(&args)),
        Command::Publish(args) => exit_code("publish", publish::command(&args)),
        Command::Tail(args) => exit_code("tail", tail::command(&args)),
        Command::Top(args) => exit_code("top", top::command(&args)),
        Command::Plan(args) => exit_code("plan", plan::command(&args).map(|()| Exit::Clean)),
        Command::New(args) => exit_code("new", new::make(&args)),
        Command::Topology(args) => exit_code(args.name(), topology::command(&args)),
        Command::Dlq(args) => exit_code("dlq", dlq::command(&args)),
        Command::Doctor(args) => exit_code("doctor", doctor::command(&args)),
        Command::Completions(args) => exit_code("completions", shell::completions(&args, Cli::command())),
        Command::Man(args) => exit_code("man", shell::man(&args, Cli::command())),
    }
}
