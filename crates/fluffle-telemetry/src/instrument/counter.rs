//! A value that only grows.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::instrument::sharded::Sharded;

/// A counter. It is never set back, so that the rate of a counter is right whatever restarts.
#[derive(Default)]
pub(crate) struct Counter(Sharded<AtomicU64>);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, more: usize) {
        self.0.mine().fetch_add(more as u64, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.all().map(|shard| shard.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// A counter of time, kept in nanoseconds: enough for 584 years.
#[derive(Default)]
pub(crate) struct Seconds(Counter);

impl Seconds {
    #[inline]
    pub(crate) fn add(&self, more: Duration) {
        self.0.0.mine().fetch_add(nanos(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        seconds(self.0.get())
    }
}

#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "exact to the nanosecond for 104 days, and near enough after that")]
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_many_threads_add_is_all_counted() {
        let (counter, time) = (Counter::default(), Seconds::default());
        thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.one();
                        time.add(Duration::from_millis(1));
                    }
                });
            }
        });
        assert_eq!(counter.get(), 90_000);
        assert!((time.get() - 90.0).abs() < 1e-9, "{}", time.get());
    }
}
