//! Opening a journal: its table, its thread and its handle.

use std::{path::Path, sync::Arc};

use super::{Flush, Journal, JournalOptions, keeper::Keeper, shared::Shared, table::Table};
use crate::{OpenError, StoreError, database::Synced, writer::Writer};

impl JournalOptions {
    /// Opens the journal at `path` and starts its thread. Creates the file if needed, but no folder.
    ///
    /// Blocks: it reads the whole file once and checks every record, about one second for each gigabyte. Call it before
    /// the service starts, or where blocking is allowed.
    ///
    /// A truncated or torn end of the file (after a power cut) is not an error: everything after the last complete
    /// transaction is dropped.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] if the journal is already open, [`OpenError::Corrupt`] if a page or a record is damaged,
    /// [`OpenError::Foreign`] if the file is something else, [`OpenError::Store`] if the disk fails.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, OpenError> {
        let path = path.as_ref();
        let synced = match self.flush {
            Flush::Each | Flush::Grouped => Synced::EachCommit,
            Flush::Interval(_) => Synced::OnDemand,
        };
        let (table, left) = Table::open(path, synced)?;
        let shared = Arc::new(Shared::new(self.max_bytes, &left));
        let keeper = Keeper::new(table, Arc::clone(&shared), self.flush, path.into());
        let writer = Writer::spawn("journal", path, keeper).map_err(|error| StoreError::io(path, error))?;
        Ok(Journal::new(writer, shared, self, left.last))
    }
}
