//! Everything in a journal, in order, and then what is appended.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::Ordering::{AcqRel, Release},
};

use super::{Entry, Journal, keeper::Command, table::Page};
use crate::StoreError;

/// A journal's entries, read a page at a time.
#[derive(Default)]
pub(super) struct Pages {
    page: VecDeque<Entry>,
    /// The last position that was read.
    pub(super) after: i64,
}

impl Pages {
    /// The next entry up to position `last`, if there is one now. A damaged record is an error once, and passed over then.
    ///
    /// Cancel safe: nothing is skipped.
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

/// Reads a journal from its beginning: what earlier processes left without a confirm, and then what this one appends, in the
/// order of appending, each once. There is one at a time: two would each publish everything.
///
/// Holds at most 256 entries or about a mebibyte in memory, whichever is less, but always one. See
/// [`Journal::reader`].
#[must_use = "nothing is read before `next`"]
pub struct Reader {
    journal: Journal,
    pages: Pages,
}

impl Reader {
    pub(super) fn new(journal: &Journal) -> Option<Self> {
        let taken = journal.0.shared.reading.swap(true, AcqRel);
        (!taken).then(|| Self { journal: journal.clone(), pages: Pages::default() })
    }

    /// Waits for the next entry. It is as safe then as the journal's [`Flush`](crate::Flush) policy makes it.
    ///
    /// Cancel safe: nothing is skipped.
    ///
    /// # Errors
    ///
    /// When the disk fails, or the journal is closed; asking again goes on at the same place. When a record has been damaged since
    /// the journal was opened ([`DamagedRecord`](crate::StoreErrorKind::DamagedRecord)): it stays in the journal, and asking
    /// again goes on after it.
    pub async fn next(&mut self) -> Result<Entry, StoreError> {
        loop {
            let shared = self.journal.0.shared.clone();
            // Listening before asking: what comes in between is not missed.
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
