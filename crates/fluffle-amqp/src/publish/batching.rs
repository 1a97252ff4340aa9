//! When a publisher gathers messages into batches, and how large these get.

use std::time::Duration;

use crate::base::written::{Flag, Size, Span, Whole, or};

/// The longest linger. With a longer one, messages would meet their deadlines inside the batch.
const LONGEST_LINGER: Duration = Duration::from_secs(60);

/// How a publisher gathers small messages into one AMQP message, an *envelope*, because a broker carries a few large
/// messages more cheaply than many small ones. [`Route::batch`](crate::Route::batch) takes it and says what changes.
/// The setting that is reached first sends the batch:
///
/// | setting | default |
/// |---|---|
/// | [`max_bytes`](Batching::max_bytes) | 64 KiB of encoded messages, before gzip |
/// | [`max_items`](Batching::max_items) | 10,000 messages |
/// | [`linger`](Batching::linger) | 5 ms after its first message |
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{Batching, Route};
///
/// let gentle = Batching::default().max_bytes(16 * 1024).linger(Duration::from_millis(20)).max_items(500);
/// let route = Route::<String>::exchange("quakes").batch(gentle);
/// ```
///
/// With [`adaptive`](Batching::adaptive), batches form only under load.
///
/// With serde, from a file: `max_bytes`, `max_items`, `linger` and `adaptive`. What is left out has its default.
///
/// ```
/// use fluffle_amqp::Batching;
///
/// let gentle: Batching = toml::from_str("max_bytes = '16KiB'\nlinger = '20ms'\nadaptive = true")?;
/// assert_ne!(gentle, Batching::adaptive());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "BatchingSettings")]
pub struct Batching {
    pub(crate) max_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) max_items: usize,
    /// Whether a message gathers only while another one of its key is unconfirmed.
    pub(crate) adaptive: bool,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024, linger: Duration::from_millis(5), max_items: 10_000, adaptive: false }
    }
}

/// The settings of a [`Batching`] as a file or the environment names them.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with max_bytes, max_items, linger, adaptive")]
pub(crate) struct BatchingSettings {
    max_bytes: Option<Size<1>>,
    max_items: Option<Whole<usize, 1>>,
    linger: Option<Span<0, 60_000>>,
    adaptive: Option<Flag>,
}

impl From<BatchingSettings> for Batching {
    fn from(settings: BatchingSettings) -> Self {
        Self::default().settings(settings)
    }
}

impl Batching {
    /// This with what the settings name.
    pub(crate) fn settings(self, settings: BatchingSettings) -> Self {
        // Neither side with `..`: a setting that nothing reads does not compile, nor does a knob without a setting.
        let BatchingSettings { max_bytes, max_items, linger, adaptive } = settings;
        Self {
            max_bytes: max_bytes.map_or(self.max_bytes, Size::in_memory),
            max_items: or(max_items, self.max_items),
            linger: or(linger, self.linger),
            adaptive: or(adaptive, self.adaptive),
        }
    }

    /// Batches that form by themselves, as the load asks for it (as Nagle's algorithm does for TCP):
    ///
    /// - While no message of its routing key is unconfirmed on its channel, a message leaves at once, as a message of
    ///   its own: latency, wire and cost are those of a publisher without batches.
    /// - While one is, the next messages of the key gather. They leave together when everything of the key that was
    ///   sent is confirmed (or was handed back), when the batch is full, or when the first of them has waited for the
    ///   [linger](Self::linger), whichever comes first. So the more messages there are, the more of them share an
    ///   envelope.
    ///
    /// A message that has gathered alone leaves as a message of its own too. What a message travelled as is invisible
    /// to a handler of Fluffle; each consumer reads messages and envelopes. A reader of another make must read
    /// envelopes (`docs/WIRE.md`, "Batches"), because one may come at any time.
    ///
    /// The sizes and the linger are those of [`Batching::default`]. The linger is the longest wait, and no wait that
    /// each message has. Without a channel, messages gather until there is one, or until the batch is full.
    ///
    /// ```
    /// use fluffle_amqp::{Batching, Route};
    ///
    /// let route = Route::<String>::exchange("quakes").batch(Batching::adaptive());
    /// ```
    #[must_use]
    pub fn adaptive() -> Self {
        Self { adaptive: true, ..Self::default() }
    }

    /// A batch of this many bytes is sent. The bytes are those of the encoded messages with their lengths, before gzip.
    /// The least is one byte. The [`Limits`](fluffle_wire::Limits) of the wire hold too. A single larger message
    /// travels alone in its envelope.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// How long the first message of a batch waits for others, at most 60 s. With zero, the publisher's actor sends a
    /// batch at its next turn, with the messages that have joined by then. For [`adaptive`](Self::adaptive) batches:
    /// how long it waits for the confirm of those before it.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time.min(LONGEST_LINGER);
        self
    }

    /// A batch of this many messages is sent. At least 1. No batch has more messages than `Limits::batch_items`
    /// (10,000), because receivers refuse a larger one.
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
