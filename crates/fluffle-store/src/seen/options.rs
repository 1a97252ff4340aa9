//! The options of a window of ids.

use std::time::Duration;

/// Options of [`SeenIds`](crate::SeenIds); see [`SeenIds::options`](crate::SeenIds::options).
#[derive(Debug, Clone)]
#[must_use = "options do nothing until `open` or `in_memory`"]
pub struct SeenIdsOptions {
    pub(super) keep: Duration,
    pub(super) max_ids: u64,
}

impl Default for SeenIdsOptions {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 24 * 3600), max_ids: 1_000_000 }
    }
}

impl SeenIdsOptions {
    /// How long an id is remembered, by the system's clock. Seven days by default. If the clock is set back, ids are
    /// kept longer.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// How many ids are remembered, at least one: a million by default. The oldest id is forgotten first. Items of a
    /// batch that were inserted together ([`insert_items`](crate::SeenIds::insert_items)) are forgotten together, when
    /// none of them is among the newest `ids`, so that up to one batch more is remembered.
    ///
    /// An id takes about 150 bytes on disk, and so do all items of a batch that were inserted together.
    pub fn max_ids(mut self, ids: u64) -> Self {
        self.max_ids = ids.max(1);
        self
    }
}
