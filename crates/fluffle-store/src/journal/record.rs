//! What goes into a journal and comes out of it.

use bytes::Bytes;

/// The longest id, in bytes: what AMQP's `message-id`, a short string, can carry.
pub const LONGEST_ID: usize = 255;
/// The largest body, in bytes: 128 MiB.
pub const LARGEST_BODY: usize = 128 << 20;
/// What a record is reckoned to cost beside its id and body: its row's header, checksum and share of a page.
const OVERHEAD: usize = 32;

/// A message as it is written to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the message is known by, now and when it is published again; at most [`LONGEST_ID`] bytes.
    pub id: String,
    /// The message, in whatever form its publisher reads again; at most [`LARGEST_BODY`] bytes.
    pub bytes: Bytes,
}

impl Record {
    /// A record of `bytes` known by `id`.
    pub fn new(id: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { id: id.into(), bytes: bytes.into() }
    }

    /// What it counts for [`JournalOptions::max_bytes`](crate::JournalOptions::max_bytes): id, body and 32 bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        size(self.id.len(), self.bytes.len())
    }
}

/// What a record with an id and a body of these lengths counts.
pub(super) fn size(id: usize, body: usize) -> u64 {
    (id + body + OVERHEAD) as u64
}

/// Where a record is in the journal. Positions rise in the order of appending.
///
/// It is neither copied nor cloned: a record is confirmed once, by giving its position back. It is good for the
/// [`Journal`](crate::Journal) it came from; the next process gets its own from [`Journal::unconfirmed`](crate::Journal::unconfirmed).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a record whose position is dropped stays in the journal and is published again by the next process"]
pub struct Position {
    pub(super) number: i64,
    pub(super) size: u32,
}

impl Position {
    /// The number by which positions are ordered, from 1.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.number.unsigned_abs()
    }
}

/// A record that an earlier process left without a confirm.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// What to give [`Journal::confirm`](crate::Journal::confirm) when it is published.
    pub position: Position,
    /// The id it was appended under, and is to be published under.
    pub id: String,
    /// What was appended, byte for byte.
    pub bytes: Bytes,
}
