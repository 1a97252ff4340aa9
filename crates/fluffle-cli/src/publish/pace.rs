//! When the next message is due.

use std::time::Duration;

use tokio::time::Instant;

/// Message `n` is due `n / rate` seconds after the first. Time that was lost is not made up for by more than a tenth
/// of a second, so that a wait is not followed by a flood.
pub(crate) struct Pace {
    every: Option<Duration>,
    due: Instant,
}

const BURST: Duration = Duration::from_millis(100);

impl Pace {
    pub(crate) fn new(rate: Option<f64>) -> Self {
        Self { every: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)), due: Instant::now() }
    }

    /// Waits until the next message is due.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn due(&self) {
        if self.every.is_some() {
            tokio::time::sleep_until(self.due).await;
        }
    }

    /// A message was taken.
    pub(crate) fn taken(&mut self) {
        if let Some(every) = self.every {
            let earliest = Instant::now().checked_sub(BURST).unwrap_or(self.due);
            self.due = self.due.max(earliest) + every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_the_rate_and_a_wait_is_followed_by_no_flood() {
        let mut pace = Pace::new(Some(10.0));
        let begin = pace.due;
        for _ in 0..5 {
            pace.taken();
        }
        assert_eq!(pace.due - begin, Duration::from_millis(500));
        pace.due = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        pace.taken();
        assert!(pace.due + BURST >= Instant::now(), "ten seconds are not made up for");
    }
}
