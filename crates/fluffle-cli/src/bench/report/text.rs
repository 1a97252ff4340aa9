//! The report on a terminal.

use std::fmt::Write;

use crate::{
    bench::{
        plan::Workload,
        summary::{Latency, Summary},
    },
    units::{count, figures, nanos},
};

impl Workload {
    /// The workload in one line.
    pub(crate) fn line(&self) -> String {
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop at {} msg/s", figures(rate)),
            None => "closed loop".to_owned(),
        };
        let durable = if self.durable { "durable" } else { "transient" };
        format!(
            "{} → {} ({}, {durable}) → {}; {} {}; {loop_kind}",
            counted(self.producers, "producer"),
            counted(self.queues, "queue"),
            self.queue_type,
            counted(self.consumers, "handler"),
            self.size,
            self.payload,
        )
    }

    fn terms(&self) -> String {
        let batch = self.batch.as_ref().map_or(String::new(), |batch| format!(" · batch {batch}"));
        let in_flight = self.in_flight.map_or(String::new(), |most| format!(" · in flight {}", count(most)));
        let order =
            self.ordered_by.map_or(String::new(), |keys| format!(" · in order by {}", counted(keys as usize, "key")));
        let lanes = if self.lanes > 1 { format!(" · {} lanes", self.lanes) } else { String::new() };
        let whole = if self.whole_batches { ", handled whole" } else { "" };
        format!(
            "confirm {}{in_flight} · prefetch {} · {}{order}{lanes} · gzip {}{batch}{whole} · warm-up {} s · seed {}",
            self.confirm, self.prefetch, self.guarantee, self.gzip, self.warm_up_s, self.seed
        )
    }
}

fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

pub(crate) fn render(summary: &Summary) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(summary, &mut out);
    out
}

fn write(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let Summary { workload, throughput, .. } = summary;
    writeln!(out, "fluffle bench {} on {}", summary.version, workload.broker)?;
    writeln!(out, "  {}", workload.line())?;
    writeln!(out, "  {}", workload.terms())?;
    let end = if summary.end == "complete" { String::new() } else { format!(" ({})", summary.end) };
    writeln!(out, "\nThroughput over {:.2} s{end}", throughput.seconds)?;
    let row = |out: &mut String, name: &str, rate: f64, bytes: Option<f64>, messages: u64| {
        let bytes = bytes.map_or(String::new(), |bytes| format!("{} MB/s", figures(bytes)));
        writeln!(
            out,
            "  {name:<12} {:>12} msg/s {bytes:>14} {:>16} messages",
            count(rate.round() as u64),
            count(messages)
        )
    };
    row(out, "published", throughput.published_per_s, Some(throughput.published_mb_per_s), throughput.published)?;
    let confirmed = if workload.confirm == "off" { "written" } else { "confirmed" };
    row(out, confirmed, throughput.confirmed_per_s, None, throughput.confirmed)?;
    if workload.consumers > 0 {
        row(out, "handled", throughput.handled_per_s, Some(throughput.handled_mb_per_s), throughput.handled)?;
    }
    if let Some(batches) = &summary.batches {
        let (received, each) = (count(batches.received), figures(batches.messages_each));
        writeln!(out, "  in the whole run {received} batches arrived, with {each} messages on average")?;
    }
    if let Some(asked) = workload.rate.filter(|rate| throughput.published_per_s < 0.99 * rate) {
        writeln!(out, "  behind: the requested rate is {} msg/s; latency includes messages sent late", figures(asked))?;
    }
    latencies(summary, out)?;
    stages(summary, out)?;
    if let Some(process) = &summary.process {
        let cores = process.cpu_s / throughput.seconds.max(1e-9);
        writeln!(out, "\nThis process")?;
        writeln!(
            out,
            "  CPU {:.2} s, {} µs per message, {cores:.2} cores; peak memory {} MB",
            process.cpu_s,
            figures(process.cpu_us_per_message),
            figures(process.peak_memory_bytes as f64 / 1e6)
        )?;
        if workload.broker == "embedded" {
            writeln!(
                out,
                "  the embedded broker used {:.2} s more CPU, and shares the memory",
                process.embedded_broker_cpu_s
            )?;
        }
    }
    verification(summary, out)
}

fn latencies(summary: &Summary, out: &mut String) -> std::fmt::Result {
    let since =
        if summary.workload.rate.is_some() { "from the intended send time" } else { "from the call to publish" };
    writeln!(out, "\nLatency {since}")?;
    write!(out, "  {:<12}", "")?;
    for name in ["p50", "p75", "p95", "p99", "p99.9", "max", "mean"] {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    let confirm = if summary.workload.confirm == "off" { "written" } else { "confirm" };
    for (name, latency) in [(confirm, &summary.confirm), ("end to end", &summary.end_to_end)] {
        let Some(latency) = latency else { continue };
        let Latency { p50_us, p75_us, p95_us, p99_us, p99_9_us, max_us, mean_us, .. } = latency;
        write!(out, "  {name:<12}")?;
        for us in [p50_us, p75_us, p95_us, p99_us, p99_9_us, max_us, mean_us] {
            write!(out, " {:>9}", nanos(us * 1e3))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The greatest width of a bar, in characters.
const BAR: f64 = 20.0;

fn stages(summary: &Summary, out: &mut String) -> std::fmt::Result {
    if summary.stages.iter().all(|stage| stage.mean_us == 0.0) {
        return Ok(());
    }
    writeln!(out, "\nStages of a message (one message in {} is timed)", summary.stages_of_one_in)?;
    writeln!(out, "  {:<9} {:>9} {:>8} {:>9} {:>9}", "stage", "mean", "share", "p50", "p99")?;
    for stage in &summary.stages {
        let time = |us: Option<f64>| us.map_or("·".to_owned(), |us| nanos(us * 1e3));
        let share = stage.share.map_or("parallel".to_owned(), |share| format!("{:.1} %", share * 100.0));
        writeln!(
            out,
            "  {:<9} {:>9} {share:>8} {:>9} {:>9}  {:<20} {}",
            stage.name,
            nanos(stage.mean_us * 1e3),
            time(stage.p50_us),
            time(stage.p99_us),
            "█".repeat((stage.share.unwrap_or_default() * BAR).round() as usize),
            stage.about,
        )?;
    }
    let left = if summary.workload.consumers > 0 { "broker and confirm are" } else { "confirm is" };
    writeln!(out, "  {left} the rest between measured points: only a mean, no percentiles")
}

fn verification(summary: &Summary, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nVerified")?;
    match &summary.verification {
        Some(found) => writeln!(
            out,
            "  {} sent, {} received once: {} lost, {} duplicates, {} out of order, {} damaged",
            count(found.sent),
            count(found.received),
            count(found.lost),
            count(found.duplicates),
            count(found.out_of_order),
            count(found.damaged)
        )?,
        None => writeln!(out, "  nothing, because there were no consumers")?,
    }
    for (why, messages) in &summary.publish_failures {
        writeln!(out, "  {} publishes failed: {why}", count(*messages))?;
    }
    if summary.incidents.reconnects > 0 {
        let incidents = &summary.incidents;
        let (again, republished) = (count(incidents.reconnects), count(incidents.republished));
        writeln!(out, "  {again} reconnects, {republished} messages published again")?;
    }
    for problem in &summary.verdict.problems {
        paragraph(out, problem)?;
    }
    for note in &summary.verdict.notes {
        paragraph(out, &format!("note: {note}"))?;
    }
    if summary.verdict.ok {
        writeln!(out, "  ok")?;
    }
    Ok(())
}

/// The columns of a line of text.
const WIDE: usize = 100;

fn paragraph(out: &mut String, text: &str) -> std::fmt::Result {
    let mut column = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count() + 1;
        match column {
            0 => write!(out, "  {word}")?,
            _ if column + len > WIDE => {
                column = 0;
                write!(out, "\n    {word}")?;
            }
            _ => write!(out, " {word}")?,
        }
        column += len;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_between_words_and_loses_none() {
        let text = "word ".repeat(100);
        let mut out = String::new();
        paragraph(&mut out, &text).unwrap();
        assert!(out.lines().count() > 4 && out.lines().all(|line| line.len() <= WIDE + 4), "{out}");
        assert_eq!(out.split_whitespace().count(), 100);
    }
}
