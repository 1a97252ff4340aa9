//! Deliveries whose channel was lost while a handler had them in hand.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::consume::attempt::attempt::Attempt;

/// Deliveries that a handler had in hand when their channel was lost. The broker delivers them again. The handler keeps
/// working for as long as `handler_timeout` allows. After that, its place under the concurrency limit is free for the
/// next message.
#[derive(Default)]
pub(crate) struct Orphans(Mutex<Vec<Arc<Attempt>>>);

impl Orphans {
    pub(crate) fn add(&self, in_flight: impl Iterator<Item = Arc<Attempt>>) {
        self.all().extend(in_flight.filter(|attempt| attempt.is_started()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The handler of this attempt has answered.
    pub(crate) fn remove(&self, answered: &Arc<Attempt>) {
        self.all().retain(|attempt| !Arc::ptr_eq(attempt, answered));
    }

    /// Gives up the attempts whose handler has had them for longer than `limit`. Their permits are given back, so a new
    /// delivery of the same message can go to a handler.
    pub(crate) fn expire(&self, limit: Duration) {
        let mut overdue = Vec::new();
        self.all().retain(|attempt| {
            attempt.expire_items(limit);
            let in_time = attempt.busy().is_none_or(|busy| busy <= limit);
            if !in_time {
                overdue.push(Arc::clone(attempt));
            }
            in_time
        });
        // Outside the lock: giving up a key locks the queue of keys.
        overdue.iter().for_each(|attempt| attempt.abandon());
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Attempt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::attempt::attempt::tests::attempt;

    #[test]
    fn a_handler_that_hangs_on_a_lost_channel_gives_back_what_it_borrowed_when_its_time_is_over() {
        let (orphans, hung, lent) = (Orphans::default(), Arc::new(attempt(1)), Arc::new(()));
        hung.permits.lend(Box::new(Arc::clone(&lent)));
        hung.start();
        orphans.add(std::iter::once(Arc::clone(&hung)));
        orphans.expire(Duration::from_secs(600));
        assert_eq!(Arc::strong_count(&lent), 2, "its handler may still finish it");
        std::thread::sleep(Duration::from_millis(1));
        orphans.expire(Duration::ZERO);
        assert_eq!(Arc::strong_count(&lent), 1, "the next delivery of the message can be handled");
    }

    #[test]
    fn what_no_handler_has_begun_is_no_orphan() {
        let (orphans, waiting) = (Orphans::default(), Arc::new(attempt(1)));
        orphans.add(std::iter::once(Arc::clone(&waiting)));
        assert_eq!(Arc::strong_count(&waiting), 1);
    }
}
