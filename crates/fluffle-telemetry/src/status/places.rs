//! A limited number of places: for connections, for readers of the stream, for actions.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limited number of places.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    most: u32,
}

/// A place that is taken until this is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Places {
    pub(crate) fn new(most: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// A place, unless all are taken.
    pub(crate) fn take(&self) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits until no place is taken.
    pub(crate) async fn all_free(&self) {
        // Fails only if the semaphore is closed, and nothing closes it.
        drop(self.free.acquire_many(self.most).await);
    }
}
