//! Counts of values by size.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::instrument::{
    bounds::Bounds,
    counter::{nanos, seconds},
    sharded::Sharded,
};

/// A histogram with fixed buckets, which adds up as it records: it keeps no single value, so its memory does not grow.
pub(crate) struct Histogram {
    bounds: Bounds,
    is_time: bool,
    shards: Sharded<Buckets>,
}

struct Buckets {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of times, with bounds in nanoseconds.
    pub(crate) fn of_times(bounds: Bounds) -> Self {
        Self::new(bounds, true)
    }

    /// Of numbers of things.
    pub(crate) fn of_sizes(bounds: Bounds) -> Self {
        Self::new(bounds, false)
    }

    fn new(bounds: Bounds, is_time: bool) -> Self {
        let buckets =
            || Buckets { counts: (0..bounds.buckets()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) };
        Self { bounds, is_time, shards: Sharded::new(buckets) }
    }

    #[inline]
    pub(crate) fn record(&self, value: Duration) {
        self.record_many(nanos(value), 1);
    }

    /// Records the same value for `times` messages: a batch is one addition.
    #[inline]
    pub(crate) fn record_for(&self, value: Duration, times: usize) {
        self.record_many(nanos(value), times as u64);
    }

    #[inline]
    pub(crate) fn record_size(&self, value: usize) {
        self.record_many(value as u64, 1);
    }

    #[inline]
    fn record_many(&self, value: u64, times: u64) {
        let buckets = self.shards.mine();
        buckets.counts[self.bounds.bucket(value)].fetch_add(times, Ordering::Relaxed);
        buckets.sum.fetch_add(value.wrapping_mul(times), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let mut counts = vec![0; self.bounds.buckets()];
        let mut sum = 0_u64;
        for buckets in self.shards.all() {
            for (count, bucket) in counts.iter_mut().zip(&buckets.counts) {
                *count += bucket.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(buckets.sum.load(Ordering::Relaxed));
        }
        #[allow(clippy::cast_precision_loss, reason = "a sum of sizes is far below 2^53")]
        let sum = if self.is_time { seconds(sum) } else { sum as f64 };
        Counts { bounds: self.bounds.rendered(), counts, sum }
    }
}

/// What a histogram holds at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// The upper bounds of the buckets, ascending, in seconds or things.
    pub bounds: &'static [f64],
    /// How many values are in each bucket alone (not summed up): one for each bound, and one for the values above all.
    pub counts: Vec<u64>,
    /// The sum of all values, in seconds or things.
    pub sum: f64,
}

impl Counts {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The values that were recorded since `earlier` was read from the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { bounds: self.bounds, counts, sum: (self.sum - earlier.sum).max(0.0) }
    }

    /// An upper estimate of a quantile, between 0 and 1: linear inside its bucket, as Prometheus's
    /// `histogram_quantile`. `None` if there is no value. A value above all bounds is told as the last bound.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count() as f64;
        let mut below = 0_u64;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if (below + count) as f64 >= rank {
                let Some(upper) = self.bounds.get(index) else { return self.bounds.last().copied() };
                let lower = if index == 0 { 0.0 } else { self.bounds[index - 1] };
                let part = ((rank - below as f64) / *count as f64).clamp(0.0, 1.0);
                return Some(lower + (upper - lower) * part);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::bounds::{SIZES, TIMES};

    #[test]
    fn values_are_in_their_buckets_and_in_the_sum() {
        let histogram = Histogram::of_times(TIMES);
        for micros in [10, 50, 51, 90_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record_for(Duration::from_millis(1), 5);
        let read = histogram.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[4], read.counts[19]), (2, 1, 5, 1));
        assert_eq!(read.count(), 9);
        assert!((read.sum - 90.005_111).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn a_quantile_is_inside_its_bucket() {
        let histogram = Histogram::of_sizes(SIZES);
        assert_eq!(histogram.read().quantile(0.5), None);
        (0..100).for_each(|size| histogram.record_size(size % 4 + 1));
        let read = histogram.read();
        assert_eq!(read.quantile(0.25), Some(1.0));
        assert_eq!(read.quantile(1.0), Some(4.0));
        let middle = read.quantile(0.5).unwrap();
        assert!(middle > 1.0 && middle < 4.0, "{middle}");
        histogram.record_size(1_000_000);
        let later = histogram.read();
        assert_eq!(later.quantile(1.0), Some(65_536.0), "above all bounds");
        assert_eq!(later.since(&read).counts.iter().sum::<u64>(), 1);
    }
}
