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
mod topology;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command},
    common::failure::{exit_code, own_code},
};

fn main() -> ExitCode {
    // For TLS to the management API. An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Bench(args) => bench::command(&args),
        Command::Explain(args) => own_code("explain", explain::command(&args)),
        Command::Publish(args) => own_code("publish", publish::command(&args)),
        Command::Tail(args) => exit_code("tail", tail::command(&args)),
        Command::Plan(args) => exit_code("plan", plan::command(&args)),
        Command::New(args) => exit_code("new", new::make(&args)),
        Command::Topology(args) => topology::command(&args),
        Command::Dlq(args) => dlq::command(&args),
        Command::Doctor(args) => doctor::command(&args),
        Command::Completions(args) => exit_code("completions", shell::completions(&args, Cli::command())),
        Command::Man(args) => exit_code("man", shell::man(&args, Cli::command())),
    }
}
