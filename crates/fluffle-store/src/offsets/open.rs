//! Opening a store of offsets: its table, its thread and its handle.

use std::path::Path;

use super::{Offsets, keeper::Keeper, table::Table};
use crate::{OpenError, StoreError, writer::Writer};

/// The name used in errors instead of a path.
const IN_MEMORY: &str = "the offsets in memory";

impl Offsets {
    /// Opens the store at `path` and starts its thread. Creates the file if needed, but no folder.
    ///
    /// Blocks: it reads the whole file once to check it.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] if the store is already open, [`OpenError::Corrupt`] if it is damaged,
    /// [`OpenError::Foreign`] if the file is something else, [`OpenError::Store`] if the disk fails.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::start(path, Table::open(path)?)
    }

    /// A store in memory, which ends when its last handle is dropped. A restart of the process forgets all offsets, so
    /// this is for tests.
    ///
    /// # Errors
    ///
    /// [`OpenError::Store`] if the store's thread cannot be started.
    pub fn in_memory() -> Result<Self, OpenError> {
        let path = Path::new(IN_MEMORY);
        Self::start(path, Table::in_memory().map_err(|error| StoreError::from_sqlite(path, error))?)
    }

    fn start(path: &Path, table: Table) -> Result<Self, OpenError> {
        let keeper = Keeper::new(table, path.into());
        let writer = Writer::spawn("offsets", path, keeper).map_err(|error| StoreError::io(path, error))?;
        Ok(Self::new(writer))
    }
}
