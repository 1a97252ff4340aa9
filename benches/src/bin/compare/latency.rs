//! The latency of messages, counted from the time at which they should have been sent, so that a publisher that falls
//! behind does not look better.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// A histogram of microseconds, up to 60 s, with three significant digits.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    first: u64,
    histogram: Option<Histogram<u64>>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3).ok();
        Self(Mutex::new(State { began: Instant::now(), first: 1, histogram }))
    }
}

impl Latencies {
    /// Starts a lap in which message `first` is due now.
    pub(crate) fn restart(&self, began: Instant, first: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.began = began;
        state.first = first;
        if let Some(histogram) = &mut state.histogram {
            histogram.reset();
        }
    }

    /// Records that message `number` was handled now, where messages are due `interval` apart.
    pub(crate) fn record(&self, number: u64, interval: Duration) {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Late messages of the lap before do not count.
        let Some(position) = number.checked_sub(state.first) else { return };
        let nanos = interval.as_nanos().saturating_mul(u128::from(position));
        let intended = state.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let late = now.saturating_duration_since(intended).as_micros();
        if let Some(histogram) = &mut state.histogram {
            histogram.saturating_record(u64::try_from(late).unwrap_or(u64::MAX));
        }
    }

    /// `None` if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = state.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        Some(Summary { p50_us: at(0.50), p99_us: at(0.99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_intended_time() {
        let latencies = Latencies::default();
        let began = Instant::now().checked_sub(Duration::from_millis(30)).unwrap();
        latencies.restart(began, 11);
        // Two messages due 30 and 20 ms ago, and one of the lap before.
        latencies.record(11, Duration::from_millis(10));
        latencies.record(12, Duration::from_millis(10));
        latencies.record(10, Duration::from_millis(10));
        let summary = latencies.summary().unwrap();
        assert!((20_000.0..30_000.0).contains(&summary.p50_us), "{summary:?}");
        assert!(summary.p99_us >= 30_000.0, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_no_latency() {
        assert_eq!(Latencies::default().summary(), None);
    }
}
