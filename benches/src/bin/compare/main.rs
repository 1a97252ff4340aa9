//! Compares Fluffle with other clients: the same messages go through the same broker, with lapin as in its examples,
//! with hand-optimized lapin, with amqprs, with ruststream, and with Fluffle.
//!
//! `cargo run --release -p benches --bin compare -- --scenario single`; the broker is a private RabbitMQ node, or the
//! one that `AMQP_URL` names.
//!
//! All contestants run in one process, in interleaved rounds, of which the median counts. In each round, every
//! contestant publishes the same number of messages to a fresh queue, awaits and checks every confirm, and handles and
//! acknowledges every delivery. [`course`] checks that each message was handled exactly once, and the queue must be
//! empty afterwards. Connecting, and a fifth of the messages to warm up, are not counted. Contestants differ only in
//! their file under `contestants/`.

mod body;
mod contestant;
mod contestants;
mod course;
mod cpu;
mod failure;
mod figures;
mod grouped;
mod latency;
mod machine;
mod node;
mod overview;
mod pace;
mod prices;
mod report;
mod rounds;
mod scenario;
mod spans;
mod table;
mod targets;

use std::{fmt::Display, process::ExitCode, time::Duration};

use clap::{
    Parser, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    body::Bodies, contestant::Contestant, failure::Failure, figures::Figures, machine::Machine, node::Node,
    overview::Overview, report::Report, rounds::Plan, scenario::Scenario, table::Tables,
};

/// What is compared.
#[derive(Clone, Copy)]
enum Subject {
    /// The clients, at this work.
    Clients(Scenario),
    /// The guarantees of Fluffle.
    Prices,
    /// What was wanted and what is, of both.
    Targets,
}

fn subject() -> impl TypedValueParser<Value = Subject> {
    let prices = PossibleValue::new("prices").help("What each guarantee of Fluffle costs; takes 10 minutes or more");
    let clients = Scenario::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let targets = PossibleValue::new("targets").help("All targets in one run; takes 10 minutes or more");
    let subject = |name: String| match (name.as_str(), Scenario::from_str(&name, false)) {
        (_, Ok(scenario)) => Subject::Clients(scenario),
        ("targets", _) => Subject::Targets,
        _ => Subject::Prices,
    };
    PossibleValuesParser::new(clients.chain([prices, targets])).map(subject)
}

/// Compares Fluffle with hand-written lapin, amqprs and ruststream: the same work, in turns, through one broker.
#[derive(Parser)]
struct Arguments {
    /// The kind of work
    #[arg(long, value_parser = subject())]
    scenario: Subject,

    /// About how long all counted rounds of all contestants take together, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Counted rounds; one more before them warms up
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,

    /// Run only these contestants, for example `--only fluffle,lapin_tuned`. Only this option includes lapin_labelled,
    /// which is lapin_tuned with the labels that Fluffle gives each message; fluffle_adaptive, whose batches form by
    /// themselves (the scenario adaptive has it anyway); fluffle_metrics, which has metrics and the looks of the status
    /// page; fluffle_on_io, whose handlers run where deliveries arrive; and fluffle_traces, which makes spans of 1 % of
    /// the messages
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contestant>,

    /// Run only these ways of the price list, for example `--ways batches,batches_once_on_disk`. A ratio needs the
    /// first way of its group
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(prices::names()))]
    ways: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.scenario {
        Subject::Clients(scenario) => clients(arguments, scenario),
        Subject::Prices => prices(arguments),
        Subject::Targets => targets(arguments),
    }
}

fn targets(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.only.is_empty() || !arguments.ways.is_empty() {
        return Err("targets has its own contestants and ways: leave --only and --ways away".into());
    }
    let mut node = Node::start()?;
    let mut reports = Vec::new();
    for (scenario, contestants, share) in overview::SCENARIOS {
        eprintln!("{}", scenario.name());
        let time = time(arguments).mul_f64(share);
        reports.push(compared(&mut node, scenario, contestants.to_vec(), (arguments.rounds, time))?);
    }
    eprintln!("prices");
    let ways = overview::WAYS.map(str::to_owned);
    let prices = priced(&mut node, &ways, (arguments.rounds, time(arguments).mul_f64(overview::WAYS_SHARE)))?;
    let overview = Overview::new(reports, prices, Machine::here(node.version()));
    print(&overview, &overview, arguments.json)
}

/// Prints one JSON object, or the tables.
fn print(object: &impl Serialize, tables: &impl Display, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string_pretty(object)?);
    } else {
        println!("{tables}");
    }
    Ok(())
}

fn prices(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.only.is_empty() {
        return Err("prices has no contestants: leave --only away".into());
    }
    let mut node = Node::start()?;
    let report = priced(&mut node, &arguments.ways, (arguments.rounds, time(arguments)))?;
    print(&report, &report, arguments.json)
}

/// Compares the ways of these names, or all if there are none.
fn priced(node: &mut Node, ways: &[String], (rounds, time): (u32, Duration)) -> Result<prices::Report, Failure> {
    let _spans = spans::collect();
    let ways = prices::ways(ways);
    let progress = progress((rounds as usize + 1) * ways.len());
    let results = prices::run(node, ways, rounds as usize, time, |round, way, figures| {
        progress.suspend(|| eprintln!("{}", line(round, way.name, figures)));
        progress.inc(1);
    })?;
    progress.finish_and_clear();
    Ok(prices::Report::new(&results, Machine::here(node.version())))
}

fn time(arguments: &Arguments) -> Duration {
    Duration::from_secs(arguments.seconds.into())
}

fn clients(arguments: &Arguments, scenario: Scenario) -> Result<(), Failure> {
    let mut contestants = scenario.contestants();
    if !arguments.only.is_empty() {
        contestants.extend(scenario.guests());
        contestants.retain(|contestant| arguments.only.contains(contestant));
    }
    if !arguments.ways.is_empty() {
        return Err("only prices has ways: leave --ways away".into());
    }
    if contestants.is_empty() {
        return Err(format!("none of those takes part in {}", scenario.name()).into());
    }
    let mut node = Node::start()?;
    let report = compared(&mut node, scenario, contestants, (arguments.rounds, time(arguments)))?;
    print(&report, &Tables { scenario, report: &report }, arguments.json)
}

/// Compares these contestants.
fn compared(
    node: &mut Node,
    scenario: Scenario,
    contestants: Vec<Contestant>,
    (rounds, time): (u32, Duration),
) -> Result<Report, Failure> {
    let _spans = contestants.contains(&Contestant::FluffleTraces).then(spans::collect);
    let records = Bodies::of_quakes(examples::feed::read()?);
    let bodies = if scenario.terms().records { records.bytes() } else { scenario.terms().payload_bytes };
    let plan = Plan { scenario, contestants, rounds: rounds as usize, records, time };
    let progress = progress((plan.rounds + 1) * plan.contestants.len());
    let results = plan.run(node, |round, contestant, figures| {
        progress.suspend(|| eprintln!("{}", line(round, contestant.name(), figures)));
        progress.inc(1);
    })?;
    progress.finish_and_clear();
    Ok(Report::new(scenario, bodies, &results, Machine::here(node.version())))
}

fn progress(steps: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left").unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn line(round: usize, name: &str, figures: &Figures) -> String {
    let round = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
    let latency = figures.p50_us.zip(figures.p99_us);
    let latency = latency.map_or_else(String::new, |(p50, p99)| format!(", p50 {p50:.0} µs, p99 {p99:.0} µs"));
    format!("{round:>9}  {:<22} {:>9.0} messages/s{latency}", name, figures.msgs_per_s)
}
