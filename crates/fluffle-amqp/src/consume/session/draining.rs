//! The drain of one consumer, as the log tells it.

use std::time::{Duration, Instant};

/// Begun when the consumer takes no more messages; says when it is dropped how it went.
pub(crate) struct ConsumerDrain {
    queue: String,
    limit: Duration,
    since: Instant,
    /// Messages that are not settled.
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
                "drain: cut off with messages in hand, by its deadline or a lost channel: the broker delivers them again"
            ),
        }
    }
}
