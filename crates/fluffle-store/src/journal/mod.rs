//! The journal of a publisher.

mod enqueued;
mod error;
mod keeper;
mod options;
mod place;
mod reader;
mod record;
mod shared;
mod table;
mod unconfirmed;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::sync::{SemaphorePermit, oneshot};

use self::{
    enqueued::Answer,
    keeper::{Append, Command},
    shared::Shared,
    table::{Table, small},
};
pub use self::{
    enqueued::Enqueued,
    error::{AppendError, AppendErrorKind},
    options::{Flush, JournalOptions, WhenFull},
    place::Place,
    reader::Reader,
    record::{Entry, LARGEST_BODY, LONGEST_ID, Position, Record},
    unconfirmed::Unconfirmed,
};
use crate::{StoreError, writer::Writer};

/// A log, on the local disk, of messages to be published. A record is written before its message is sent, and confirmed
/// after the broker has it.
///
/// Each process that opens the journal finds the records that earlier processes left unconfirmed, in the order of
/// appending. [`Flush`] says what a crash can lose, and [`JournalOptions::max_bytes`] limits the size.
///
/// A handle is cheap to clone, and all clones are one journal. When the last handle is dropped, the journal's thread
/// writes what is left and then ends. [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    writer: Writer<Command>,
    shared: Arc<Shared>,
    options: JournalOptions,
    /// The last position that earlier processes left.
    left: i64,
}

/// What a journal holds, and what it has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// Records in the journal or about to be written, whose confirm is missing or not written yet.
    pub unconfirmed: u64,
    /// How many bytes those records count towards [`JournalOptions::max_bytes`].
    pub bytes: u64,
    /// Records appended.
    pub appended: u64,
    /// Confirms written.
    pub confirmed: u64,
    /// Transactions that wrote those records and confirms.
    pub transactions: u64,
    /// How many times a commit or an interval waited for the disk to sync.
    pub syncs: u64,
}

impl Journal {
    /// The default options: grouped flush, 1 GiB, waiting when full.
    pub fn options() -> JournalOptions {
        JournalOptions::default()
    }

    fn new(writer: Writer<Command>, shared: Arc<Shared>, options: JournalOptions, left: i64) -> Self {
        Self(Arc::new(Inner { writer, shared, options, left }))
    }

    /// Writes a record. Resolves when the record is as durable as the [`Flush`] policy says.
    ///
    /// Order: if one append starts after another has resolved, its record comes later. Concurrent appends have no fixed
    /// order; see [`enqueue`](Self::enqueue).
    ///
    /// Cancel safe: if the future is dropped, the record is not written, or is removed again. Only if the process
    /// crashes at that moment, the next process may find the record.
    ///
    /// # Errors
    ///
    /// The record comes back in an [`AppendError`] that says why. After a failed append, a later one succeeds only if
    /// its own record is as durable as promised.
    pub async fn append(&self, record: Record) -> Result<Position, AppendError> {
        self.enqueue(record).await?.await
    }

    /// The first half of [`append`](Self::append): resolves when the record's place in the order is fixed. The returned
    /// [`Enqueued`] is the second half, which waits until the record is durable.
    ///
    /// A publisher uses it to keep its order without waiting for the disk at each message: it enqueues messages one
    /// after the other, and waits for many at once.
    ///
    /// Cancel safe, as `append` is.
    ///
    /// # Errors
    ///
    /// The same as for `append`: if there is no room, if the record exceeds a limit, or if the journal is closed.
    pub async fn enqueue(&self, record: Record) -> Result<Enqueued, AppendError> {
        self.begin(record, false).await
    }

    /// Like [`enqueue`](Self::enqueue), but the record stays even if the returned [`Enqueued`] is dropped.
    ///
    /// Cancel safe: if the future is dropped before it resolves, nothing is written.
    ///
    /// # Errors
    ///
    /// The same as for `enqueue`.
    pub async fn post(&self, record: Record) -> Result<Enqueued, AppendError> {
        self.begin(record, true).await
    }

    async fn begin(&self, record: Record, keep: bool) -> Result<Enqueued, AppendError> {
        let record = Arc::new(record);
        match self.send(&record, keep).await {
            Ok(answer) => Ok(Enqueued { answer, record, journal: self.clone(), keep }),
            Err(kind) => Err(AppendError { record: Arc::unwrap_or_clone(record), kind }),
        }
    }

    async fn send(&self, record: &Arc<Record>, keep: bool) -> Result<Answer, AppendErrorKind> {
        let size = self.size(record)?;
        let room = self.room(size).await?;
        let slot = self.0.writer.slot().await?;
        let (reply, answer) = oneshot::channel();
        // From here on the journal's thread gives this room back.
        room.forget();
        self.0.shared.counts.add(size);
        slot.send(Command::Append(Append { record: Arc::clone(record), size, keep, reply }));
        Ok(answer)
    }

    fn size(&self, record: &Record) -> Result<u32, AppendErrorKind> {
        let (size, max_bytes) = (record.size(), self.0.options.max_bytes);
        if record.id.len() > LONGEST_ID {
            return Err(AppendErrorKind::IdTooLong { length: record.id.len() });
        }
        if record.bytes.len() > LARGEST_BODY || size > max_bytes {
            return Err(AppendErrorKind::TooLarge { size, max_bytes });
        }
        Ok(small(size))
    }

    async fn room(&self, size: u32) -> Result<SemaphorePermit<'_>, AppendErrorKind> {
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

    /// The records that earlier processes left unconfirmed, in order. Each call starts at the beginning, with the
    /// records that are still there.
    pub fn unconfirmed(&self) -> Unconfirmed<'_> {
        Unconfirmed::new(self)
    }

    /// Reads all records in order, and then those that are appended, for a task that publishes from the journal. `None`
    /// while another reader exists.
    pub fn reader(&self) -> Option<Reader> {
        Reader::new(self)
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
