//! Log lines about the drain of one consumer.

use std::time::{Duration, Instant};

/// The drain of one consumer. It begins when the consumer takes no more messages. When it is dropped, it logs whether
/// every message in hand was settled, and how long that took.
pub(crate) struct ConsumerDrain {
    queue: String,
    limit: Duration,
    since: Instant,
    /// How many messages are in hand and not settled.
    pub(crate) left: usize,
}

impl ConsumerDrain {
    pub(crate) fn begin(queue: &str, limit: Duration, in_hand: usize) -> Self {
        tracing::info!(%queue, in_hand, ?limit, "drain: takes no more messages, finishes what handlers have in hand");
        Self { queue: queue.to_owned(), limit, since: Instant::now(), left: in_hand }
    }
}

impl Drop for ConsumerDrain {
    fn drop(&mut self) {
        let Self { queue, limit, since, left } = self;
        match (since.elapsed(), *left) {
            (took, 0) => tracing::info!(%queue, ?took, "drain: everything in hand is settled"),
            (took, left) => tracing::warn!(
                %queue, left, ?took, ?limit,
                "drain: cut off with messages in hand, by its deadline or a lost channel: \
                 the broker delivers them again"
            ),
        }
    }
}
