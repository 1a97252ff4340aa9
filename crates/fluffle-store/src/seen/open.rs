//! Opening a window of ids: its table, its thread and its handle.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{SeenIds, SeenIdsOptions, keeper::Keeper, table::Table};
use crate::{OpenError, StoreError, writer::Writer};

/// The name used in errors instead of a path.
const IN_MEMORY: &str = "the ids in memory";

impl SeenIdsOptions {
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
