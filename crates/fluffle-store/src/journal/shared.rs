//! State shared by the journal's callers and its thread: free room, confirms to be written, counts.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::{Notify, Semaphore};

use super::{Position, Record};

/// What a journal holds, and what it has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// Records in the journal or about to be written, whose confirm is missing or not written yet.
    pub unconfirmed: u64,
    /// How many bytes those records count towards [`JournalOptions::max_bytes`](crate::JournalOptions::max_bytes).
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

/// What earlier processes left in the journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// The last position, or 0 if there is none.
    pub(super) last: i64,
}

/// Called with a posted record that could not be written.
type Lost = dyn Fn(&Record) + Send + Sync;

pub(super) struct Shared {
    /// One permit for each free byte. Closed when the thread ends.
    pub(super) room: Semaphore,
    /// How many callers wait for room.
    pub(super) waiting: AtomicUsize,
    pub(super) counts: Counts,
    /// Whether a [`Reader`](super::Reader) exists.
    pub(super) reading: AtomicBool,
    /// Notified when records have been appended.
    pub(super) appended: Notify,
    /// Told of each posted record that could not be written.
    pub(super) lost: OnceLock<Box<Lost>>,
    pub(super) oldest: Oldest,
    books: Mutex<Books>,
}

/// The oldest record, looked up when somebody asks.
#[derive(Default)]
pub(super) struct Oldest {
    pub(super) is_wanted: AtomicBool,
    /// Its id, and when it was looked up.
    pub(super) found: Mutex<Option<(String, Instant)>>,
}

struct Books {
    /// Confirms that are not written yet. Bounded by the positions that were handed out, because each is given back
    /// once.
    confirmed: Vec<Position>,
    /// Bytes by which the records exceed the limit. Freed bytes pay this off before there is room again.
    debt: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) appended: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) syncs: AtomicU64,
}

impl Counts {
    /// Counts a record that is about to be written.
    pub(super) fn add(&self, size: u32) {
        self.records.fetch_add(1, Relaxed);
        self.bytes.fetch_add(u64::from(size), Relaxed);
    }
}

impl Shared {
    pub(super) fn new(max_bytes: u64, left: &Left) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS as u64);
        Self {
            room: Semaphore::new(max_bytes.saturating_sub(left.bytes) as usize),
            waiting: AtomicUsize::new(0),
            reading: AtomicBool::new(false),
            appended: Notify::new(),
            lost: OnceLock::new(),
            oldest: Oldest::default(),
            counts: Counts { records: left.records.into(), bytes: left.bytes.into(), ..Counts::default() },
            books: Mutex::new(Books { confirmed: Vec::new(), debt: left.bytes.saturating_sub(max_bytes) }),
        }
    }

    /// Adds a confirm to be written. True if none was waiting before.
    pub(super) fn confirm(&self, position: Position) -> bool {
        let mut books = self.books();
        books.confirmed.push(position);
        books.confirmed.len() == 1
    }

    pub(super) fn take_confirmed(&self) -> Vec<Position> {
        mem::take(&mut self.books().confirmed)
    }

    /// Puts confirms back for a later transaction, because this one failed.
    pub(super) fn put_back(&self, mut confirmed: Vec<Position>) {
        let mut books = self.books();
        confirmed.append(&mut books.confirmed);
        books.confirmed = confirmed;
    }

    pub(super) fn has_confirmed(&self) -> bool {
        !self.books().confirmed.is_empty()
    }

    /// Undoes the count and gives back the room of a record that was not written.
    pub(super) fn give_up(&self, size: u32) {
        self.counts.records.fetch_sub(1, Relaxed);
        self.counts.bytes.fetch_sub(u64::from(size), Relaxed);
        self.release(size);
    }

    /// Gives back the room of a record that was removed or never written.
    pub(super) fn release(&self, size: u32) {
        let mut books = self.books();
        let paid = books.debt.min(u64::from(size));
        books.debt -= paid;
        self.room.add_permits((u64::from(size) - paid) as usize);
    }

    pub(super) fn stats(&self) -> JournalStats {
        JournalStats {
            unconfirmed: self.counts.records.load(Relaxed),
            bytes: self.counts.bytes.load(Relaxed),
            appended: self.counts.appended.load(Relaxed),
            confirmed: self.counts.confirmed.load(Relaxed),
            transactions: self.counts.transactions.load(Relaxed),
            syncs: self.counts.syncs.load(Relaxed),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
