//! What an earlier process left, read a page at a time.

use std::fmt;

use super::{Entry, Journal, reader::Pages};
use crate::StoreError;

/// What earlier processes left without a confirm, in order; see [`Journal::unconfirmed`].
///
/// Holds at most 256 entries or about a mebibyte in memory, whichever is less, but always one.
#[must_use = "nothing is read before `next`"]
pub struct Unconfirmed<'a> {
    journal: &'a Journal,
    pages: Pages,
}

impl<'a> Unconfirmed<'a> {
    pub(super) fn new(journal: &'a Journal) -> Self {
        Self { journal, pages: Pages::default() }
    }

    /// The next entry, or `None` after the last.
    ///
    /// Cancel safe: nothing is skipped.
    ///
    /// # Errors
    ///
    /// As of [`Reader::next`](crate::Reader::next).
    pub async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        self.pages.next(self.journal, self.journal.0.left).await
    }
}

impl fmt::Debug for Unconfirmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed").field("after", &self.pages.after).finish_non_exhaustive()
    }
}
