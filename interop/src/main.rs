//! Runs Fluffle against peers in other languages, one after the other, on each broker, and checks every message both
//! ways. `cargo xtask interop` builds the peers and calls this program; interop/README.md describes the peers.

mod amqp_headers;
mod fluffle_side;
mod peer;
mod report;
mod scenario;
mod tap;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use fluffle::Error;
use fluffle_harness::RabbitMq;

use crate::{
    peer::{PATIENCE, Place},
    report::Report,
};

/// Runs Fluffle against peers in other languages.
#[derive(Parser)]
struct Arguments {
    /// The brokers to run on.
    #[arg(long, value_enum, default_value_t = Brokers::Both)]
    broker: Brokers,
    /// The folder with the peers' programs.
    #[arg(long, default_value = "target/interop")]
    programs: PathBuf,
    /// The folder with the test vectors.
    #[arg(long, default_value = "docs/vectors")]
    vectors: PathBuf,
    /// The names of the peers: folders in the folder of programs.
    #[arg(required = true)]
    peers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Brokers {
    Embedded,
    Rabbitmq,
    Both,
}

#[actix::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let reports = match run(&arguments).await {
        Ok(reports) => reports,
        Err(error) => {
            eprintln!("interop: {error}");
            return ExitCode::FAILURE;
        }
    };
    for report in &reports {
        for (step, why) in report.failures() {
            eprintln!("interop: {} on {}: {step}: {why}", report.peer, report.broker);
        }
    }
    for report in &reports {
        println!("{report}");
    }
    let wanted = arguments.peers.len() * if arguments.broker == Brokers::Both { 2 } else { 1 };
    let is_ok = reports.len() == wanted && reports.iter().all(Report::is_ok);
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: &Arguments) -> Result<Vec<Report>, Error> {
    let (programs, vectors) = (arguments.programs.clone(), arguments.vectors.clone());
    let place = Place { programs, vectors, patience: PATIENCE };
    let mut reports = Vec::new();
    if arguments.broker != Brokers::Rabbitmq {
        let broker = fluffle::broker::Broker::start()?;
        on(&broker.url(), "embedded", &place, &arguments.peers, &mut reports).await;
    }
    if arguments.broker != Brokers::Embedded {
        let node = RabbitMq::start().map_err(Error::other)?;
        on(&node.url(), "rabbitmq", &place, &arguments.peers, &mut reports).await;
    }
    Ok(reports)
}

async fn on(url: &str, broker: &'static str, place: &Place, peers: &[String], reports: &mut Vec<Report>) {
    for peer in peers {
        eprintln!("==> {peer} on {broker}");
        reports.push(scenario::run(peer, broker, url, place).await);
    }
}
