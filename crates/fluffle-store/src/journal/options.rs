//! The options of a journal.

use std::time::Duration;

/// When [`Journal::append`](crate::Journal::append) resolves, and what a crash can lose after that.
///
/// | policy | a killed process loses | a power cut loses | cost |
/// |---|---|---|---|
/// | `Each` | nothing | nothing | a sync for each record |
/// | `Grouped` | nothing | nothing | a sync for each group of waiting records |
/// | `Interval(d)` | nothing | up to the last `d` | a sync every `d` |
///
/// "Nothing" holds for records whose `append` has resolved, if the disk keeps what it has synced and nobody damages the
/// file. Confirms are written with a later record or within 50 ms. A crash before that loses them under any policy;
/// their messages are then published a second time, under the same ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flush {
    /// Each record is a transaction and a sync of its own. This guarantees no more than `Grouped`, but a record that
    /// fails does not fail others.
    Each,
    /// All waiting records go into one transaction with one sync, and succeed or fail together. The default.
    #[default]
    Grouped,
    /// `append` resolves when the operating system has the record. The record is synced at most this much later.
    Interval(Duration),
}

/// What [`Journal::append`](crate::Journal::append) does when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The append waits until confirms free enough room. Appends wait in order of arrival. The default.
    #[default]
    Wait,
    /// The append fails with [`AppendErrorKind::Full`](crate::AppendErrorKind::Full).
    Error,
}

/// Options of a [`Journal`](crate::Journal); see [`Journal::options`](crate::Journal::options).
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

    /// The most bytes that unconfirmed records may take, measured by [`Record::size`](crate::Record::size). 1 GiB by
    /// default.
    ///
    /// The files are larger: by a third for small records, and by 16 MiB and one group of records for the log. Records
    /// that an earlier process left count. If they exceed the limit, none are lost, but the journal is full for
    /// appends.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// What an append does when the journal is full. [`WhenFull::Wait`] by default.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }
}
