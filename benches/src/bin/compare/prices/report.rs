//! The price list, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::{
    grouped::grouped,
    machine::Machine,
    prices::{BYTES, PACED, Results},
    report::{Median, Medians},
    table,
};

/// The price list, as printed by `--json`.
#[derive(Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    rounds: usize,
    payload_bytes: usize,
    ways: Vec<Price>,
    machine: Machine,
}

/// What one way costs.
#[derive(Serialize)]
struct Price {
    name: &'static str,
    guarantee: &'static str,
    /// The way that it is compared with.
    plain: &'static str,
    /// The median of the ratios in each round.
    ratio: Option<Median>,
    #[serde(flatten)]
    medians: Medians,
}

impl Report {
    pub(crate) fn new(results: &Results, machine: Machine) -> Self {
        let ways = results.iter().filter_map(|(way, rounds)| {
            let plain = results.iter().find(|(other, _)| other.name == way.plain()).map(|(_, rounds)| rounds);
            let pairs = rounds.iter().zip(plain.into_iter().flatten());
            let ratio = Median::of(pairs.map(|(ours, plain)| ours.msgs_per_s / plain.msgs_per_s).collect());
            let medians = Medians::of(rounds)?;
            Some(Price { name: way.name, guarantee: way.guarantee, plain: way.plain(), ratio, medians })
        });
        Self {
            scenario: "prices",
            rounds: results.first().map_or(0, |(_, rounds)| rounds.len()),
            payload_bytes: BYTES,
            ways: ways.collect(),
            machine,
        }
    }
}

impl Report {
    /// Messages a second of the way of this name.
    pub(crate) fn rate(&self, way: &str) -> Option<f64> {
        self.ways.iter().find(|price| price.name == way).map(|price| price.medians.msgs_per_s.median)
    }

    /// Its rate to that of the first way of its group.
    pub(crate) fn ratio(&self, way: &str) -> Option<f64> {
        self.ways.iter().find(|price| price.name == way)?.ratio.map(|ratio| ratio.median)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "prices: {} bytes per message, medians of {} rounds. RATIO: messages/s to the first line of the group.\n\
             CPU: client + broker. P50, P99: from publish to handler, at {PACED} a second or half of MSG/S.\n",
            self.payload_bytes, self.rounds
        )?;
        let header = ["", "MSG/S", "RATIO", "CPU, µs/msg", "P50, µs", "P99, µs", "GUARANTEE"];
        let mut rows = table::align(table::table(&header));
        if let Some(guarantee) = rows.column_mut(header.len() - 1) {
            guarantee.set_cell_alignment(comfy_table::CellAlignment::Left);
        }
        for price in &self.ways {
            rows.add_row(row(price));
        }
        writeln!(f, "{rows}\n")?;
        write!(f, "{}", self.machine)
    }
}

fn row(price: &Price) -> [String; 7] {
    let Medians { msgs_per_s, client_cpu_us_per_msg, broker_cpu_us_per_msg, p50_us, p99_us, .. } = &price.medians;
    let whole = |median: &Option<Median>| median.map_or_else(String::new, |median| grouped(median.median, 0));
    let broker = broker_cpu_us_per_msg.map_or_else(|| "?".to_owned(), |broker| grouped(broker.median, 1));
    [
        price.name.to_owned(),
        grouped(msgs_per_s.median, 0),
        price.ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)),
        format!("{} + {broker}", grouped(client_cpu_us_per_msg.median, 1)),
        whole(p50_us),
        whole(p99_us),
        price.guarantee.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Figures, prices::way::WAYS};

    fn rounds(rates: [f64; 3]) -> Vec<Figures> {
        let figures = |msgs_per_s| Figures {
            messages: 1000,
            msgs_per_s,
            mb_per_s: 1.0,
            client_cpu_us_per_msg: 20.0,
            broker_cpu_us_per_msg: None,
            p50_us: Some(300.0),
            p99_us: Some(2000.0),
            wire_bytes_per_msg: None,
        };
        rates.map(figures).to_vec()
    }

    #[test]
    fn each_way_is_compared_with_the_plain_one_of_its_group_round_by_round() {
        let batches = WAYS.iter().position(|way| way.name == "batches").unwrap();
        let results = vec![
            (WAYS[0], rounds([10.0, 20.0, 10.0])),
            (WAYS[1], rounds([20.0, 40.0, 80.0])),
            (WAYS[batches], rounds([1000.0; 3])),
            (WAYS[batches + 1], rounds([500.0; 3])),
        ];
        let report = Report::new(&results, Machine::default());
        let ratios: Vec<_> = report.ways.iter().map(|price| price.ratio.unwrap().median).collect();
        assert_eq!(ratios, [1.0, 2.0, 1.0, 0.5]);
        let text = report.to_string();
        assert!(text.contains("any crash may lose messages") && text.contains("20.0 + ?"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ways"][1]["ratio"], 2.0);
        assert_eq!(json["ways"][1]["p50_us"], 300.0);
    }
}
