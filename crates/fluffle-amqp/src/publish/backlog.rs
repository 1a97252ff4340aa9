//! Messages that wait in a store for a publisher to take them.

use std::{error::Error, time::Duration};

use futures_util::future::BoxFuture;

/// Why a [`Backlog`] could not be counted.
pub type BacklogError = Box<dyn Error + Send + Sync>;

/// A store that feeds a [`Forwarder`](crate::Forwarder), such as an outbox table. It has messages that no publisher has
/// been given yet. For [`Forwarder::fed_by`](crate::Forwarder::fed_by).
pub trait Backlog: Send + Sync + 'static {
    /// The messages that wait to be published, those on their way included. A message that waits for a person, such as
    /// a parked row, does not count.
    fn waiting(&self) -> BoxFuture<'_, Result<StoreDepth, BacklogError>>;

    /// Has the waiting messages taken now, instead of at the next poll.
    fn hurry(&self);
}

/// The messages that wait in one or more stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreDepth {
    /// How many wait.
    pub messages: u64,
    /// How long the oldest of them has waited. `None` if none waits.
    pub oldest: Option<Duration>,
}

impl StoreDepth {
    /// The messages of two stores together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, oldest: self.oldest.max(other.oldest) }
    }
}
