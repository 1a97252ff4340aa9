//! What replication costs: kinds of queues, unreplicated and with a replica on each of three nodes, are compared on
//! one cluster, in turns.
//!
//! The nodes share the cores of one machine, so only the ratios say something, and three replicas cost three times
//! the CPU time here that each of three machines would spend. The client costs almost nothing (`wire.rs`).
//!
//! ```sh
//! eval "$(benches/three_nodes.sh up /tmp/three)"
//! cargo run --release -p benches --bin replication -- $NODES
//! benches/three_nodes.sh down /tmp/three
//! ```

mod cpu;
mod failure;
mod kind;
mod round;
mod wire;

use std::{str::FromStr, time::Duration};

use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    failure::Failure,
    kind::{ALL, Kind},
    round::{Figures, Terms},
};

/// Compares kinds of queues on a cluster of three nodes.
#[derive(Debug, Parser)]
struct Arguments {
    /// A node of the cluster and the process of its virtual machine, HOST:PORT=PID; three times.
    #[arg(long, required = true)]
    node: Vec<Node>,
    /// Bytes of a message; several times for several sizes.
    #[arg(long, default_values_t = [100, 65536])]
    size: Vec<usize>,
    /// Rounds of each kind and size; the medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a round publishes, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
struct Node {
    address: String,
    pid: u32,
}

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('=').and_then(|(address, pid)| Some((address.to_owned(), pid.parse().ok()?)));
        let (address, pid) = parts.ok_or_else(|| format!("`{text}` is not HOST:PORT=PID"))?;
        Ok(Self { address, pid })
    }
}

/// A row of the result: medians, and their ratios to the first kind.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    bytes: usize,
    messages_per_s: f64,
    broker_cpu_us_per_message: f64,
    confirm_ms: f64,
    rate_ratio: f64,
    cpu_ratio: f64,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if arguments.node.len() < 3 || arguments.rounds == 0 {
        return Err("three nodes and a round are needed: --node HOST:PORT=PID, three times".into());
    }
    let (nodes, pids): (Vec<_>, Vec<_>) = arguments.node.iter().cloned().map(|node| (node.address, node.pid)).unzip();
    let mut rows = Vec::new();
    for &size in &arguments.size {
        let terms = Terms { nodes: &nodes, pids: &pids, size, time: Duration::from_secs(arguments.seconds) };
        rows.extend(compare(&terms, arguments.rounds)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    Ok(())
}

/// All kinds in turns, so that what else runs on the machine harms all of them.
fn compare(terms: &Terms<'_>, rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut figures = ALL.map(|_| Vec::new());
    for round in 0..rounds {
        for (kind, figures) in ALL.iter().zip(&mut figures) {
            let name = format!("fluffle.replication.{}.{round}", std::process::id());
            let found = terms.round(*kind, &name).map_err(|error| format!("{}: {error}", kind.name))?;
            eprintln!("{} B, {}: {found:.1?}", terms.size, kind.name);
            figures.push(found);
        }
    }
    let medians = figures.map(|figures| medians(&figures));
    let base = medians[0];
    Ok(ALL.iter().zip(medians).map(|(kind, figures)| row(*kind, terms.size, figures, base)).collect())
}

fn row(kind: Kind, bytes: usize, figures: Figures, base: Figures) -> Row {
    Row {
        kind: kind.name,
        bytes,
        messages_per_s: figures.rate,
        broker_cpu_us_per_message: figures.cpu,
        confirm_ms: figures.confirm,
        rate_ratio: figures.rate / base.rate,
        cpu_ratio: figures.cpu / base.cpu,
    }
}

fn medians(figures: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures { rate: median(|it| it.rate), cpu: median(|it| it.cpu), confirm: median(|it| it.confirm) }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["queue", "bytes", "messages/s", "ratio", "brokers' CPU µs", "ratio", "lone confirm ms"]);
    for row in rows {
        table.add_row([
            row.kind.to_owned(),
            row.bytes.to_string(),
            format!("{:.0}", row.messages_per_s),
            format!("{:.2}", row.rate_ratio),
            format!("{:.1}", row.broker_cpu_us_per_message),
            format!("{:.2}", row.cpu_ratio),
            format!("{:.2}", row.confirm_ms),
        ]);
    }
    table
}
