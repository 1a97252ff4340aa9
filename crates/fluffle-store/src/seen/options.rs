//! How a window of ids is opened.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{SeenIds, keeper::Keeper, table::Table};
use crate::{OpenError, StoreError, writer::Writer};

/// How a path is called where there is none.
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
    /// How long an id is known, by the system's clock; seven days by default. A clock that is set back keeps ids longer.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// The most ids that are known, at least one; a million by default, at some 150 bytes each on disk. The oldest goes first.
    pub fn max_ids(mut self, ids: u64) -> Self {
        self.max_ids = ids.max(1);
        self
    }

    /// Opens the window at `path`, creating it (but no folder), and starts its thread.
    ///
    /// Blocks: it reads the whole file once to check it, about a second for each gigabyte.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] when somebody has it open, [`OpenError::Corrupt`] when it is damaged, [`OpenError::Foreign`] when
    /// it is something else, [`OpenError::Store`] when the disk fails.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SeenIds, OpenError> {
        self.open_by(path.as_ref(), now)
    }

    /// A window that ends with its last handle.
    ///
    /// # Errors
    ///
    /// [`OpenError::Store`] when its thread cannot be started.
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
