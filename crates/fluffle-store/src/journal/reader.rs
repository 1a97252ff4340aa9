//! Reads everything in a journal in order, and then the records that are appended.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::Ordering::{AcqRel, Release},
};

use super::{
    Entry, Journal,
    command::{Command, Page},
};
use crate::StoreError;

/// A journal's entries, read a page at a time.
#[derive(Default)]
pub(super) struct Pages {
    page: VecDeque<Entry>,
    /// The last position that was read.
    pub(super) after: i64,
}

impl Pages {
    /// The next entry up to position `last`, if there is one now. A damaged record returns an error once; the next call
    /// continues after it.
    ///
    /// Cancel safe: no entry is skipped.
    pub(super) async fn next(&mut self, journal: &Journal, last: i64) -> Result<Option<Entry>, StoreError> {
        if self.page.is_empty() && self.after < last {
            let after = self.after;
            match journal.0.writer.ask(|reply| Command::Page { after, last, reply }).await? {
                Page::Entries(entries) => self.page = entries.into(),
                Page::Damaged { position, error } => {
                    self.after = position;
                    return Err(error);
                }
            }
            self.after = self.page.back().map_or(after, |entry| entry.position.number);
        }
        Ok(self.page.pop_front())
    }
}

/// Reads a journal from its beginning: first the records that earlier processes left unconfirmed, then the records that
/// this process appends, in the order of appending, each once. Only one reader exists at a time, because two would each
/// publish every record.
///
/// Holds at most 256 entries or about one mebibyte in memory, whichever is less, but always at least one entry. See
/// [`Journal::reader`].
#[must_use = "nothing is read before `next`"]
pub struct Reader {
    journal: Journal,
    pages: Pages,
}

impl Journal {
    /// Reads all records in order, and then those that are appended, for a task that publishes from the journal. `None`
    /// while another reader exists.
    pub fn reader(&self) -> Option<Reader> {
        let taken = self.0.shared.reading.swap(true, AcqRel);
        (!taken).then(|| Reader { journal: self.clone(), pages: Pages::default() })
    }
}

impl Reader {
    /// Waits for the next entry. The entry is then as durable as the journal's [`Flush`](crate::Flush) policy says.
    ///
    /// Cancel safe: no entry is skipped.
    ///
    /// # Errors
    ///
    /// If the disk fails or the journal is closed: the next call continues at the same place. If a record was damaged
    /// after the journal was opened ([`DamagedRecord`](crate::StoreErrorKind::DamagedRecord)): the record stays in the
    /// journal, and the next call continues after it.
    pub async fn next(&mut self) -> Result<Entry, StoreError> {
        loop {
            let shared = self.journal.0.shared.clone();
            // Listens before it asks, so that a record appended in between is not missed.
            let mut appended = std::pin::pin!(shared.appended.notified());
            appended.as_mut().enable();
            match self.pages.next(&self.journal, i64::MAX).await? {
                Some(entry) => return Ok(entry),
                None => appended.await,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.journal.0.shared.reading.store(false, Release);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("after", &self.pages.after).finish_non_exhaustive()
    }
}
