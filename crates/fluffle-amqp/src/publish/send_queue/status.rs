//! One publisher at a glance.

use fluffle_supervise::MailboxDepth;
use tokio::time::Instant;

use crate::{
    link::outage::{Traffic, UnderWay},
    publish::{
        send_queue::queue::SendQueue,
        stats::{JournalStatus, PublisherStats},
    },
};

/// One publisher, or one lane of it, at a glance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherStatus {
    /// Its name in the tree.
    pub name: String,
    /// Its running totals.
    pub stats: PublisherStats,
    /// Messages, or batches, that were written to a channel and have no confirm yet. After a lost channel, until the
    /// next one: those that it publishes first.
    pub in_flight: usize,
    /// The most messages, or batches, in flight.
    pub window: usize,
    /// Messages, or batches, that wait to be written, and the most that may. A publisher with a journal has none here.
    pub mailbox: MailboxDepth,
    /// Bytes of bodies accepted and not settled. With a journal: those of them that are in memory.
    pub bytes: u64,
    /// The most bytes: [`Route::max_bytes_in_flight`](crate::Route::max_bytes_in_flight).
    pub max_bytes: u64,
    /// Its journal, if it has one.
    pub journal: Option<JournalStatus>,
}

impl Traffic for SendQueue {
    fn under_way(&self) -> UnderWay {
        let republished = self.books.totals().republished;
        UnderWay { unconfirmed: self.unsettled.on_the_wire(), republished, ..UnderWay::default() }
    }
}

impl SendQueue {
    /// Enters the items of a batch in the books; they are about to be sent. It was `opened` then.
    pub(crate) fn count_batch(&self, items: usize, opened: Instant) {
        self.books.accept_batch(items, opened);
    }

    /// What it does now. Waits for nothing.
    pub(crate) fn status(&self) -> PublisherStatus {
        let (bytes, max_bytes) = match &self.journal {
            Some(ledger) => ledger.held(),
            None => self.bytes.taken(),
        };
        PublisherStatus {
            name: self.name.to_string(),
            stats: self.stats(),
            in_flight: self.unsettled.len(),
            window: self.window,
            mailbox: self.depth(),
            bytes,
            max_bytes,
            journal: self.journal.as_ref().map(|ledger| ledger.status()),
        }
    }
}

impl SendQueue {
    pub(crate) fn depth(&self) -> MailboxDepth {
        let capacity = self.sender.max_capacity();
        MailboxDepth { waiting: capacity - self.sender.capacity(), capacity }
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        let mut in_open = 0;
        let mut stats = PublisherStats::default();
        self.with_open(|open| {
            in_open = open;
            stats = self.books.totals();
            stats.outstanding = open + self.books.unsettled();
        });
        stats.accepted += in_open as u64;
        stats
    }
}
