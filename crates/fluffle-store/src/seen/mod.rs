//! The ids already handled.

mod keeper;
mod options;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::keeper::{Command, Question};
pub use self::options::SeenIdsOptions;
use crate::{StoreError, writer::Writer};

/// The ids of messages that were handled, for as long as they may come again: a window bounded by age and by number.
///
/// On disk, or in memory with the same behaviour ([`SeenIdsOptions::in_memory`]), where a restart forgets.
///
/// When to [`insert`](Self::insert) decides what a crash does. Before the work, it swallows the message that was being worked on;
/// after it, the work may be done twice. A deliberate replay passes when the id is [removed](Self::remove) first.
///
/// Damage that breaks the file's structure is found when it is opened. A bit that flipped inside an id is not: that id is unknown then,
/// and its message would be handled again.
///
/// A handle is cheap to clone, and all clones are one window. What callers ask for at the same time is done in one
/// transaction, in the order asked. Dropping a future does not take back what it asked for.
///
/// ```
/// use std::time::Duration;
///
/// use fluffle_store::SeenIds;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.seen");
/// let seen = SeenIds::options().keep(Duration::from_secs(7 * 24 * 3600)).max_ids(1_000_000).open(&path)?;
///
/// assert!(!seen.contains("01997b1c").await?);
/// // The work, and then:
/// assert!(seen.insert("01997b1c").await?);
/// assert!(seen.contains("01997b1c").await?);
/// seen.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SeenIds(Arc<Writer<Command>>);

impl SeenIds {
    /// A window's options: seven days, a million ids.
    pub fn options() -> SeenIdsOptions {
        SeenIdsOptions::default()
    }

    fn new(writer: Writer<Command>) -> Self {
        Self(Arc::new(writer))
    }

    /// Whether the id was inserted, and is still within the window.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the window is closed.
    pub async fn contains(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Contains, id).await
    }

    /// Inserts an id; true when it was not there. It is on the disk when this resolves.
    ///
    /// An id that is there keeps its age. Past the limit, the oldest id goes.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the window is closed. The id may then have been inserted, or not.
    pub async fn insert(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Insert, id).await
    }

    /// [`contains`](Self::contains) for many ids at once: an answer for each, in their order.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the window is closed.
    pub async fn contains_all(&self, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.ask_all(Question::Contains, ids).await
    }

    /// [`insert`](Self::insert) for many ids in one transaction: all are on the disk when this resolves. For each, in their
    /// order, whether it was not there.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the window is closed. All may then have been inserted, or none.
    pub async fn insert_all(&self, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.ask_all(Question::Insert, ids).await
    }

    /// Forgets an id, so that its message is handled again; true when it was there. On the disk when this resolves.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the window is closed. The id may then have been removed, or not.
    pub async fn remove(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Remove, id).await
    }

    /// Resolves when the file is closed and free for another. What other handles ask for later fails.
    ///
    /// # Errors
    ///
    /// When it was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }

    async fn ask(&self, question: Question, id: impl Into<String>) -> Result<bool, StoreError> {
        let answers = self.ask_all(question, vec![id.into()]).await?;
        Ok(answers.into_iter().any(|answer| answer))
    }

    async fn ask_all(&self, question: Question, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.0.ask(|reply| Command { question, ids, reply }).await
    }
}

impl std::fmt::Debug for SeenIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenIds").finish_non_exhaustive()
    }
}
