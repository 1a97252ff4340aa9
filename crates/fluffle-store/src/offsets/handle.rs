//! The handle of a store of offsets, through which its callers reach its thread.

use std::{path::Path, sync::Arc};

use super::{
    keeper::{Command, Keeper, What},
    table::Table,
};
use crate::{OpenError, StoreError, writer::Writer};

/// The name used in errors instead of a path.
const IN_MEMORY: &str = "the offsets in memory";

/// How far readers have come in their streams: for each stream and reader, the first offset that the reader is not done
/// with.
///
/// An offset never goes back: to read a stream again, [`forget`](Self::forget) the reader's offset first. So a process
/// that comes late with an old offset does no harm.
///
/// A handle is cheap to clone, and all clones are one store. Commands that wait at the same time are executed in one
/// transaction, in the order in which they were given. Dropping a future does not withdraw its command.
///
/// ```
/// use fluffle_store::Offsets;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("billing.offsets");
/// let offsets = Offsets::open(&path)?;
///
/// assert_eq!(offsets.kept("events", "billing").await?, None);
/// // The work on offsets 0 to 41, and then:
/// offsets.keep("events", "billing", 42).await?;
/// assert_eq!(offsets.kept("events", "billing").await?, Some(42));
/// offsets.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Offsets(Arc<Writer<Command>>);

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
        Ok(Self(Arc::new(writer)))
    }

    /// The first offset of `stream` that `reader` is not done with. `None` if none was kept.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the store is closed.
    pub async fn kept(&self, stream: &str, reader: &str) -> Result<Option<u64>, StoreError> {
        self.ask(stream, reader, What::Find).await
    }

    /// Keeps that `reader` is done with all offsets of `stream` below `next`. If a higher offset is kept already, that
    /// one stays. The offset is on the disk when this resolves.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the store is closed. The offset may have been kept, or not.
    pub async fn keep(&self, stream: &str, reader: &str, next: u64) -> Result<(), StoreError> {
        self.ask(stream, reader, What::Keep(next)).await.map(drop)
    }

    /// Forgets the offset of `reader`, which then begins in `stream` as a new reader. Returns the offset that was kept.
    /// Call it while the reader is stopped, because a running one keeps its offset again.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the store is closed. The offset may have been forgotten, or not.
    pub async fn forget(&self, stream: &str, reader: &str) -> Result<Option<u64>, StoreError> {
        self.ask(stream, reader, What::Forget).await
    }

    /// Closes the file, and resolves when another process can open it. Later calls on other handles fail.
    ///
    /// # Errors
    ///
    /// If the store was already closed.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }

    async fn ask(&self, stream: &str, reader: &str, what: What) -> Result<Option<u64>, StoreError> {
        let (stream, reader) = (stream.to_owned(), reader.to_owned());
        self.0.ask(|reply| Command { stream, reader, what, reply }).await
    }
}

impl std::fmt::Debug for Offsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offsets").finish_non_exhaustive()
    }
}
