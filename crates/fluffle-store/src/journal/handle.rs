//! The handle of a journal, through which its callers reach its thread and the state that they share with it.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Instant,
};

use tokio::sync::SemaphorePermit;

use super::{
    AppendErrorKind, JournalOptions, JournalStats, LARGEST_BODY, LONGEST_ID, Position, Record, WhenFull,
    command::Command, record::small, shared::Shared,
};
use crate::{StoreError, writer::Writer};

/// A log, on the local disk, of messages to be published. A record is written before its message is sent, and confirmed
/// after the broker has it.
///
/// Each process that opens the journal finds the records that earlier processes left unconfirmed, in the order of
/// appending. [`Flush`](crate::Flush) says what a crash can lose, and [`JournalOptions::max_bytes`] limits the size.
///
/// A handle is cheap to clone, and all clones are one journal. When the last handle is dropped, the journal's thread
/// writes what is left and then ends. [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Journal(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) writer: Writer<Command>,
    pub(super) shared: Arc<Shared>,
    pub(super) options: JournalOptions,
    /// The last position that earlier processes left.
    pub(super) left: i64,
}

impl Journal {
    /// The default options: grouped flush, 1 GiB, waiting when full.
    pub fn options() -> JournalOptions {
        JournalOptions::default()
    }

    pub(super) fn new(writer: Writer<Command>, shared: Arc<Shared>, options: JournalOptions, left: i64) -> Self {
        Self(Arc::new(Inner { writer, shared, options, left }))
    }

    /// The record's size. Fails if the id or the body is too large for any journal, or the record for this one.
    pub(super) fn size(&self, record: &Record) -> Result<u32, AppendErrorKind> {
        let (size, max_bytes) = (record.size(), self.0.options.max_bytes);
        if record.id.len() > LONGEST_ID {
            return Err(AppendErrorKind::IdTooLong { length: record.id.len() });
        }
        if record.bytes.len() > LARGEST_BODY || size > max_bytes {
            return Err(AppendErrorKind::TooLarge { size, max_bytes });
        }
        Ok(small(size))
    }

    /// Waits for this many free bytes, unless [`WhenFull::Error`] forbids waiting.
    pub(super) async fn room(&self, size: u32) -> Result<SemaphorePermit<'_>, AppendErrorKind> {
        let shared = &self.0.shared;
        if let Ok(room) = shared.room.try_acquire_many(size) {
            return Ok(room);
        }
        if shared.room.is_closed() {
            return Err(self.0.writer.closed().into());
        }
        if self.0.options.when_full == WhenFull::Error {
            return Err(AppendErrorKind::Full { max_bytes: self.0.options.max_bytes });
        }
        let _waiting = Waiting::new(shared);
        // Confirms may be waiting for a record to share a transaction with; writing them now frees room.
        self.0.writer.wake();
        shared.room.acquire_many(size).await.map_err(|_closed| self.0.writer.closed().into())
    }

    /// Removes a record because the broker has confirmed its message.
    ///
    /// Costs no more than a push to a list. The removal is written with a later record or within 50 ms. After a crash
    /// before that, the next process publishes the message again, under the same id.
    pub fn confirm(&self, position: Position) {
        if self.0.shared.confirm(position) {
            self.0.writer.wake();
        }
    }

    /// Has `tell` called, on the journal's thread, with each record that was [posted](Self::post) and could not be
    /// written: its poster may have left and not hear of it. Only the first call counts.
    pub fn on_lost(&self, tell: impl Fn(&Record) + Send + Sync + 'static) {
        let _second = self.0.shared.lost.set(Box::new(tell));
    }

    /// The id of the oldest record, and when it was that: the journal's thread has looked it up after the last call of
    /// this, and looks it up again for the next one. Waits for nothing, and costs nothing while nobody calls.
    #[must_use]
    pub fn oldest_id(&self) -> Option<(String, Instant)> {
        let oldest = &self.0.shared.oldest;
        if !oldest.is_wanted.swap(true, Relaxed) {
            self.0.writer.wake();
        }
        oldest.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the record was there when this process opened the journal: an earlier process has appended it.
    #[must_use]
    pub fn is_left_over(&self, position: &Position) -> bool {
        position.number <= self.0.left
    }

    /// Resolves when everything appended and confirmed before this call is on the disk, whatever the policy.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// If the disk fails, or the journal is closed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.0.writer.ask(Command::Flush).await
    }

    /// What the journal holds and has done.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.0.shared.stats()
    }

    /// Flushes, closes the file, and resolves when another process can open it. Later calls on other handles fail.
    ///
    /// # Errors
    ///
    /// If the disk fails (the file is closed all the same), or if the journal was already closed.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.writer.close().await
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("options", &self.0.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Counts a caller for as long as it waits for room.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
