//! How a journal is opened.

use std::{path::Path, sync::Arc, time::Duration};

use super::{Journal, Table, keeper::Keeper, shared::Shared};
use crate::{OpenError, StoreError, database::Synced, writer::Writer};

/// When [`Journal::append`] resolves, and what can be lost after it has.
///
/// | policy | a killed process loses | a power cut loses | costs |
/// |---|---|---|---|
/// | `Each` | nothing | nothing | a sync for each record |
/// | `Grouped` | nothing | nothing | a sync for all that waits |
/// | `Interval(d)` | nothing | up to the last `d` | a sync every `d` |
///
/// "Nothing" is said of records whose `append` has resolved, of a disk that keeps what it has synced, and of a file nobody
/// damages. Confirms are written with a later record or within 50 ms, and a crash before that loses them under any policy: their
/// messages are published a second time, under the same ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flush {
    /// Each record is a transaction and a sync of its own. Promises no more than `Grouped`; what fails, fails alone.
    Each,
    /// All that waits goes in one transaction with one sync, and fails or succeeds together. The default.
    #[default]
    Grouped,
    /// `append` resolves when the operating system has the record; it is synced at most this much later.
    Interval(Duration),
}

/// What [`Journal::append`] does when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for confirms to make room, in order of arrival. The default.
    #[default]
    Wait,
    /// It fails with [`AppendErrorKind::Full`](crate::AppendErrorKind::Full).
    Error,
}

/// Options of a [`Journal`]; see [`Journal::options`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing until `open`"]
pub struct JournalOptions {
    pub(super) flush: Flush,
    pub(super) max_bytes: u64,
    pub(super) when_full: WhenFull,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { flush: Flush::default(), max_bytes: 1 << 30, when_full: WhenFull::default() }
    }
}

impl JournalOptions {
    /// When an append resolves. [`Flush::Grouped`] by default.
    pub fn flush(mut self, flush: Flush) -> Self {
        self.flush = flush;
        self
    }

    /// The most that unconfirmed records may take, in bytes, reckoned by [`Record::size`](crate::Record::size); 1 GiB by default.
    ///
    /// The files are larger: by a third for small records, and by 16 MiB and one group of records for the log.
    /// What an earlier process left counts; when that is more than the limit, nothing is lost, and appends find it full.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// What an append does then. [`WhenFull::Wait`] by default.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Opens the journal at `path`, creating it (but no folder), and starts its thread.
    ///
    /// Blocks: it reads the whole file once and checks every record, about a second for each gigabyte. Do it before the
    /// service starts, or where blocking is allowed.
    ///
    /// A tail torn by a power cut or cut off is no error: what came after the last whole transaction is gone.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] when somebody has it open, [`OpenError::Corrupt`] when a page or a record is damaged,
    /// [`OpenError::Foreign`] when it is something else, [`OpenError::Store`] when the disk fails.
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
