//! What a consumer has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::consume::{attempt::attempt::Attempt, message::settled::Settled};

/// What a consumer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerState {
    /// It is not subscribed yet, or not any more: it starts, its channel or connection is away, or it stops.
    #[default]
    Unsubscribed,
    /// It takes what its queue has.
    Consuming,
    /// It is not subscribed, or takes one message at a time, because a message may be ending the process: see
    /// [`delivery_limit`](crate::Consume::delivery_limit).
    Isolating,
    /// Its circuit breaker is open: it takes nothing for a while.
    BreakerOpen,
    /// Its circuit breaker, or a kill switch with a restart, is half-open: it takes a few to see whether it is over.
    Probing,
    /// Stopped by its kill switch.
    Killed,
    /// Paused by the application: see [`Service::pause_consumer`](crate::Service::pause_consumer). It takes nothing;
    /// handlers may still be at work on what they had in hand.
    Paused,
}

/// Running totals of one consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Deliveries received; a batch is one.
    pub received: u64,
    /// Deliveries among them that turned out to be batches.
    pub batches: u64,
    /// Messages handled and acked: deliveries, and items of batches.
    pub handled: u64,
    /// Retry copies placed.
    pub retried: u64,
    /// Dead letters placed.
    pub dead_lettered: u64,
    /// Deliveries put back into their queue.
    pub requeued: u64,
    /// Messages whose handler panicked or ended with them in hand.
    pub crashed: u64,
    /// Messages handled after their channel was lost: the work is done, the ack is not, the broker delivers again.
    pub work_done_ack_lost: u64,
    /// Answers that came after the handler's deadline.
    pub late: u64,
    /// Answers to requests whose requester was gone.
    pub replies_unroutable: u64,
    /// Requests answered with their failure.
    pub refused: u64,
    /// Requests that nobody waited for any more when their turn came: not handled.
    pub expired: u64,
    /// With `AtMostOnce`: messages that failed, or deliveries that came again and may have been handled before.
    pub dropped: u64,
    /// With `effectively_once`: messages handled before, acked without a handler.
    pub duplicates: u64,
    /// What it is doing now.
    pub state: ConsumerState,
}

/// [`ConsumerStats`] while they count.
#[derive(Default)]
pub(crate) struct ConsumerCounters {
    pub(crate) received: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) work_done_ack_lost: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) replies_unroutable: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) duplicates: AtomicU64,
}

impl ConsumerCounters {
    pub(crate) fn read(&self, state: ConsumerState) -> ConsumerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerStats {
            received: read(&self.received),
            batches: read(&self.batches),
            handled: read(&self.handled),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            requeued: read(&self.requeued),
            crashed: read(&self.crashed),
            work_done_ack_lost: read(&self.work_done_ack_lost),
            late: read(&self.late),
            replies_unroutable: read(&self.replies_unroutable),
            refused: read(&self.refused),
            expired: read(&self.expired),
            dropped: read(&self.dropped),
            duplicates: read(&self.duplicates),
            state,
        }
    }
}

/// What one delivery comes to, once it is acked: one message, or the items of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) handled: usize,
    pub(crate) retried: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) duplicates: usize,
    pub(crate) refused: usize,
    pub(crate) expired: usize,
}

impl Tally {
    /// Of a message that was not handled.
    pub(crate) fn of(settled: Settled) -> Self {
        let count = |what| usize::from(settled == what);
        Self {
            retried: count(Settled::Retried),
            dead_lettered: count(Settled::DeadLettered),
            refused: count(Settled::Refused),
            expired: count(Settled::Expired),
            ..Self::default()
        }
    }

    /// Of a batch whose items were handled, except these.
    pub(crate) fn of_batch(attempt: &Attempt, not_acked: &[(usize, Settled)]) -> Self {
        let Some(contents) = attempt.contents() else { return Self::default() };
        let count = |what| not_acked.iter().filter(|(_, settled)| *settled == what).count();
        let duplicates = contents.items.len() - contents.new_items(..).count();
        let handled = contents.items.len() - duplicates - not_acked.len();
        let (retried, dead_lettered) = (count(Settled::Retried), count(Settled::DeadLettered));
        Self { handled, retried, dead_lettered, duplicates, ..Self::default() }
    }

    pub(crate) fn total(&self) -> usize {
        self.handled + self.retried + self.dead_lettered + self.duplicates + self.refused + self.expired
    }
}

impl ConsumerCounters {
    pub(crate) fn add(&self, tally: &Tally) {
        for (counter, more) in [
            (&self.handled, tally.handled),
            (&self.retried, tally.retried),
            (&self.dead_lettered, tally.dead_lettered),
            (&self.duplicates, tally.duplicates),
            (&self.refused, tally.refused),
            (&self.expired, tally.expired),
        ] {
            if more > 0 {
                count_more(counter, more);
            }
        }
    }
}

pub(crate) fn count_more(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
