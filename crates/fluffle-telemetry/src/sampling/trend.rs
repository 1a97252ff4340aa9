//! How the totals of a queue and of a publisher have moved in the last while.

use std::time::{Duration, Instant};

use crate::{
    insight::window::Window, instrument::histogram::Counts, metrics::consumer::ConsumerTotals,
    status::picture::StageView,
};

/// Rates are over so long, so that they neither jump nor lag.
const RATES: Duration = Duration::from_secs(5);

/// Quantiles are over so long, so that they are of enough messages.
const QUANTILES: Duration = Duration::from_secs(60);

/// Readings for quantiles are so far apart.
const APART: Duration = Duration::from_secs(10);

/// The recent past of the consumers of a queue.
#[derive(Debug)]
pub(crate) struct QueueTrend {
    totals: Window<ConsumerTotals>,
    /// For the crashes of a minute.
    minute: Window<ConsumerTotals>,
    stages: Window<Vec<(&'static str, Counts)>>,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct QueueRates {
    pub(crate) received: f64,
    pub(crate) settled: f64,
    pub(crate) failed: f64,
    /// Seconds of work in a second: how many messages handlers have in hand, on average.
    pub(crate) at_work: f64,
}

impl Default for QueueTrend {
    fn default() -> Self {
        Self {
            totals: Window::new(RATES, Duration::ZERO),
            minute: Window::new(QUANTILES, APART),
            stages: Window::new(QUANTILES, APART),
        }
    }
}

impl QueueTrend {
    pub(crate) fn push(&mut self, at: Instant, totals: ConsumerTotals, stages: Vec<(&'static str, Counts)>) {
        self.totals.push(at, totals);
        self.minute.push(at, totals);
        self.stages.push(at, stages);
    }

    pub(crate) fn rates(&self) -> QueueRates {
        let Some((old, new, seconds)) = self.totals.ends() else { return QueueRates::default() };
        QueueRates {
            received: rate(old.received, new.received, seconds),
            settled: rate(old.settled, new.settled, seconds),
            failed: rate(old.failed, new.failed, seconds),
            at_work: (new.busy - old.busy).max(0.0) / seconds,
        }
    }

    pub(crate) fn crashed_in_a_minute(&self) -> u64 {
        self.minute.ends().map_or(0, |(old, new, _)| new.crashed.saturating_sub(old.crashed))
    }

    pub(crate) fn stages(&self) -> Vec<StageView> {
        stages(&self.stages)
    }
}

/// The recent past of a publisher.
#[derive(Debug)]
pub(crate) struct PublisherTrend {
    totals: Window<[u64; 2]>,
    stages: Window<Vec<(&'static str, Counts)>>,
}

impl Default for PublisherTrend {
    fn default() -> Self {
        Self { totals: Window::new(RATES, Duration::ZERO), stages: Window::new(QUANTILES, APART) }
    }
}

impl PublisherTrend {
    /// `totals` are the messages accepted and settled.
    pub(crate) fn push(&mut self, at: Instant, totals: [u64; 2], stages: Vec<(&'static str, Counts)>) {
        self.totals.push(at, totals);
        self.stages.push(at, stages);
    }

    /// Accepted and settled a second.
    pub(crate) fn rates(&self) -> [f64; 2] {
        let Some((old, new, seconds)) = self.totals.ends() else { return [0.0; 2] };
        [rate(old[0], new[0], seconds), rate(old[1], new[1], seconds)]
    }

    pub(crate) fn stages(&self) -> Vec<StageView> {
        stages(&self.stages)
    }
}

/// What each stage took in the window. Before there are two readings: since the start.
fn stages(window: &Window<Vec<(&'static str, Counts)>>) -> Vec<StageView> {
    let Some(newest) = window.newest() else { return Vec::new() };
    let oldest = window.ends().map(|(oldest, _, _)| oldest);
    let view = |(number, (stage, counts)): (usize, &(&'static str, Counts))| {
        let earlier = oldest.and_then(|oldest| oldest.get(number));
        let recent = earlier.map_or_else(|| counts.clone(), |(_, earlier)| counts.since(earlier));
        let millis = |quantile| recent.quantile(quantile).map(|seconds| seconds * 1e3);
        StageView { stage, count: recent.count(), p50: millis(0.5), p99: millis(0.99) }
    };
    newest.iter().enumerate().map(view).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(old: u64, new: u64, seconds: f64) -> f64 {
    new.saturating_sub(old) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::{bounds::TIMES, histogram::Histogram};

    #[test]
    fn rates_are_of_the_last_five_seconds_and_quantiles_of_the_last_minute() {
        let (start, histogram) = (Instant::now(), Histogram::of_times(TIMES));
        let mut trend = QueueTrend::default();
        for second in 0..120_u64 {
            // Fast for a minute and more, then slow.
            let took = if second < 90 { Duration::from_micros(80) } else { Duration::from_millis(80) };
            (0..10).for_each(|_| histogram.record(took));
            let received = if second < 110 { second * 10 } else { 1_100 + (second - 110) * 100 };
            let totals = ConsumerTotals { received, busy: 0.5 * second as f64, ..ConsumerTotals::default() };
            trend.push(start + Duration::from_secs(second), totals, vec![("handle", histogram.read())]);
        }
        let rates = trend.rates();
        assert!((rates.received - 100.0).abs() < 1.0 && (rates.at_work - 0.5).abs() < 1e-6, "{rates:?}");
        let [handle] = &trend.stages()[..] else { panic!() };
        assert!((550..=720).contains(&handle.count), "{handle:?}");
        assert!(handle.p50.unwrap() < 0.25 && handle.p99.unwrap() > 50.0, "{handle:?}");
    }
}
