//! The handle of a window of ids, through which its callers reach its thread.

use std::sync::Arc;

use super::{
    SeenIdsOptions,
    command::{Command, Ids, Question},
};
use crate::{StoreError, writer::Writer};

/// The ids of messages that were handled, kept for as long as the messages may come again: a window bounded by age and
/// by number.
///
/// The window is on disk, or in memory with the same behaviour ([`SeenIdsOptions::in_memory`]), where a restart forgets
/// all ids.
///
/// The moment of [`insert`](Self::insert) decides what a crash does. If the id is inserted before the work, a crash
/// loses the message that was being handled. If it is inserted after the work, a crash may cause the work to be done
/// twice. To replay a message on purpose, [remove](Self::remove) its id first.
///
/// If the file's structure is damaged, opening it fails. A flipped bit inside an id is not noticed: that id is then
/// unknown, and its message would be handled again.
///
/// A handle is cheap to clone, and all clones are one window. Commands that wait at the same time are executed in one
/// transaction, in the order in which they were given. Dropping a future does not withdraw its command.
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
    /// The default options: seven days, a million ids.
    pub fn options() -> SeenIdsOptions {
        SeenIdsOptions::default()
    }

    pub(super) fn new(writer: Writer<Command>) -> Self {
        Self(Arc::new(writer))
    }

    /// Whether the id was inserted and is still in the window.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed.
    pub async fn contains(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Contains, id).await
    }

    /// Inserts an id. True if the id was not in the window. The id is on the disk when this resolves.
    ///
    /// If the id is already in the window, it keeps its age. If there are too many ids, the oldest is forgotten.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed. The id may have been inserted, or not.
    pub async fn insert(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Insert, id).await
    }

    /// Like [`contains`](Self::contains), for many ids at once. Returns one answer for each, in the same order.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed.
    pub async fn contains_all(&self, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.ask_all(Question::Contains, ids).await
    }

    /// Like [`insert`](Self::insert), for many ids in one transaction. All are on the disk when this resolves. Returns
    /// for each, in the same order, whether it was not in the window.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed. Either all ids have been inserted, or none.
    pub async fn insert_all(&self, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.ask_all(Question::Insert, ids).await
    }

    /// Like [`contains_all`](Self::contains_all), for the ids `<batch>/<item>` that Fluffle gives the items of a batch.
    /// It does not matter whether an id was inserted with its batch or by itself.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed.
    pub async fn contains_items(
        &self,
        batch: impl Into<String>,
        items: impl Into<Vec<u32>>,
    ) -> Result<Vec<bool>, StoreError> {
        self.ask_for(Question::Contains, Ids::Items(batch.into(), items.into())).await
    }

    /// Like [`insert_all`](Self::insert_all), for the ids `<batch>/<item>` of items of a batch. They are kept as one
    /// row, which costs little more than a single id. Items that were inserted together are forgotten together.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed. Either all ids have been inserted, or none.
    ///
    /// ```
    /// # use fluffle_store::SeenIds;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let seen = SeenIds::options().in_memory()?;
    /// assert_eq!(seen.insert_items("01997b1c", [0, 1, 2]).await?, [true; 3]);
    /// assert!(seen.contains("01997b1c/2").await?);
    /// assert!(seen.insert("01997b1c/3").await?);
    /// assert_eq!(seen.contains_items("01997b1c", [2, 3, 4]).await?, [true, true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn insert_items(
        &self,
        batch: impl Into<String>,
        items: impl Into<Vec<u32>>,
    ) -> Result<Vec<bool>, StoreError> {
        self.ask_for(Question::Insert, Ids::Items(batch.into(), items.into())).await
    }

    /// Forgets an id, so that its message is handled again. True if the id was in the window. The removal is on the
    /// disk when this resolves.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the window is closed. The id may have been removed, or not.
    pub async fn remove(&self, id: impl Into<String>) -> Result<bool, StoreError> {
        self.ask(Question::Remove, id).await
    }

    /// Closes the file, and resolves when another process can open it. Later calls on other handles fail.
    ///
    /// # Errors
    ///
    /// If the window was already closed.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }

    async fn ask(&self, question: Question, id: impl Into<String>) -> Result<bool, StoreError> {
        let answers = self.ask_all(question, vec![id.into()]).await?;
        Ok(answers.into_iter().any(|answer| answer))
    }

    async fn ask_all(&self, question: Question, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.ask_for(question, Ids::Each(ids)).await
    }

    async fn ask_for(&self, question: Question, ids: Ids) -> Result<Vec<bool>, StoreError> {
        self.0.ask(|reply| Command { question, ids, reply: Some(reply) }).await
    }
}

impl std::fmt::Debug for SeenIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenIds").finish_non_exhaustive()
    }
}
