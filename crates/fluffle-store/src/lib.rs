//! Local durable state for a service: the data that must survive a crash, on the service's own disk.
//!
//! - [`Journal`]: the messages that a publisher has promised to send. A record is written before its message is sent,
//!   and confirmed when the broker has it. The next process finds, in order, the records that were never confirmed.
//! - [`SeenIds`]: the ids of messages already handled, kept for as long as the messages may come again.
//! - [`Offsets`]: how far the readers of streams have come.
//!
//! Each is one SQLite database (a file, with `-wal` and `-lock` files beside it) with one thread that is the only one
//! to use it. The futures here only wait for that thread: they do not block an executor and work on any. Commands that
//! wait at the same time are written together, so many callers share one sync.
//!
//! A store can be opened only with the feature `sqlite`, which is on by default; of `fluffle`, that is the feature
//! `store`. Without it SQLite is not built, and the types exist only for the signatures of others.
//!
//! Keep the files on a local disk, because network file systems do not guarantee locks and syncs.
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

#![cfg_attr(docsrs, feature(doc_cfg))]
// Without the feature the handles have nobody to speak to, so much of what they are made of is not used.
#![cfg_attr(not(feature = "sqlite"), allow(dead_code))]

#[cfg(feature = "sqlite")]
mod database;
mod error;
mod journal;
#[cfg(feature = "sqlite")]
mod lock;
#[cfg(feature = "sqlite")]
mod look;
mod offsets;
mod seen;
mod writer;

pub use error::{OpenError, StoreError, StoreErrorKind};
pub use journal::{
    AppendError, AppendErrorKind, Enqueued, Entry, Flush, Journal, JournalOptions, JournalStats, LARGEST_BODY,
    LONGEST_ID, Place, Position, Reader, Record, Unconfirmed, WhenFull,
};
#[cfg(feature = "sqlite")]
pub use look::{Journaled, find_journaled, find_seen};
pub use offsets::Offsets;
pub use seen::{SeenIds, SeenIdsOptions};
