//! The records of a journal, their positions, and the entries that are read back.

use bytes::Bytes;

/// The longest id, in bytes: the most that AMQP's `message-id`, a short string, can carry.
pub const LONGEST_ID: usize = 255;
/// The largest body, in bytes: 128 MiB.
pub const LARGEST_BODY: usize = 128 << 20;
/// The bytes counted for a record in addition to its id and body: the row's header, the checksum and a share of a page.
const OVERHEAD: usize = 32;

/// A message as it is written to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The id of the message, under which it is published now and, if needed, again. At most [`LONGEST_ID`] bytes.
    pub id: String,
    /// The message, in any form that its publisher can read again. At most [`LARGEST_BODY`] bytes.
    pub bytes: Bytes,
}

impl Record {
    /// A record of `bytes` with the id `id`.
    pub fn new(id: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { id: id.into(), bytes: bytes.into() }
    }

    /// How much this record counts towards [`JournalOptions::max_bytes`](crate::JournalOptions::max_bytes): the bytes
    /// of id and body, plus 32.
    #[must_use]
    pub fn size(&self) -> u64 {
        size(self.id.len(), self.bytes.len())
    }
}

/// The size of a record with an id and a body of these lengths.
pub(super) fn size(id: usize, body: usize) -> u64 {
    (id + body + OVERHEAD) as u64
}

/// Never saturates, because [`LARGEST_BODY`] and the rest of a record are far below 4 GiB.
pub(super) fn small(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Where a record is in the journal. Positions increase in the order of appending.
///
/// A position cannot be copied or cloned, because a record is confirmed once, by giving its position back. It is valid
/// only for the [`Journal`](crate::Journal) that returned it; the next process gets new positions from
/// [`Journal::unconfirmed`](crate::Journal::unconfirmed).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a record whose position is dropped stays in the journal and is published again by the next process"]
pub struct Position {
    pub(super) number: i64,
    pub(super) size: u32,
}

impl Position {
    /// The number of the position, from 1. Positions are ordered by it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.number.unsigned_abs()
    }
}

/// A record read from the journal, not confirmed yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Pass this to [`Journal::confirm`](crate::Journal::confirm) when the broker has confirmed the message.
    pub position: Position,
    /// The id under which the record was appended. The message must be published under the same id.
    pub id: String,
    /// The body that was appended, byte for byte.
    pub bytes: Bytes,
}
