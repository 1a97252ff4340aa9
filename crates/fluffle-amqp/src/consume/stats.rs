//! What a consumer has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::consume::guard::ConsumerState;

/// Running totals of one consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Deliveries received.
    pub received: u64,
    /// Deliveries handled and acked.
    pub handled: u64,
    /// Retry copies placed.
    pub retried: u64,
    /// Dead letters placed.
    pub dead_lettered: u64,
    /// Deliveries put back into their queue.
    pub requeued: u64,
    /// Deliveries whose handler panicked or ended with them in hand.
    pub crashed: u64,
    /// Deliveries handled after their channel was lost: the work is done, the ack is not, the broker delivers again.
    pub work_done_ack_lost: u64,
    /// Answers that came after the handler's deadline.
    pub late: u64,
    /// Answers to requests whose requester was gone.
    pub replies_unroutable: u64,
    /// With `AtMostOnce`: deliveries that failed, or came again and may have been handled before.
    pub dropped: u64,
    /// With `effectively_once`: deliveries of messages handled before, acked without a handler.
    pub duplicates: u64,
    /// What it is doing now.
    pub state: ConsumerState,
}

/// [`ConsumerStats`] while they count.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) work_done_ack_lost: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) replies_unroutable: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) duplicates: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, state: ConsumerState) -> ConsumerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerStats {
            received: read(&self.received),
            handled: read(&self.handled),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            requeued: read(&self.requeued),
            crashed: read(&self.crashed),
            work_done_ack_lost: read(&self.work_done_ack_lost),
            late: read(&self.late),
            replies_unroutable: read(&self.replies_unroutable),
            dropped: read(&self.dropped),
            duplicates: read(&self.duplicates),
            state,
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
