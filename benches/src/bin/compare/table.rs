//! The report as tables.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    grouped::grouped,
    report::{Median, Medians, Report},
    scenario::Scenario,
    targets::Target,
};

/// The report as tables.
pub(crate) struct Tables<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) report: &'a Report,
}

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, terms) = (self.report, self.scenario.terms());
        let queue = if terms.durable { "quorum queue, persistent" } else { "classic queue, transient" };
        let unit = if terms.batched { " batches" } else { "" };
        writeln!(
            f,
            "{}: {} bytes per message, {queue}, each confirmed (window {}{unit}), handled once and acked \
             (prefetch {}{unit})",
            report.scenario, report.payload_bytes, terms.window, terms.prefetch
        )?;
        writeln!(f, "medians of {} rounds (least – most)\n", report.rounds)?;
        writeln!(f, "{}\n", self.contestants())?;
        if !report.ratios.0.is_empty() {
            writeln!(f, "{}\n", self.ratios())?;
        }
        write!(f, "{}", report.machine)
    }
}

impl Tables<'_> {
    /// Columns without values are left out.
    fn contestants(&self) -> Table {
        let header =
            ["", "messages/s", "MB/s", "CPU, µs/msg: client + broker", "p50, µs", "p99, µs", "bytes on the wire"];
        let medians = self.report.contestants.0.iter().filter_map(|(name, medians)| Some((name, medians.as_ref()?)));
        let rows: Vec<_> = medians.map(|(name, medians)| row(name, medians)).collect();
        let filled = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
        let columns: Vec<usize> = (0..header.len()).filter(filled).collect();
        let mut table = table(&columns.iter().map(|&column| header[column]).collect::<Vec<_>>());
        for row in &rows {
            table.add_row(columns.iter().map(|&column| &row[column]));
        }
        align(table)
    }

    fn ratios(&self) -> Table {
        let mut table = table(&["ratio", "median", "least – most", "target", "met"]);
        for (name, ratio) in &self.report.ratios.0 {
            let target = Target::of(self.scenario, name);
            let met = target.map_or("", |target| if target.met(ratio.median) { "yes" } else { "no" });
            table.add_row([
                name.clone(),
                format!("{:.2}", ratio.median),
                format!("{:.2} – {:.2}", ratio.least, ratio.most),
                target.map_or_else(String::new, Target::words),
                met.into(),
            ]);
        }
        align(table)
    }
}

fn row(name: &str, medians: &Medians) -> [String; 7] {
    [
        name.to_owned(),
        spread(&medians.msgs_per_s, 0),
        brief(&medians.mb_per_s, 1),
        cpu(&medians.client_cpu_us_per_msg, medians.broker_cpu_us_per_msg.as_ref()),
        medians.p50_us.as_ref().map_or_else(String::new, |median| spread(median, 0)),
        medians.p99_us.as_ref().map_or_else(String::new, |median| spread(median, 0)),
        medians.wire_bytes_per_msg.as_ref().map_or_else(String::new, |median| brief(median, 1)),
    ]
}

fn brief(median: &Median, digits: usize) -> String {
    grouped(median.median, digits)
}

/// The sum limits the throughput of a busy machine, because client and broker share it.
fn cpu(client: &Median, broker: Option<&Median>) -> String {
    match broker {
        None => format!("{} + ?", brief(client, 1)),
        Some(broker) => {
            let sum = grouped(client.median + broker.median, 1);
            format!("{} + {} = {sum}", brief(client, 1), brief(broker, 1))
        }
    }
}

fn spread(median: &Median, digits: usize) -> String {
    let of = |value| grouped(value, digits);
    format!("{} ({} – {})", of(median.median), of(median.least), of(median.most))
}

/// An empty table.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

/// Aligns numbers to the right and names to the left.
pub(crate) fn align(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
