//! All targets in one run: the scenarios and ways that they are about, one after the other, and a table of what was
//! wanted and what was measured.

use std::fmt;

use serde::Serialize;

use crate::{
    contestant::Contestant::{self, Fluffle, FluffleAdaptive, FluffleOnIo, LapinLabelled, LapinTuned, Ruststream},
    grouped::grouped,
    machine::Machine,
    prices,
    report::Report,
    scenario::Scenario,
    table,
    targets::Target::{self, AtLeast, AtMost},
};

/// The scenarios, who takes part in each, and its share of the time.
pub(crate) const SCENARIOS: [(Scenario, &[Contestant], f64); 3] = [
    (Scenario::Single, &[LapinLabelled, Ruststream, Fluffle], 0.25),
    (Scenario::Latency, &[LapinLabelled, Fluffle, FluffleAdaptive, FluffleOnIo], 0.3),
    (Scenario::Adaptive, &[LapinTuned, Fluffle, FluffleAdaptive], 0.2),
];

/// The ways of the price list, which have the rest of the time.
pub(crate) const WAYS: [&str; 5] =
    ["outbox_sqlite", "outbox_postgres", "batches", "batches_quorum", "batches_once_on_disk"];

/// The share of the ways of the price list.
pub(crate) const WAYS_SHARE: f64 = 0.25;

/// What was measured, as printed by `--json`.
#[derive(Serialize)]
pub(crate) struct Overview {
    scenario: &'static str,
    targets: Vec<Row>,
    machine: Machine,
    reports: Vec<Report>,
    prices: prices::Report,
}

/// One target.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    wanted: String,
    measured: Option<f64>,
    is_met: Option<bool>,
}

impl Overview {
    pub(crate) fn new(reports: Vec<Report>, prices: prices::Report, machine: Machine) -> Self {
        let targets = rows(&reports, &prices);
        Self { scenario: "targets", targets, machine, reports, prices }
    }
}

fn rows(reports: &[Report], prices: &prices::Report) -> Vec<Row> {
    let report = |scenario: Scenario| reports.iter().find(move |report| report.scenario == scenario.name());
    let row = |what, target: Option<Target>, measured: Option<f64>| Row {
        what,
        wanted: target.map_or_else(String::new, Target::words),
        measured,
        is_met: target.zip(measured).map(|(target, measured)| target.met(measured)),
    };
    let ratio = |what, scenario, name: &str| {
        row(what, Target::of(scenario, name), report(scenario).and_then(|report| report.ratio(name)))
    };
    let cpu = |who: Contestant| report(Scenario::Single)?.client_cpu(who);
    let above_labelled = || Some(cpu(Fluffle)? - cpu(LapinLabelled)?);
    let (single, latency, adaptive) = (Scenario::Single, Scenario::Latency, Scenario::Adaptive);
    vec![
        ratio("single, to lapin_labelled", single, "fluffle/lapin_labelled"),
        ratio("single, to ruststream", single, "fluffle/ruststream"),
        row("single, client CPU above lapin_labelled, µs", Some(AtMost(1.5)), above_labelled()),
        ratio("latency p50 on io, to lapin_labelled", latency, "fluffle_on_io/lapin_labelled"),
        ratio("latency p99 on io, to lapin_labelled", latency, "fluffle_on_io/lapin_labelled p99"),
        ratio("latency p50, to lapin_labelled", latency, "fluffle/lapin_labelled"),
        ratio("latency p99, to lapin_labelled", latency, "fluffle/lapin_labelled p99"),
        ratio("adaptive, latency p50 to singles", latency, "fluffle_adaptive/fluffle"),
        ratio("adaptive, to batches", adaptive, "fluffle_adaptive/fluffle"),
        ratio("batches, bytes to lapin_tuned, 64 KiB", adaptive, "fluffle/lapin_tuned"),
        row("batches on a quorum queue, a second", Some(AtLeast(1e6)), prices.rate("batches_quorum")),
        row("batches, effectively once on disk", Some(AtLeast(0.5)), prices.ratio("batches_once_on_disk")),
        row("outbox on SQLite, a second", Some(AtLeast(20_000.0)), prices.rate("outbox_sqlite")),
        row("outbox on PostgreSQL, a second", Some(AtLeast(10_000.0)), prices.rate("outbox_postgres")),
    ]
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut targets = table::align(table::table(&["target", "wanted", "measured", "met"]));
        for Row { what, wanted, measured, is_met } in &self.targets {
            let digits = |measured: f64| if measured >= 100.0 { 0 } else { 2 };
            let measured = measured.map_or_else(String::new, |measured| grouped(measured, digits(measured)));
            let is_met = is_met.map_or("", |is_met| if is_met { "yes" } else { "no" });
            targets.add_row([(*what).to_owned(), wanted.clone(), measured, is_met.to_owned()]);
        }
        writeln!(f, "{targets}\n")?;
        write!(f, "{}", self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_exists_has_a_target_and_takes_the_whole_time() {
        assert!(WAYS.iter().all(|way| prices::names().any(|name| name == *way)));
        let rows = rows(&[], &prices::Report::new(&Vec::new(), Machine::default()));
        assert!(rows.iter().all(|row| !row.wanted.is_empty() && row.measured.is_none()));
        let sum: f64 = SCENARIOS.iter().map(|(.., share)| share).sum();
        assert!((sum + WAYS_SHARE - 1.0).abs() < 1e-9);
    }
}
