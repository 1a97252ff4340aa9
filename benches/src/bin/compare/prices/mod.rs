//! The price list: what each guarantee of Fluffle costs, in one run. Each way has a round flat out, for throughput and
//! processor time, and one at a fixed rate, for latency. Message counts differ, because the rates do.

mod database;
mod report;
mod service;
mod way;

use std::{sync::Arc, time::Duration};

use fluffle_harness::Postgres;

pub(crate) use self::report::Report;
use crate::{
    body::Bodies,
    course::Course,
    failure::Failure,
    figures::Figures,
    node::Node,
    prices::way::{WAYS, Way},
    rounds,
    scenario::Terms,
};

/// The size of each message.
const BYTES: usize = 100;

/// The rate of the rounds for latency is this many a second, or half of the rate flat out if that is less.
const PACED: f64 = 1000.0;

/// The figures of one way, one for each round.
pub(crate) type Results = Vec<(Way, Vec<Figures>)>;

/// Runs an uncounted round of each way, to learn its rate, then the counted ones, in turns. Calls `watch` with each
/// result and the number of its round. Without a PostgreSQL server, the ways that need one are left out.
pub(crate) fn run(
    node: &mut Node,
    ways: Vec<Way>,
    rounds: usize,
    time: Duration,
    watch: impl Fn(usize, &Way, &Figures),
) -> Result<Results, Failure> {
    let postgres = Postgres::is_installed().then(Postgres::start).transpose()?;
    let url = postgres.as_ref().map(Postgres::url);
    let mut rates = Vec::new();
    for way in ways {
        let figures = round(node, &way, url.as_deref(), way.first_messages(), None)?;
        watch(0, &way, &figures);
        rates.push((way, figures.msgs_per_s));
    }
    let each = time / (2 * rounds * rates.len()) as u32;
    let mut results: Results = rates.iter().map(|(way, _)| (*way, Vec::new())).collect();
    for number in 1..=rounds {
        for turn in 0..rates.len() {
            let index = (number + turn) % rates.len();
            let (way, rate) = rates[index];
            let flat_out = round(node, &way, url.as_deref(), (rate * each.as_secs_f64()) as u64, None)?;
            let pace = PACED.min(rate / 2.0);
            let interval = Duration::from_secs_f64(1.0 / pace);
            let paced = round(node, &way, url.as_deref(), (pace * each.as_secs_f64()) as u64, Some(interval))?;
            let figures = Figures { p50_us: paced.p50_us, p99_us: paced.p99_us, ..flat_out };
            watch(number, &way, &figures);
            results[index].1.push(figures);
        }
    }
    Ok(results)
}

/// The names of all ways.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    WAYS.iter().map(|way| way.name)
}

/// The ways of these names, or all if there are none, except those that need a server that is not installed.
pub(crate) fn ways(names: &[String]) -> Vec<Way> {
    let postgres = Postgres::is_installed();
    let is_wanted = |way: &Way| names.is_empty() || names.iter().any(|name| name == way.name);
    WAYS.into_iter().filter(|way| is_wanted(way) && (postgres || !way.needs_postgres())).collect()
}

fn round(
    node: &mut Node,
    way: &Way,
    postgres: Option<&str>,
    messages: u64,
    interval: Option<Duration>,
) -> Result<Figures, Failure> {
    let terms = Terms {
        payload_bytes: BYTES,
        window: way.window(),
        prefetch: way.window() as u16,
        durable: way.quorum,
        interval,
        batched: way.is_batched(),
        records: false,
    };
    let queue = node.fresh_queue(&terms)?;
    let course = Arc::new(Course::new(node, queue.clone(), terms, Bodies::of_size(BYTES), messages.max(100)));
    let (way, postgres, running) = (*way, postgres.map(str::to_owned), Arc::clone(&course));
    let work = move || service::run(&way, postgres.as_deref(), &running);
    let done = rounds::in_time(Duration::from_secs(120), work).and_then(|()| course.verdict());
    let figures = done.map_err(|error| Failure::from(format!("prices, {}: {error}", way.name)))?;
    node.remove_queue(&queue, &terms)?;
    Ok(figures)
}
