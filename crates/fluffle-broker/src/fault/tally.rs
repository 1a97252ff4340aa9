//! How often a fault has happened, counted on one thread and awaited on another.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    fired: Mutex<u64>,
    more: Condvar,
}

impl Tally {
    pub(super) fn add(&self) {
        *self.fired.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.more.notify_all();
    }

    pub(super) fn fired(&self) -> u64 {
        *self.fired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the count, and answers what it is then or when time is up.
    pub(super) fn wait(&self, wanted: u64, within: Duration) -> u64 {
        let fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(fired, within, |fired| *fired < wanted);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The rule or the strike that a fault comes from: what heals it, and what counts it.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) id: u64,
    pub(super) tally: Arc<Tally>,
}
