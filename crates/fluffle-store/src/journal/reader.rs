//! Everything in a journal, in order, and then what is appended.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::Ordering::{AcqRel, Release},
};

use super::{Entry, Journal, keeper::Command};
use crate::StoreError;

/// Reads a journal from its beginning: what earlier processes left without a confirm, and then what this one appends, in the
/// order of appending, each once. There is one at a time: two would each publish everything.
///
/// Holds at most 256 entries or about a mebibyte in memory, whichever is less, but always one. See
/// [`Journal::reader`].
#[must_use = "nothing is read before `next`"]
pub struct Reader {
    journal: Journal,
    page: VecDeque<Entry>,
    /// The last position that was read.
    after: i64,
}

impl Reader {
    pub(super) fn new(journal: &Journal) -> Option<Self> {
        let taken = journal.0.shared.reading.swap(true, AcqRel);
        (!taken).then(|| Self { journal: journal.clone(), page: VecDeque::new(), after: 0 })
    }

    /// Waits for the next entry. It is as safe then as the journal's [`Flush`](crate::Flush) policy makes it.
    ///
    /// Cancel safe: nothing is skipped.
    ///
    /// # Errors
    ///
    /// When the disk fails, a record is damaged since the journal was opened, or the journal is closed. Asking again
    /// goes on at the same place.
    pub async fn next(&mut self) -> Result<Entry, StoreError> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Ok(entry);
            }
            let shared = self.journal.0.shared.clone();
            // Listening before asking: what comes in between is not missed.
            let mut appended = std::pin::pin!(shared.appended.notified());
            appended.as_mut().enable();
            let after = self.after;
            let ask = |reply| Command::Page { after, last: i64::MAX, reply };
            self.page = self.journal.0.writer.ask(ask).await?.into();
            match self.page.back() {
                Some(entry) => self.after = entry.position.number,
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
        f.debug_struct("Reader").field("after", &self.after).finish_non_exhaustive()
    }
}
