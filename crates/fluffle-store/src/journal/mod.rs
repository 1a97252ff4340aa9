//! The publisher's journal.

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

/// A log of what is to be published, on the local disk: written before, confirmed after.
///
/// Each process that opens it finds what the earlier ones left without a confirm, in the order of appending. See [`Flush`]
/// for what a crash can take, and [`JournalOptions::max_bytes`] for its size.
///
/// A handle is cheap to clone, and all clones are one journal. When the last is dropped, the journal's thread writes what is
/// left and ends, in its own time; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    writer: Writer<Command>,
    shared: Arc<Shared>,
    options: JournalOptions,
    /// The last position an earlier process left.
    left: i64,
}

/// What a journal holds and has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// Records in it or on their way there, without a confirm or with one that is not written yet.
    pub unconfirmed: u64,
    /// What they count for [`JournalOptions::max_bytes`].
    pub bytes: u64,
    /// Records appended.
    pub appended: u64,
    /// Confirms written.
    pub confirmed: u64,
    /// Transactions that did all that.
    pub transactions: u64,
    /// Times a commit or an interval waited for the disk.
    pub syncs: u64,
}

impl Journal {
    /// A journal's options: grouped flush, 1 GiB, waiting when full.
    pub fn options() -> JournalOptions {
        JournalOptions::default()
    }

    fn new(writer: Writer<Command>, shared: Arc<Shared>, options: JournalOptions, left: i64) -> Self {
        Self(Arc::new(Inner { writer, shared, options, left }))
    }

    /// Writes a record; resolves when it is as safe as the [`Flush`] policy says.
    ///
    /// Order: a record appended after another's append has resolved comes after it. Appends under way at the same time have
    /// none; see [`enqueue`](Self::enqueue) for that.
    ///
    /// Cancel safe: a record whose append is dropped is not written, or taken out again. Only a crash just then leaves it to
    /// the next process.
    ///
    /// # Errors
    ///
    /// The record comes back in an [`AppendError`] that says why. An append after a failed one succeeds only when its own
    /// record is as safe as promised.
    pub async fn append(&self, record: Record) -> Result<Position, AppendError> {
        self.enqueue(record).await?.await
    }

    /// The first half of [`append`](Self::append): resolves when the record's place in the order is fixed. The second half, until
    /// it is safe, is the [`Enqueued`] that this returns.
    ///
    /// For a publisher that keeps its order without a wait for the disk at each message: it enqueues one after the other, and
    /// waits for many at once.
    ///
    /// Cancel safe, as `append` is.
    ///
    /// # Errors
    ///
    /// As of `append`, where there is no room, the record is past a limit or the journal is closed.
    pub async fn enqueue(&self, record: Record) -> Result<Enqueued, AppendError> {
        self.begin(record, false).await
    }

    /// As [`enqueue`](Self::enqueue), but the record stays when what this returns is dropped.
    ///
    /// Cancel safe: dropped before it resolves, nothing is written.
    ///
    /// # Errors
    ///
    /// As of `enqueue`.
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
        // From here on the thread gives it back.
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
        // Confirms may be there already, waiting for company.
        self.0.writer.wake();
        shared.room.acquire_many(size).await.map_err(|_closed| self.0.writer.closed().into())
    }

    /// Takes a record out: its message is safe with the broker.
    ///
    /// Costs no more than a push to a list. It is written with a later record or within 50 ms; a crash before that has the
    /// next process publish the message again, under the same id.
    pub fn confirm(&self, position: Position) {
        if self.0.shared.confirm(position) {
            self.0.writer.wake();
        }
    }

    /// What earlier processes left without a confirm, in order. Each call starts at the beginning, with what is still there.
    pub fn unconfirmed(&self) -> Unconfirmed<'_> {
        Unconfirmed::new(self)
    }

    /// All of it in order, and then what is appended: for whoever publishes from it. `None` while another reader lives.
    pub fn reader(&self) -> Option<Reader> {
        Reader::new(self)
    }

    /// Resolves when all that was appended and confirmed before is on the disk, whatever the policy.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the journal is closed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.0.writer.ask(Command::Flush).await
    }

    /// What it holds and has done.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.0.shared.stats()
    }

    /// Flushes, and resolves when the file is closed and free for another. What other handles ask for later fails.
    ///
    /// # Errors
    ///
    /// When the disk fails, though the file is closed then too, or when it was closed before.
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

/// A caller that waits for room, counted as long as it does.
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
