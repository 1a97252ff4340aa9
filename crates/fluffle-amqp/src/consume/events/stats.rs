//! What a consumer has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::events::{DeliveryEvent, SettledMessages};

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

impl ConsumerCounters {
    /// Inlined where the event is known, so that one addition is left of the match.
    #[inline(always)]
    pub(crate) fn count(&self, event: &DeliveryEvent) {
        match *event {
            DeliveryEvent::Received { .. } => add(&self.received, 1),
            DeliveryEvent::Batch { .. } => add(&self.batches, 1),
            DeliveryEvent::Crashed { messages } => add(&self.crashed, messages),
            DeliveryEvent::RetriedHere { .. } => add(&self.retried, 1),
            DeliveryEvent::Late => add(&self.late, 1),
            DeliveryEvent::Settled { messages, .. } => self.settled(&messages),
            DeliveryEvent::AckLost { messages } => add(&self.work_done_ack_lost, messages),
            DeliveryEvent::ReplyUnroutable => add(&self.replies_unroutable, 1),
            DeliveryEvent::Started { .. } | DeliveryEvent::Answered { .. } | DeliveryEvent::Lost { .. } => {}
        }
    }

    pub(crate) fn settled(&self, messages: &SettledMessages) {
        let SettledMessages { handled, retried, dead_lettered, requeued, dropped, duplicates, refused, expired } =
            *messages;
        for (counter, more) in [
            (&self.handled, handled),
            (&self.retried, retried),
            (&self.dead_lettered, dead_lettered),
            (&self.requeued, requeued),
            (&self.dropped, dropped),
            (&self.duplicates, duplicates),
            (&self.refused, refused),
            (&self.expired, expired),
        ] {
            if more > 0 {
                add(counter, more);
            }
        }
    }
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
