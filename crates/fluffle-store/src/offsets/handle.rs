//! The handle of a store of offsets, through which its callers reach its thread.

use std::sync::Arc;

use super::command::{Command, What};
use crate::{StoreError, writer::Writer};

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
    pub(super) fn new(writer: Writer<Command>) -> Self {
        Self(Arc::new(writer))
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
