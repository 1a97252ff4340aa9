//! Simulates a service that is scaled by KEDA: by how many messages wait (deploy/kubernetes/overlays/queue-length)
//! and by how long they take (overlays/drain-time). For each it counts what the pods cost, in pod-hours, and how old
//! messages get.
//!
//! Nothing is measured here but the framework's CPU time for a message, which is that of docs/performance. The rest is
//! the documented behaviour of KEDA and of Kubernetes' autoscaler, and assumptions, which the output names.
//!
//! `cargo run -p benches --bin autoscale`; takes some seconds.

mod arrivals;
mod failure;
mod hpa;
mod pods;
mod run;
mod scaler;

use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    arrivals::Workload,
    failure::Failure,
    pods::Pod,
    run::Outcome,
    scaler::{Limits, Scaler},
};

/// Compares ways to scale a service, over a week.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seed of the arrivals.
    #[arg(long, default_value_t = 21)]
    seed: u64,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// A row of the result.
#[derive(Debug, Serialize)]
struct Row {
    workload: &'static str,
    scaler: String,
    #[serde(flatten)]
    outcome: Outcome,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let pod = Pod::measured()?;
    let mut rows = Vec::new();
    for workload in Workload::ALL {
        let arrivals = workload.arrivals(arguments.seed)?;
        let work = |second| workload.slowness(second);
        for (scaler, limits) in candidates() {
            let outcome = run::week(&arrivals, &work, &pod, &scaler, limits);
            rows.push(Row { workload: workload.name(), scaler: scaler.title(limits), outcome });
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("{pod}\nseed {}\n", arguments.seed);
    for workload in Workload::ALL {
        println!("{}: {}\n\n{}\n", workload.name(), workload.about(), table(workload.name(), &rows));
    }
    Ok(())
}

/// What is compared. The first is what a service without autoscaling must have for its peak.
fn candidates() -> Vec<(Scaler, Limits)> {
    let (two, zero) = (Limits::default(), Limits { least: 0, ..Limits::default() });
    vec![
        (Scaler::Fixed(20), two),
        (Scaler::Fixed(6), two),
        (Scaler::QueueLength(100), two),
        (Scaler::QueueLength(300), two),
        (Scaler::QueueLength(3000), two),
        (Scaler::DrainTime(30), two),
        (Scaler::DrainTime(10), two),
        (Scaler::QueueLength(300), zero),
        (Scaler::DrainTime(30), zero),
    ]
}

fn table(workload: &str, rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["scaled by", "pod-hours", "p50 age", "p99 age", "oldest", "over a minute", "pods", "changes"]);
    for Row { scaler, outcome, .. } in rows.iter().filter(|row| row.workload == workload) {
        table.add_row([
            scaler.clone(),
            format!("{:.0}", outcome.pod_hours),
            format!("{} s", outcome.p50_age_s),
            format!("{} s", outcome.p99_age_s),
            format!("{} s", outcome.oldest_s),
            format!("{:.2} %", outcome.over_a_minute * 100.0),
            format!("{} to {}", outcome.fewest_pods, outcome.most_pods),
            outcome.changes.to_string(),
        ]);
    }
    table
}
