//! Why a record was not appended. It always comes back.

use super::{LARGEST_BODY, LONGEST_ID, Record};
use crate::StoreError;

/// A record that was not appended, and why.
///
/// When the disk failed in the middle of a write, the record may be found by the next process all the same.
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
    /// It would not fit if the journal were empty, or is larger than any record may be.
    #[error(
        "it takes {size} bytes and the journal holds {max_bytes}, a record at most {LARGEST_BODY}; send less, or raise max_bytes"
    )]
    TooLarge {
        /// What it takes, in bytes.
        size: u64,
        /// The journal's limit, in bytes.
        max_bytes: u64,
    },
    /// Its id is longer than [`LONGEST_ID`].
    #[error("its id has {length} bytes; a message id has at most {LONGEST_ID}")]
    IdTooLong {
        /// The id's length, in bytes.
        length: usize,
    },
    /// The journal is closed, or the disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
