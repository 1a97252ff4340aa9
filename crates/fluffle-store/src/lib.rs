//! Local durable state for a service: what it must still know after a crash, on its own disk.
//!
//! - [`Journal`]: what a publisher has promised to send. A record is written before it goes out and confirmed when the
//!   broker has it; the next process finds, in order, what was never confirmed.
//! - [`SeenIds`]: the ids of messages already handled, for as long as they may come again.
//!
//! Each is one SQLite database (a file, with `-wal` and `-lock` files beside it) and one thread that alone touches it.
//! The futures here only wait for that thread: they block no executor and work on any. What waits together goes to the disk
//! together, so many callers share one sync.
//!
//! The files belong on a local disk: network file systems keep neither locks nor syncs as promised.
//!
//! ```
//! use fluffle_store::{Flush, Journal, Record, WhenFull};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("orders.journal");
//! let journal = Journal::options().flush(Flush::Grouped).max_bytes(1 << 30).when_full(WhenFull::Wait).open(&path)?;
//!
//! let mut left = journal.unconfirmed();
//! while let Some(entry) = left.next().await? {
//!     // Publish `entry.bytes` again under `entry.id`, then:
//!     journal.confirm(entry.position);
//! }
//!
//! let position = journal.append(Record::new("01997b1c", "an order")).await?;
//! // Publish it; when the broker has confirmed:
//! journal.confirm(position);
//! journal.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod database;
mod error;
mod journal;
mod lock;
mod seen;
mod writer;

pub use error::{OpenError, StoreError, StoreErrorKind};
pub use journal::{
    AppendError, AppendErrorKind, Enqueued, Entry, Flush, Journal, JournalOptions, JournalStats, LARGEST_BODY,
    LONGEST_ID, Place, Position, Reader, Record, Unconfirmed, WhenFull,
};
pub use seen::{SeenIds, SeenIdsOptions};
