//! The stores that feed a publisher.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::publish::backlog::Backlog;

/// The stores that feed a publisher, for as long as they exist.
#[derive(Default)]
pub(super) struct FedBy(Mutex<Vec<Weak<dyn Backlog>>>);

impl FedBy {
    pub(super) fn add(&self, backlog: Weak<dyn Backlog>) {
        let mut all = self.all();
        all.retain(|one| one.strong_count() > 0);
        all.push(backlog);
    }

    pub(super) fn stores(&self) -> Vec<Arc<dyn Backlog>> {
        self.all().iter().filter_map(Weak::upgrade).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Backlog>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
