//! Messages that wait in a store for a publisher to take them.

use std::error::Error;

use futures_util::future::BoxFuture;

/// Why a [`Backlog`] could not be counted.
pub type BacklogError = Box<dyn Error + Send + Sync>;

/// A store that feeds a [`Forwarder`](crate::Forwarder), such as an outbox table. It has messages that no publisher has
/// been given yet. For [`Forwarder::fed_by`](crate::Forwarder::fed_by).
pub trait Backlog: Send + Sync + 'static {
    /// How many messages wait to be published, those on their way included. A message that waits for a person, such as
    /// a parked row, does not count.
    fn waiting(&self) -> BoxFuture<'_, Result<u64, BacklogError>>;

    /// Has the waiting messages taken now, instead of at the next poll.
    fn hurry(&self);
}
