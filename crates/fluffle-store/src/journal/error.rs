//! Errors of an append. The record always comes back.

use super::{LARGEST_BODY, LONGEST_ID, Record};
use crate::StoreError;

/// A record that was not appended, and why.
///
/// If the disk failed during the write, the next process may find the record all the same.
#[derive(Debug, thiserror::Error)]
#[error("the record {id:?} was not written to the journal", id = record.id)]
pub struct AppendError {
    /// The record, as it was given.
    pub record: Record,
    /// Why.
    #[source]
    pub kind: AppendErrorKind,
}

/// Why a record was not appended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendErrorKind {
    /// There is no room, and [`WhenFull::Error`](crate::WhenFull::Error) was chosen.
    #[error("the journal is full ({max_bytes} bytes): its messages are not being confirmed; wait, or raise max_bytes")]
    Full {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The record would not fit even into an empty journal, or is larger than any record may be.
    #[error(
        "the record takes {size} bytes; the limit is {max_bytes} (max_bytes, or the size reserved), and {LARGEST_BODY} \
         for its body; send less, or raise the limit"
    )]
    TooLarge {
        /// The size of the record, in bytes.
        size: u64,
        /// The limit, in bytes: the journal's, or the size that was reserved.
        max_bytes: u64,
    },
    /// The id is longer than [`LONGEST_ID`].
    #[error("the id has {length} bytes; a message id has at most {LONGEST_ID}")]
    IdTooLong {
        /// The length of the id, in bytes.
        length: usize,
    },
    /// The journal is closed, or the disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
