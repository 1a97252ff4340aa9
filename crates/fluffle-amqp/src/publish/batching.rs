//! How a publisher gathers messages into batches.

use std::time::Duration;

/// A longer wait is no linger: messages would meet their deadlines in the batch.
const LONGEST_LINGER: Duration = Duration::from_secs(60);

/// How a publisher gathers small messages into one AMQP message, an *envelope*: bytes, not messages, are what a broker can
/// carry. For [`Route::batch`](crate::Route::batch), where it says what changes. Whichever comes first sends:
///
/// | setting | default |
/// |---|---|
/// | [`max_bytes`](Batching::max_bytes) | 64 KiB of encoded messages, before gzip |
/// | [`max_items`](Batching::max_items) | 10,000 messages |
/// | [`linger`](Batching::linger) | 5 ms after the first of them |
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{Batching, Route};
///
/// let gentle = Batching::default().max_bytes(16 * 1024).linger(Duration::from_millis(20)).max_items(500);
/// let route = Route::<String>::exchange("quakes").batch(gentle);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    pub(crate) max_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) max_items: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024, linger: Duration::from_millis(5), max_items: 10_000 }
    }
}

impl Batching {
    /// A batch of this many bytes is sent: encoded messages with their lengths, before gzip. At least 1; the wire's
    /// [`Limits`](fluffle_wire::Limits) hold besides. A single larger message travels alone in its envelope.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// How long a message may wait for company, at most 60 s. With zero a batch is sent as soon as the publisher gets to it,
    /// with what came until then.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time.min(LONGEST_LINGER);
        self
    }

    /// A batch of this many messages is sent; at least 1. Past `Limits::batch_items` (10,000) receivers refuse a batch, so
    /// none is larger than that.
    #[must_use]
    pub fn max_items(mut self, items: usize) -> Self {
        self.max_items = items.max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_the_nearest_that_do() {
        let odd = Batching::default().max_bytes(0).max_items(0).linger(Duration::MAX);
        assert_eq!((odd.max_bytes, odd.max_items, odd.linger), (1, 1, LONGEST_LINGER));
    }
}
