//! The counts and times of the workers. Each worker has a meter of its own; only the reporter also locks it, once a
//! second.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::bench::stages::Stage;

/// The longest time recorded: an hour. No message takes longer.
const LONGEST: u64 = 3_600_000_000_000;

/// Times, in nanoseconds.
#[derive(Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    /// An empty histogram with this many significant figures.
    fn new(figures: u8) -> Self {
        // Only invalid bounds are an error, and these bounds are valid constants.
        let empty = Histogram::new_with_bounds(1, LONGEST, figures);
        Self(empty.unwrap_or_else(|error| unreachable!("a histogram of {figures} figures: {error}")))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST));
    }

    fn add(&mut self, other: &Self) {
        // Cannot fail, because both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time at this quantile, in nanoseconds. 0 if nothing was recorded.
    pub(crate) fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The curve: quantiles and their times, with a few points for each halving of the distance to 1.
    pub(crate) fn curve(&self) -> Vec<(f64, u64)> {
        let mut curve: Vec<(f64, u64)> = Vec::new();
        for step in self.0.iter_quantiles(5) {
            let point = (step.quantile_iterated_to().min(1.0), step.value_iterated_to());
            if curve.last().is_none_or(|last| *last != point) {
                curve.push(point);
            }
        }
        curve
    }
}

/// An empty histogram for latencies, with three significant figures.
pub(crate) fn latencies() -> Times {
    Times::new(3)
}

/// Totals so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages that publishers accepted.
    pub(crate) published: u64,
    pub(crate) published_bytes: u64,
    pub(crate) confirmed: u64,
    /// Messages whose publish failed.
    pub(crate) failed: u64,
    /// Messages handled for the first time.
    pub(crate) handled: u64,
    pub(crate) handled_bytes: u64,
}

impl Counts {
    fn each(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            published: with(self.published, other.published),
            published_bytes: with(self.published_bytes, other.published_bytes),
            confirmed: with(self.confirmed, other.confirmed),
            failed: with(self.failed, other.failed),
            handled: with(self.handled, other.handled),
            handled_bytes: with(self.handled_bytes, other.handled_bytes),
        }
    }

    /// The difference to `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }
}

/// The counts and times of one worker.
pub(crate) struct Meter {
    pub(crate) counts: Counts,
    /// When the last message was handled, or, without consumers, confirmed.
    pub(crate) last: Option<Instant>,
    /// From due to confirmed, and from due to handled: one histogram since the reporter's last look, one for the whole
    /// measurement.
    pub(crate) confirm: Pair,
    pub(crate) end_to_end: Pair,
    /// From due to handed over, and from due to received. The difference of their means is the broker's time.
    pub(crate) handed_over: Times,
    pub(crate) received: Times,
    /// The measured stages, in the order of [`Stage::ALL`].
    stages: [Times; Stage::ALL.len()],
}

/// A latency of the current second and of the whole measurement.
pub(crate) struct Pair {
    pub(crate) second: Times,
    pub(crate) run: Times,
}

impl Pair {
    fn new() -> Self {
        Self { second: latencies(), run: latencies() }
    }

    pub(crate) fn record(&mut self, time: Duration, measured: bool) {
        self.second.record(time);
        if measured {
            self.run.record(time);
        }
    }
}

impl Meter {
    fn new() -> Self {
        Self {
            counts: Counts::default(),
            last: None,
            confirm: Pair::new(),
            end_to_end: Pair::new(),
            handed_over: Times::new(2),
            received: Times::new(2),
            stages: std::array::from_fn(|_| Times::new(2)),
        }
    }

    pub(crate) fn stage(&mut self, stage: Stage, time: Duration) {
        self.stages[stage as usize].record(time);
    }

    pub(crate) fn times(&self, stage: Stage) -> &Times {
        &self.stages[stage as usize]
    }

    fn add(&mut self, other: &Self) {
        self.counts = self.counts.each(other.counts, |a, b| a + b);
        self.last = self.last.max(other.last);
        let pairs = [(&mut self.confirm, &other.confirm), (&mut self.end_to_end, &other.end_to_end)];
        for (mine, others) in pairs {
            mine.second.add(&others.second);
            mine.run.add(&others.run);
        }
        self.handed_over.add(&other.handed_over);
        self.received.add(&other.received);
        for (mine, others) in self.stages.iter_mut().zip(&other.stages) {
            mine.add(others);
        }
    }
}

/// A worker's handle of its meter.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Meter>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All meters of a run.
#[derive(Default)]
pub(crate) struct Meters(Mutex<Vec<Shared>>);

impl Meters {
    /// Adds the meter of one more worker.
    pub(crate) fn add(&self) -> Shared {
        let meter = Shared(Arc::new(Mutex::new(Meter::new())));
        self.all().push(meter.clone());
        meter
    }

    pub(crate) fn counts(&self) -> Counts {
        self.all().iter().fold(Counts::default(), |sum, meter| sum.each(meter.lock().counts, |a, b| a + b))
    }

    /// The latencies since the last call: confirm, and end to end.
    pub(crate) fn second(&self) -> (Times, Times) {
        let (mut confirm, mut end_to_end) = (latencies(), latencies());
        for meter in self.all().iter() {
            let mut meter = meter.lock();
            confirm.add(&meter.confirm.second);
            end_to_end.add(&meter.end_to_end.second);
            meter.confirm.second.0.reset();
            meter.end_to_end.second.0.reset();
        }
        (confirm, end_to_end)
    }

    /// When the last message was handled, or confirmed.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.all().iter().filter_map(|meter| meter.lock().last).max()
    }

    /// The sum of all meters.
    pub(crate) fn sum(&self) -> Meter {
        let mut sum = Meter::new();
        self.all().iter().for_each(|meter| sum.add(&meter.lock()));
        sum
    }

    fn all(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_workers_together() {
        let meters = Meters::default();
        let (one, other) = (meters.add(), meters.add());
        for millis in 1..=50 {
            one.lock().end_to_end.record(Duration::from_millis(millis), true);
            other.lock().end_to_end.record(Duration::from_millis(50 + millis), true);
        }
        let sum = meters.sum().end_to_end.run;
        let close = |nanos: u64, millis: f64| assert!((nanos as f64 / 1e6 / millis - 1.0).abs() < 0.001, "{nanos}");
        close(sum.at(0.5), 50.0);
        close(sum.at(0.99), 99.0);
        close(sum.max(), 100.0);
        assert_eq!(sum.count(), 100);
        let curve = sum.curve();
        assert!(curve.is_sorted() && curve.last().unwrap().0 == 1.0, "{curve:?}");
    }

    #[test]
    fn a_second_is_told_once_and_the_warm_up_is_not_measured() {
        let meters = Meters::default();
        let meter = meters.add();
        meter.lock().confirm.record(Duration::from_millis(7), false);
        assert_eq!(meters.second().0.count(), 1);
        meter.lock().confirm.record(Duration::from_millis(9), true);
        assert_eq!(meters.second().0.count(), 1);
        assert_eq!(meters.second().0.count(), 0);
        assert_eq!(meters.sum().confirm.run.count(), 1);
    }

    #[test]
    fn a_time_past_all_bounds_is_the_longest() {
        let mut times = latencies();
        times.record(Duration::MAX);
        assert!(times.max() >= LONGEST);
    }
}
