//! Counters and state of a consumer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{
    consumer_state::ConsumerState,
    events::{DeliveryEvent, SettledMessages},
};

/// Running totals of one consumer, since its service was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Deliveries received. A batch is one delivery.
    pub received: u64,
    /// Batches among them. A batch counts when its handler has answered.
    pub batches: u64,
    /// Messages handled and acked. Items of batches count singly.
    pub handled: u64,
    /// Retry copies placed, and retries in this process.
    pub retried: u64,
    /// Dead letters placed.
    pub dead_lettered: u64,
    /// Deliveries put back into their queue.
    pub requeued: u64,
    /// Messages whose handler panicked or ended with them in hand.
    pub crashed: u64,
    /// Messages whose work was done when their ack could no longer be written, because the channel was lost. The broker
    /// delivers them again.
    pub work_done_ack_lost: u64,
    /// Answers of handlers that came after the attempt was given up, because of
    /// [`handler_timeout`](crate::Consume::handler_timeout).
    pub late: u64,
    /// Answers that could not be delivered, as a rule because the requester was gone.
    pub replies_unroutable: u64,
    /// Requests whose requester was told that the request was rejected or failed, without a dead letter.
    pub refused: u64,
    /// Requests that were not handled, because their requester had stopped waiting.
    pub expired: u64,
    /// With `AtMostOnce`: messages that were not handled. They failed, or were delivered again and may have been
    /// handled before.
    pub dropped: u64,
    /// With `effectively_once`: messages that were handled before, and were acked without a handler.
    pub duplicates: u64,
    /// With [`skip_other_types`](crate::Consume::skip_other_types): messages of another type, acked without a handler.
    pub skipped: u64,
    /// Of a reader of a stream: offsets that it had not read when retention removed them.
    pub offsets_removed: u64,
    /// What the consumer is doing now.
    pub state: ConsumerState,
}

/// The counters behind [`ConsumerStats`].
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
    pub(crate) skipped: AtomicU64,
    pub(crate) offsets_removed: AtomicU64,
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
            skipped: read(&self.skipped),
            offsets_removed: read(&self.offsets_removed),
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
            DeliveryEvent::OffsetsRemoved { offsets } => {
                self.offsets_removed.fetch_add(offsets, Ordering::Relaxed);
            }
            DeliveryEvent::Started { .. }
            | DeliveryEvent::Answered { .. }
            | DeliveryEvent::Lost { .. }
            | DeliveryEvent::State { .. } => {}
        }
    }

    pub(crate) fn settled(&self, messages: &SettledMessages) {
        let SettledMessages {
            handled,
            retried,
            dead_lettered,
            requeued,
            dropped,
            duplicates,
            refused,
            expired,
            skipped,
        } = *messages;
        for (counter, more) in [
            (&self.handled, handled),
            (&self.retried, retried),
            (&self.dead_lettered, dead_lettered),
            (&self.requeued, requeued),
            (&self.dropped, dropped),
            (&self.duplicates, duplicates),
            (&self.refused, refused),
            (&self.expired, expired),
            (&self.skipped, skipped),
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
