//! How long a service is held up when something of the broker, or of itself, dies.
//!
//! ```sh
//! cargo run --release -p benches --bin recovery
//! ```
//!
//! It starts private RabbitMQ nodes: one, and a cluster of three. With names of experiments as arguments, only those
//! are carried out. Beside the service, a client written with lapin alone uses the same queue on a node that lives, so
//! that the time that RabbitMQ itself takes is known. Every number is one run; `--rounds` repeats each experiment, and
//! then the median and the worst are shown.

mod cluster;
mod handover;
mod load;
mod node;
mod shared;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::shared::Failure;

/// Measures how long a service is held up when something dies.
#[derive(Parser)]
struct Arguments {
    /// The experiments; all, if none is named.
    experiment: Vec<Experiment>,
    /// How often each is carried out.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Consume from a queue with a single active consumer, as a process of its own. Used by `handover` itself.
    #[arg(long, hide = true)]
    consume: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Experiment {
    /// The node that leads the queue and holds the connections is killed under load.
    Leader,
    /// All nodes are restarted one by one under load.
    Rolling,
    /// The first endpoint accepts nothing and answers nothing.
    BlackHole,
    /// The process with the single active consumer is killed, or ends in order.
    Handover,
    /// A lone broker is killed and started again.
    Broker,
    /// A handler panics.
    Handler,
}

/// One measured time, and what it is.
struct Measured {
    what: &'static str,
    times: Vec<Duration>,
}

#[actix::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(url) = arguments.consume {
        return handover::consume(&url).await;
    }
    let is_wanted = |one: Experiment| arguments.experiment.is_empty() || arguments.experiment.contains(&one);
    for experiment in Experiment::value_variants().iter().copied().filter(|one| is_wanted(*one)) {
        let mut results: Vec<Measured> = Vec::new();
        for _ in 0..arguments.rounds {
            for (what, time) in carry_out(experiment).await? {
                match results.iter_mut().find(|measured| measured.what == what) {
                    Some(measured) => measured.times.push(time),
                    None => results.push(Measured { what, times: vec![time] }),
                }
            }
        }
        results.iter_mut().for_each(show);
    }
    Ok(())
}

async fn carry_out(experiment: Experiment) -> Result<Vec<(&'static str, Duration)>, Failure> {
    eprintln!("{experiment:?} ...");
    match experiment {
        Experiment::Leader => cluster::leader().await,
        Experiment::Rolling => cluster::rolling().await,
        Experiment::BlackHole => cluster::black_hole().await,
        Experiment::Handover => handover::measure().await,
        Experiment::Broker => node::broker_is_back().await,
        Experiment::Handler => node::handler_panics().await,
    }
}

fn show(measured: &mut Measured) {
    measured.times.sort();
    let of = measured.times.len();
    let (median, worst) = (measured.times[of / 2], measured.times[of - 1]);
    println!("{:<60} median={median:>10.1?} worst={worst:>10.1?} rounds={of}", measured.what);
}
