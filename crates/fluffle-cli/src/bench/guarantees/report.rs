//! What the comparison has found. `--json` prints it: keys are stable, and new ones may be added.

use std::time::Duration;

use serde::Serialize;

use crate::{
    bench::{guarantees::ways::Way, ledger::Verification, plan::Workload, summary::Summary},
    common::{exit::Exit, failure::Failure},
};

/// All ways, as far as they were measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) version: &'static str,
    pub(crate) broker: String,
    /// The size of the messages.
    pub(crate) size: String,
    /// How long each way was measured.
    pub(crate) seconds: f64,
    /// Whether Ctrl-C ended it early.
    pub(crate) interrupted: bool,
    pub(crate) ways: Vec<Measured>,
}

/// One way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) guarantee: &'static str,
    /// Messages handled in a second. `null` if it could not be run.
    pub(crate) per_s: Option<f64>,
    /// `per_s` divided by that of the first way. `null` if one of them is.
    pub(crate) ratio: Option<f64>,
    /// Messages handled while it was measured.
    pub(crate) handled: u64,
    pub(crate) end_to_end_p50_us: Option<f64>,
    pub(crate) end_to_end_p99_us: Option<f64>,
    /// Whether every guarantee was kept.
    pub(crate) ok: bool,
    /// The guarantees that were broken, or why it could not be run.
    pub(crate) problems: Vec<String>,
    pub(crate) verification: Option<Verification>,
    /// `null` if it could not be run.
    pub(crate) workload: Option<Workload>,
    #[serde(skip)]
    was_interrupted: bool,
}

impl Measured {
    pub(crate) fn new(way: &Way, summary: &Summary) -> Self {
        let latency = summary.end_to_end.as_ref();
        let was_interrupted = summary.end == "interrupted";
        let ended = was_interrupted || summary.end == "complete";
        let gave_up = (!ended).then_some(&summary.end);
        let problems = summary.verdict.problems.iter().chain(summary.publish_failures.keys()).chain(gave_up);
        Self {
            per_s: Some(summary.throughput.handled_per_s),
            handled: summary.throughput.handled,
            end_to_end_p50_us: latency.map(|latency| latency.p50_us),
            end_to_end_p99_us: latency.map(|latency| latency.p99_us),
            ok: summary.verdict.ok && ended,
            problems: problems.cloned().collect(),
            verification: summary.verification.clone(),
            workload: Some(summary.workload.clone()),
            was_interrupted,
            ..Self::failed(way, &Failure::new(""))
        }
    }

    pub(crate) fn failed(way: &Way, why: &Failure) -> Self {
        Self {
            key: way.key,
            name: way.name,
            guarantee: way.guarantee,
            per_s: None,
            ratio: None,
            handled: 0,
            end_to_end_p50_us: None,
            end_to_end_p99_us: None,
            ok: false,
            problems: vec![why.to_string()],
            verification: None,
            workload: None,
            was_interrupted: false,
        }
    }
}

impl Comparison {
    pub(crate) fn new(broker: &str, size: &str, time: Duration) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            broker: broker.to_owned(),
            size: size.to_owned(),
            seconds: time.as_secs_f64(),
            interrupted: false,
            ways: Vec::new(),
        }
    }

    /// Adds a way, and compares it with the first one.
    pub(crate) fn add(&mut self, mut way: Measured) {
        self.interrupted |= way.was_interrupted;
        let plainest = self.ways.first().map_or(way.per_s, |first| first.per_s).filter(|per_s| *per_s > 0.0);
        way.ratio = way.per_s.zip(plainest).map(|(per_s, plainest)| per_s / plainest);
        self.ways.push(way);
    }

    pub(crate) fn exit(&self) -> Exit {
        if self.ways.iter().any(|way| !way.ok) {
            Exit::Bad
        } else if self.interrupted {
            Exit::Attention
        } else {
            Exit::Clean
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::guarantees::ways::WAYS;

    fn at(way: &Way, per_s: Option<f64>) -> Measured {
        Measured { per_s, ok: per_s.is_some(), ..Measured::failed(way, &Failure::new("no such queue type")) }
    }

    fn comparison(rates: &[Option<f64>]) -> Comparison {
        let mut all = Comparison::new("embedded", "1,000 B", Duration::from_secs(2));
        rates.iter().zip(&WAYS).for_each(|(rate, way)| all.add(at(way, *rate)));
        all
    }

    #[test]
    fn each_way_is_compared_with_the_first() {
        let all = comparison(&[Some(200.0), Some(50.0), None, Some(0.0)]);
        let ratios: Vec<_> = all.ways.iter().map(|way| way.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(0.25), None, Some(0.0)]);
        assert_eq!(all.exit(), Exit::Bad, "one could not be run");
    }

    #[test]
    fn nothing_is_compared_with_a_first_way_that_handled_nothing() {
        for first in [None, Some(0.0)] {
            let all = comparison(&[first, Some(50.0)]);
            assert!(all.ways.iter().all(|way| way.ratio.is_none()), "{all:?}");
        }
    }

    #[test]
    fn an_interrupted_comparison_is_not_a_whole_one() {
        let mut all = comparison(&[Some(1.0)]);
        assert_eq!(all.exit(), Exit::Clean);
        all.add(Measured { was_interrupted: true, ..at(&WAYS[1], Some(1.0)) });
        assert_eq!(all.exit(), Exit::Attention);
    }
}
