//! The journal of a publisher.

mod append;
mod command;
mod error;
mod handle;
#[cfg(feature = "sqlite")]
mod keeper;
#[cfg(feature = "sqlite")]
mod open;
mod options;
mod place;
mod reader;
mod record;
mod shared;
#[cfg(feature = "sqlite")]
mod table;
mod unconfirmed;

#[cfg(feature = "sqlite")]
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
