//! The totals of a publisher.

use std::sync::atomic::{AtomicU64, Ordering};

/// The totals of one publisher since it was made. They are never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Messages accepted, those in open batches included.
    pub accepted: u64,
    /// Messages that the broker confirmed. Without confirms: messages written to the socket.
    pub confirmed: u64,
    /// Messages that the broker returned because no queue took them.
    pub returned: u64,
    /// Messages that the broker nacked.
    pub nacked: u64,
    /// Messages published again under the same id after a channel was lost.
    pub republished: u64,
    /// Messages that failed for any other reason.
    pub failed: u64,
    /// Messages accepted and not settled at this moment: in an open batch, in the mailbox, on the wire, or waiting for
    /// a connection.
    pub outstanding: usize,
}

impl PublisherStats {
    /// The totals of two lanes together.
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

/// The counters behind [`PublisherStats`].
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
