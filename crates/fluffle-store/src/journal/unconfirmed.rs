//! Reads the records that earlier processes left, a page at a time.

use std::fmt;

use super::{Entry, Journal, reader::Pages};
use crate::StoreError;

/// The records that earlier processes left unconfirmed, in order; see [`Journal::unconfirmed`].
///
/// Holds at most 256 entries or about one mebibyte in memory, whichever is less, but always at least one entry.
#[must_use = "nothing is read before `next`"]
pub struct Unconfirmed<'a> {
    journal: &'a Journal,
    pages: Pages,
}

impl Journal {
    /// The records that earlier processes left unconfirmed, in order. Each call starts at the beginning, with the
    /// records that are still there.
    pub fn unconfirmed(&self) -> Unconfirmed<'_> {
        Unconfirmed { journal: self, pages: Pages::default() }
    }
}

impl Unconfirmed<'_> {
    /// The next entry, or `None` after the last.
    ///
    /// Cancel safe: no entry is skipped.
    ///
    /// # Errors
    ///
    /// The same as for [`Reader::next`](crate::Reader::next).
    pub async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        self.pages.next(self.journal, self.journal.0.left).await
    }
}

impl fmt::Debug for Unconfirmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed").field("after", &self.pages.after).finish_non_exhaustive()
    }
}
