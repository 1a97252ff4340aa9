//! The slowest, the failed and some other messages of a consumer, for a person to look at.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::insight::ring::Ring;

/// How many of each kind are kept.
const KEPT: usize = 10;

/// One of so many messages is kept as an example of how most go.
const EVERY: u64 = 1_000;

/// For how long a slow message is kept.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// One attempt at a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) id: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) kind: Option<String>,
    pub(crate) bytes: usize,
    pub(crate) outcome: &'static str,
    pub(crate) failure: Option<String>,
    pub(crate) stages: Vec<(&'static str, Duration)>,
    pub(crate) detail: Option<String>,
}

/// Why a sample is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Failed,
    Slow,
    Sampled,
}

/// The samples of one queue. What is not kept costs two atomics.
#[derive(Debug)]
pub(crate) struct Samples {
    seen: AtomicU64,
    /// Nanoseconds: what takes less is not slow.
    slow_from: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The slowest first.
    slow: Vec<(Duration, Sample)>,
    failed: Ring<Sample>,
    sampled: Ring<Sample>,
}

impl Default for Samples {
    fn default() -> Self {
        let kept = Kept { slow: Vec::with_capacity(KEPT + 1), failed: Ring::new(KEPT), sampled: Ring::new(KEPT) };
        Self { seen: AtomicU64::new(0), slow_from: AtomicU64::new(0), kept: Mutex::new(kept) }
    }
}

impl Samples {
    /// Whether an attempt that took `took` is to be kept, and why.
    #[inline]
    pub(crate) fn wants(&self, took: Duration, is_failed: bool) -> Option<Why> {
        let nth = self.seen.fetch_add(1, Ordering::Relaxed);
        if is_failed {
            return Some(Why::Failed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.slow_from.load(Ordering::Relaxed) {
            return Some(Why::Slow);
        }
        nth.is_multiple_of(EVERY).then_some(Why::Sampled)
    }

    pub(crate) fn keep(&self, why: Why, took: Duration, sample: Sample) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Why::Failed => kept.failed.push(sample),
            Why::Sampled => kept.sampled.push(sample),
            Why::Slow => {
                let place = kept.slow.partition_point(|(slower, _)| *slower >= took);
                kept.slow.insert(place, (took, sample));
                kept.slow.truncate(KEPT);
                self.set_bar(&kept);
            }
        }
    }

    /// All that is kept. What was slow long ago is forgotten.
    pub(crate) fn all(&self, now: Instant) -> Vec<(Why, Sample)> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.slow.retain(|(_, sample)| now.saturating_duration_since(sample.at) < MEMORY);
        self.set_bar(&kept);
        let slow = kept.slow.iter().map(|(_, sample)| (Why::Slow, sample.clone()));
        let failed = kept.failed.iter().rev().map(|sample| (Why::Failed, sample.clone()));
        let sampled = kept.sampled.iter().rev().map(|sample| (Why::Sampled, sample.clone()));
        slow.chain(failed).chain(sampled).collect()
    }

    fn set_bar(&self, kept: &Kept) {
        let bar = if kept.slow.len() < KEPT { None } else { kept.slow.last() };
        let nanos = bar.map_or(0, |(took, _)| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.slow_from.store(nanos, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: u64, at: Instant) -> Sample {
        Sample {
            at,
            id: Some(id.to_string()),
            trace: None,
            attempt: 1,
            kind: None,
            bytes: 1,
            outcome: "handled",
            failure: None,
            stages: Vec::new(),
            detail: None,
        }
    }

    #[test]
    fn the_slowest_the_last_failed_and_some_others_are_kept_and_no_more() {
        let (samples, now) = (Samples::default(), Instant::now());
        for n in 0..5_000_u64 {
            let took = Duration::from_micros(n * 7_919 % 5_000);
            if let Some(why) = samples.wants(took, n % 100 == 99) {
                samples.keep(why, took, sample(n, now));
            }
        }
        let all = samples.all(now);
        let of = |why| all.iter().filter(move |(kept, _)| *kept == why).map(|(_, sample)| sample.id.clone().unwrap());
        assert_eq!(of(Why::Failed).collect::<Vec<_>>()[..2], ["4999", "4899"]);
        assert_eq!(of(Why::Failed).count(), KEPT);
        let slow: Vec<u64> = of(Why::Slow).map(|id| id.parse::<u64>().unwrap() * 7_919 % 5_000).collect();
        assert!(slow.len() == KEPT && slow.is_sorted_by(|a, b| a >= b) && slow[KEPT - 1] > 4_980, "{slow:?}");
        assert!((1..=KEPT).contains(&of(Why::Sampled).count()));
    }

    #[test]
    fn what_was_slow_long_ago_makes_room() {
        let (samples, now) = (Samples::default(), Instant::now());
        for n in 0..10 {
            samples.keep(Why::Slow, Duration::from_secs(9), sample(n, now));
        }
        assert_eq!(samples.wants(Duration::from_secs(1), false), Some(Why::Sampled), "the first of all");
        assert_eq!(samples.wants(Duration::from_secs(1), false), None);
        assert!(samples.all(now + MEMORY).is_empty());
        assert_eq!(samples.wants(Duration::from_secs(1), false), Some(Why::Slow));
    }
}
