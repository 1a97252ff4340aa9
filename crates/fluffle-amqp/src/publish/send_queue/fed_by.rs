//! The stores that feed a publisher.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::publish::backlog::{Backlog, BacklogError, StoreDepth};

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

    /// The messages that wait in all of them together, or `None` if there are none.
    pub(super) async fn depth(&self) -> Result<Option<StoreDepth>, BacklogError> {
        let mut sum = None;
        for store in self.stores() {
            let depth = store.waiting().await?;
            sum = Some(sum.map_or(depth, |sum: StoreDepth| sum.plus(depth)));
        }
        Ok(sum)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Backlog>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
