//! Readings of the last while, for rates and for quantiles of a recent past.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Keeps readings for `length`, and one that is older.
#[derive(Debug)]
pub(crate) struct Window<T> {
    readings: VecDeque<(Instant, T)>,
    length: Duration,
    /// Readings that are closer together than this replace one another.
    step: Duration,
}

impl<T> Window<T> {
    pub(crate) fn new(length: Duration, step: Duration) -> Self {
        Self { readings: VecDeque::new(), length, step }
    }

    pub(crate) fn push(&mut self, at: Instant, reading: T) {
        let is_close = |earlier: &(Instant, T)| at.saturating_duration_since(earlier.0) < self.step;
        if self.readings.len() >= 2 && self.readings.get(self.readings.len() - 2).is_some_and(is_close) {
            self.readings.pop_back();
        }
        self.readings.push_back((at, reading));
        while self.readings.get(1).is_some_and(|(second, _)| at.saturating_duration_since(*second) >= self.length) {
            self.readings.pop_front();
        }
    }

    /// The oldest and the newest reading, and the seconds between them. `None` before there are two.
    pub(crate) fn ends(&self) -> Option<(&T, &T, f64)> {
        let ((first, oldest), (last, newest)) = (self.readings.front()?, self.readings.back()?);
        let seconds = last.saturating_duration_since(*first).as_secs_f64();
        (seconds > 0.0).then_some((oldest, newest, seconds))
    }

    pub(crate) fn newest(&self) -> Option<&T> {
        self.readings.back().map(|(_, newest)| newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_spans_its_length_and_its_memory_is_bounded_by_its_step() {
        let (start, mut window) = (Instant::now(), Window::new(Duration::from_secs(60), Duration::from_secs(10)));
        assert!(window.ends().is_none());
        for half_seconds in 0..1_000_u32 {
            window.push(start + Duration::from_millis(500) * half_seconds, half_seconds);
            assert!(window.readings.len() <= 9, "{}", window.readings.len());
        }
        let (oldest, newest, seconds) = window.ends().unwrap();
        assert_eq!(*newest, 999);
        assert!((60.0..=71.0).contains(&seconds), "{seconds}");
        assert!((f64::from(newest - oldest) * 0.5 - seconds).abs() < 1e-9);
    }
}
