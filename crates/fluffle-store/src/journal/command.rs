//! What the journal's callers ask its thread for.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Entry, Position, Record};
use crate::StoreError;

pub(super) enum Command {
    Append(Append),
    /// Reads a page of entries, after the records of the same group are written.
    Page {
        after: i64,
        last: i64,
        reply: oneshot::Sender<Result<Page, StoreError>>,
    },
    Flush(oneshot::Sender<Result<(), StoreError>>),
}

pub(super) struct Append {
    pub(super) record: Arc<Record>,
    /// The record's size. This room is taken, and is given back if the record is not written.
    pub(super) size: u32,
    /// If true, the record is written and stays even if nobody waits for the reply.
    pub(super) keep: bool,
    pub(super) reply: oneshot::Sender<Result<Position, StoreError>>,
}

/// The result of one read.
pub(super) enum Page {
    Entries(Vec<Entry>),
    /// The next record is not what was written. Its position, and why.
    Damaged {
        position: i64,
        error: StoreError,
    },
}
