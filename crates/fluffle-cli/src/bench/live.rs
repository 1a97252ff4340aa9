//! Prints a line every second on standard error: above a progress bar on a terminal, otherwise plain.

use std::{io::IsTerminal, time::Duration};

use fluffle::amqp::ConnectionStatus;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    bench::{
        meter::Counts,
        plan::{Plan, Workload},
        progress::{Phase, Second},
    },
    common::failure::Failure,
    units::{count, nanos},
};

/// The display during a run.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    quiet: bool,
    consumed: bool,
    goal: Goal,
}

/// The end of the progress bar.
enum Goal {
    /// After this time, in milliseconds.
    Time(u64),
    /// After a number of messages.
    Count,
}

impl Live {
    pub(crate) fn new(plan: &Plan, workload: &Workload) -> Result<Self, Failure> {
        let (goal, length) = match plan.args.count {
            Some(messages) => (Goal::Count, messages),
            None => {
                let millis = (plan.warm_up + plan.time).as_millis() as u64;
                (Goal::Time(millis), millis)
            }
        };
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !plan.args.quiet).then(|| ProgressBar::new(length));
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template("{prefix:>8} {wide_bar:.cyan/blue} {percent:>3} %")?);
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        let live = Self { bar, quiet: plan.args.quiet, consumed: plan.consumers > 0, goal };
        live.line(&format!("run {:08x}: {}", plan.run, workload.line()));
        live.line(&header(live.consumed));
        Ok(live)
    }

    /// Shows a second, and any problem of a connection.
    pub(crate) fn show(&self, second: &Second, counts: &Counts, connections: &[ConnectionStatus]) {
        let mut line = line(second, self.consumed);
        for connection in connections {
            match &connection.blocked {
                _ if !connection.connected => line.push_str(&format!(" · {} is away", connection.name)),
                Some(reason) => line.push_str(&format!(" · {} is blocked: {reason}", connection.name)),
                None => {}
            }
        }
        self.line(&line);
        if let Some(bar) = &self.bar {
            bar.set_prefix(phase(second.phase));
            bar.set_position(match self.goal {
                Goal::Time(millis) => ((second.at_s * 1e3) as u64).min(millis),
                Goal::Count if self.consumed => counts.handled,
                Goal::Count => counts.confirmed,
            });
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        if !self.quiet {
            eprintln!();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.quiet => {}
            None => eprintln!("{text}"),
        }
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::WarmUp => "warm-up",
        Phase::Measure => "measure",
        Phase::Drain => "drain",
    }
}

fn header(consumed: bool) -> String {
    let (handled, latency) = if consumed { ("handled/s", "latency") } else { ("", "confirm") };
    format!(
        "{:>7} {:>12} {:>12} {handled:>12} {:>9} {:>12} {:>12} {:>11}",
        "time",
        "published/s",
        "confirmed/s",
        "MB/s",
        format!("{latency} p50"),
        "p99",
        "in flight"
    )
}

fn line(second: &Second, consumed: bool) -> String {
    let per_second = |rate: f64| count(rate.round() as u64);
    let handled = if consumed { per_second(second.handled_per_s) } else { String::new() };
    let time = |us: f64| if us > 0.0 { nanos(us * 1e3) } else { "-".to_owned() };
    let line = format!(
        "{:>6.1}s {:>12} {:>12} {handled:>12} {:>9.1} {:>12} {:>12} {:>11} {}",
        second.at_s,
        per_second(second.published_per_s),
        per_second(second.confirmed_per_s),
        if consumed { second.handled_mb_per_s } else { second.published_mb_per_s },
        time(second.p50_us),
        time(second.p99_us),
        count(second.in_flight),
        if second.phase == Phase::Measure { "" } else { phase(second.phase) },
    );
    line.trim_end().to_owned()
}
