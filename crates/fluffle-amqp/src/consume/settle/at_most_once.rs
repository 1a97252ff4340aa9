//! Deliveries that were acked on receipt: what becomes of them can only be counted and told.

use crate::consume::{
    message::received::{Received, Settled},
    queue::handler_queue::Outcome,
    session::stats::{ConsumerCounters, count, count_more},
};

/// Its handler has answered.
pub(crate) fn settle(received: &Received, outcome: &Outcome, counters: &ConsumerCounters) {
    match (outcome, received.contents.get()) {
        (Outcome::Handled(_), _) => {
            count(&counters.handled);
            received.settle_as(Settled::Acked);
        }
        (Outcome::Items(items), Some(contents)) => {
            count_more(&counters.handled, items.handled(contents).count());
            for (index, why) in &items.failed {
                drop_delivery(received, counters, &format!("item {index}: {why:?}"));
            }
            let dropped = items.failed.iter().map(|(index, _)| (*index, Settled::Dropped));
            let _ = contents.not_acked.set(dropped.collect());
            received.settle_as(Settled::Acked);
        }
        (Outcome::Expired, _) => {
            count(&counters.expired);
            received.settle_as(Settled::Expired);
        }
        (other, _) => {
            drop_delivery(received, counters, &format!("{other:?}"));
            received.settle_as(Settled::Dropped);
        }
    }
    received.release();
}

/// Not handled, and it will not come again.
pub(crate) fn drop_delivery(received: &Received, counters: &ConsumerCounters, why: &str) {
    count(&counters.dropped);
    tracing::error!(
        queue = %received.queue, message_id = received.message_id().unwrap_or("-"), why,
        "not handled, and at most once: dropped"
    );
}
