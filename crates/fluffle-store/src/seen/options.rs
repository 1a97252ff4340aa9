//! The options of a window of ids, and how it is opened.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{SeenIds, keeper::Keeper, table::Table};
use crate::{OpenError, StoreError, writer::Writer};

/// The name used in errors instead of a path.
const IN_MEMORY: &str = "the ids in memory";

/// Options of [`SeenIds`]; see [`SeenIds::options`].
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

    /// The most ids that are remembered, at least one. A million by default, at about 150 bytes each on disk. The
    /// oldest id is forgotten first.
    pub fn max_ids(mut self, ids: u64) -> Self {
        self.max_ids = ids.max(1);
        self
    }

    /// Opens the window at `path` and starts its thread. Creates the file if needed, but no folder.
    ///
    /// Blocks: it reads the whole file once to check it, about one second for each gigabyte.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] if the window is already open, [`OpenError::Corrupt`] if it is damaged,
    /// [`OpenError::Foreign`] if the file is something else, [`OpenError::Store`] if the disk fails.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SeenIds, OpenError> {
        self.open_by(path.as_ref(), now)
    }

    /// A window in memory, which ends when its last handle is dropped.
    ///
    /// # Errors
    ///
    /// [`OpenError::Store`] if the window's thread cannot be started.
    pub fn in_memory(self) -> Result<SeenIds, OpenError> {
        self.in_memory_by(now)
    }

    pub(super) fn open_by(self, path: &Path, clock: impl Fn() -> u64 + Send + 'static) -> Result<SeenIds, OpenError> {
        let table = Table::open(path)?;
        self.start(path, table, clock)
    }

    pub(super) fn in_memory_by(self, clock: impl Fn() -> u64 + Send + 'static) -> Result<SeenIds, OpenError> {
        let path = Path::new(IN_MEMORY);
        let table = Table::in_memory().map_err(|error| StoreError::from_sqlite(path, error))?;
        self.start(path, table, clock)
    }

    fn start(self, path: &Path, table: Table, clock: impl Fn() -> u64 + Send + 'static) -> Result<SeenIds, OpenError> {
        let keeper = Keeper::new(table, self, path.into(), clock);
        let writer = Writer::spawn("seen-ids", path, keeper).map_err(|error| StoreError::io(path, error))?;
        Ok(SeenIds::new(writer))
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
