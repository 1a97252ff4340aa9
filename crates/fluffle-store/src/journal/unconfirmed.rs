//! What an earlier process left, read a page at a time.

use std::{collections::VecDeque, fmt};

use super::{Entry, Journal, keeper::Command};
use crate::StoreError;

/// What earlier processes left without a confirm, in order; see [`Journal::unconfirmed`].
///
/// Holds at most 256 entries or about a mebibyte in memory, whichever is less, but always one.
#[must_use = "nothing is read before `next`"]
pub struct Unconfirmed<'a> {
    journal: &'a Journal,
    page: VecDeque<Entry>,
    /// The last position that was read.
    after: i64,
}

impl<'a> Unconfirmed<'a> {
    pub(super) fn new(journal: &'a Journal) -> Self {
        Self { journal, page: VecDeque::new(), after: 0 }
    }

    /// The next entry, or `None` after the last.
    ///
    /// Cancel safe: nothing is skipped.
    ///
    /// # Errors
    ///
    /// When the disk fails, a record is damaged since the journal was opened, or the journal is closed.
    pub async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        let last = self.journal.0.left;
        if self.page.is_empty() && self.after < last {
            let after = self.after;
            self.page = self.journal.0.writer.ask(|reply| Command::Page { after, last, reply }).await?.into();
            self.after = self.page.back().map_or(last, |entry| entry.position.number);
        }
        Ok(self.page.pop_front())
    }
}

impl fmt::Debug for Unconfirmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed").field("after", &self.after).finish_non_exhaustive()
    }
}
