//! What a publisher has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals of one publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Messages accepted.
    pub accepted: u64,
    /// Messages the broker confirmed (or, without confirms, messages written).
    pub confirmed: u64,
    /// Messages returned as unroutable.
    pub returned: u64,
    /// Messages nacked by the broker.
    pub nacked: u64,
    /// Messages published again under the same id after a channel was lost.
    pub republished: u64,
    /// Messages handed back for any other reason.
    pub failed: u64,
    /// Messages accepted and still without a verdict, now: in the mailbox, on the wire, or waiting for a connection.
    pub outstanding: usize,
}

impl PublisherStats {
    /// Those of two lanes together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            confirmed: self.confirmed + other.confirmed,
            returned: self.returned + other.returned,
            nacked: self.nacked + other.nacked,
            republished: self.republished + other.republished,
            failed: self.failed + other.failed,
            outstanding: self.outstanding + other.outstanding,
        }
    }
}

/// [`PublisherStats`] while they count.
#[derive(Default)]
pub(crate) struct PublisherCounters {
    pub(crate) accepted: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) nacked: AtomicU64,
    pub(crate) republished: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl PublisherCounters {
    pub(crate) fn read(&self, outstanding: usize) -> PublisherStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PublisherStats {
            accepted: read(&self.accepted),
            confirmed: read(&self.confirmed),
            returned: read(&self.returned),
            nacked: read(&self.nacked),
            republished: read(&self.republished),
            failed: read(&self.failed),
            outstanding,
        }
    }
}
