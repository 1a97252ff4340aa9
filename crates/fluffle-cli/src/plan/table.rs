//! The table that the answers come from. docs/SCALING.md shows the same one.

use serde::{Deserialize, Serialize};

use crate::{common::failure::Failure, plan::args::QueueType};

const MEASURED: &str = include_str!("measured.json");

/// What was measured with `benches --bin replication`, on one machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measurements {
    pub(crate) machine: String,
    /// CPU time of the broker that Fluffle's labels of a message (id, type, time, content type) and `mandatory` add, in
    /// microseconds: 46.7 - 37.7, docs/PERFORMANCE.md.
    pub(crate) labels_cpu_us: f64,
    pub(crate) rows: Vec<Row>,
}

/// A kind of queue, with messages of one size.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) queue: QueueType,
    pub(crate) replicas: u32,
    pub(crate) bytes: u32,
    /// Messages a second of one queue.
    pub(crate) rate: f64,
    /// CPU time of all nodes together for a message, in microseconds, with the clients at the leader's node.
    pub(crate) cpu_us: f64,
    /// The same with the clients at another node, if that was measured.
    pub(crate) elsewhere_cpu_us: Option<f64>,
    /// Median time of the confirm of a lone message.
    pub(crate) confirm_ms: f64,
}

/// How sure a number is. The order is that of doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Certainty {
    /// For a size that was measured, within a tenth.
    Measured,
    /// For a size between two that were measured.
    Interpolated,
    /// For a size beyond.
    Extrapolated,
}

impl Certainty {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Interpolated => "interpolated",
            Self::Extrapolated => "extrapolated",
        }
    }
}

/// What a message of some size costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Microseconds of CPU time, all nodes together, the labels included.
    pub(crate) cpu_us: f64,
    /// The same if clients are at another node than the leader; whether that was measured for this kind of queue.
    pub(crate) elsewhere_cpu_us: Option<f64>,
    /// Messages a second of one queue.
    pub(crate) rate: f64,
    pub(crate) certainty: Certainty,
}

impl Measurements {
    pub(crate) fn read() -> Result<Self, Failure> {
        Ok(serde_json::from_str(MEASURED)?)
    }

    /// What a message of `bytes` costs in such a queue: a straight line through the two sizes that were measured.
    pub(crate) fn cost(&self, queue: QueueType, replicas: u32, bytes: f64) -> Option<Cost> {
        let mut rows = self.rows.iter().filter(|row| row.queue == queue && row.replicas == replicas);
        let (small, large) = (rows.next()?, rows.next()?);
        let (from, to) = (f64::from(small.bytes), f64::from(large.bytes));
        // A smaller message costs as much as the smallest one that was measured: most of it is not for its bytes.
        let share = ((bytes - from) / (to - from)).max(0.0);
        let between = |one: f64, other: f64| one + (other - one) * share;
        let is_near = |size: f64| (bytes / size - 1.0).abs() <= 0.1;
        let certainty = match bytes {
            _ if is_near(from) || is_near(to) => Certainty::Measured,
            _ if bytes > from && bytes < to => Certainty::Interpolated,
            _ => Certainty::Extrapolated,
        };
        let elsewhere = small.elsewhere_cpu_us.zip(large.elsewhere_cpu_us);
        Some(Cost {
            cpu_us: between(small.cpu_us, large.cpu_us) + self.labels_cpu_us,
            elsewhere_cpu_us: elsewhere.map(|(small, large)| between(small, large) + self.labels_cpu_us),
            // Time for a message, not its rate, is a line.
            rate: 1.0 / between(1.0 / small.rate, 1.0 / large.rate),
            certainty,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../../docs/SCALING.md");

    /// A row as the document shows it.
    fn shown(row: &Row, base: &Row) -> String {
        let Row { queue, replicas, bytes, rate, cpu_us, confirm_ms, .. } = row;
        let elsewhere = row.elsewhere_cpu_us.map_or("".to_owned(), |cpu| format!("{cpu:.1}"));
        format!(
            "| {} x{replicas} | {bytes} | {rate:.0} | {:.2} | {cpu_us:.1} | {:.2} | {elsewhere} | {confirm_ms:.1} |",
            queue.name(),
            rate / base.rate,
            cpu_us / base.cpu_us
        )
    }

    #[test]
    fn the_document_shows_the_table_that_answers_come_from() {
        let measured = Measurements::read().unwrap();
        let first = |row: &&Row| row.queue == QueueType::Classic;
        let mut expected = Vec::new();
        for row in &measured.rows {
            let base = measured.rows.iter().filter(first).find(|base| base.bytes == row.bytes).unwrap();
            expected.push(shown(row, base).replace("|  |", "| |"));
        }
        let kinds = ["| classic x", "| quorum x", "| stream x"];
        let found: Vec<_> = DOCUMENT.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind))).collect();
        assert_eq!(found, expected, "docs/SCALING.md should have\n{}", expected.join("\n"));
    }

    #[test]
    fn a_size_that_was_measured_costs_what_was_measured() {
        let measured = Measurements::read().unwrap();
        for row in &measured.rows {
            let cost = measured.cost(row.queue, row.replicas, f64::from(row.bytes)).unwrap();
            assert!((cost.cpu_us - measured.labels_cpu_us - row.cpu_us).abs() < 1e-9, "{row:?}: {cost:?}");
            assert!((cost.rate / row.rate - 1.0).abs() < 1e-9);
            assert_eq!(cost.certainty, Certainty::Measured);
        }
    }

    #[test]
    fn sizes_between_and_beyond_are_told_as_such_and_grow() {
        let measured = Measurements::read().unwrap();
        let cost = |bytes| measured.cost(QueueType::Quorum, 3, bytes).unwrap();
        assert_eq!(cost(2_000.0).certainty, Certainty::Interpolated);
        assert_eq!(cost(1e6).certainty, Certainty::Extrapolated);
        assert_eq!((cost(1.0).certainty, cost(1.0).cpu_us), (Certainty::Extrapolated, cost(100.0).cpu_us));
        assert!(cost(100.0).cpu_us < cost(2_000.0).cpu_us && cost(2_000.0).rate > cost(1e6).rate);
        assert_eq!(measured.cost(QueueType::Classic, 3, 100.0), None, "a classic queue has no replicas");
    }
}
