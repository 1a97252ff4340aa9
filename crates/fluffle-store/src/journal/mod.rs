//! The journal of a publisher.

mod append;
mod error;
mod handle;
mod keeper;
mod open;
mod options;
mod place;
mod reader;
mod record;
mod shared;
mod table;
mod unconfirmed;

pub(crate) use self::table::JOURNAL;
pub use self::{
    append::Enqueued,
    error::{AppendError, AppendErrorKind},
    handle::Journal,
    options::{Flush, JournalOptions, WhenFull},
    place::Place,
    reader::Reader,
    record::{Entry, LARGEST_BODY, LONGEST_ID, Position, Record},
    shared::JournalStats,
    unconfirmed::Unconfirmed,
};
