//! Counts the recent losses of a connection.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// After this time without a loss, earlier losses are forgotten. By default RabbitMQ lets no delivery be unacked for
/// longer (`consumer_timeout`), so every delivery that was unacked at the loss has been settled since.
const REMEMBERED: Duration = Duration::from_secs(30 * 60);

/// The recent losses of one connection.
#[derive(Default)]
pub(crate) struct Losses(Mutex<Recent>);

#[derive(Clone, Copy, Default)]
struct Recent {
    count: u32,
    last: Option<Instant>,
}

impl Losses {
    /// How many losses are remembered.
    pub(crate) fn count(&self) -> u32 {
        let recent = self.recent();
        recent.last.filter(|last| last.elapsed() < REMEMBERED).map_or(0, |_| recent.count)
    }

    pub(crate) fn add(&self) {
        let before = self.count();
        *self.recent() = Recent { count: before.saturating_add(1), last: Some(Instant::now()) };
    }

    /// Takes over the losses of another connection.
    pub(crate) fn take_over(&self, other: &Self) {
        let losses = *other.recent();
        *self.recent() = losses;
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
