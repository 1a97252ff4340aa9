//! A reader of a stream: its name, where it begins, and when its offset is kept.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::consume::spec::offset_store::OffsetStore;

/// Where a reader of a stream begins, if its [`OffsetStore`] keeps no offset of it.
///
/// | | the reader begins with |
/// |---|---|
/// | `First` (the default) | the oldest message that the stream still has |
/// | `Last` | the oldest message of the last chunk: of what the broker wrote last, one message or thousands |
/// | `Next` | the next message that is published |
/// | `Offset(n)` | offset `n`. If retention has removed it, the oldest one; if it is not written yet, it waits |
/// | `Timestamp(t)` | the first chunk that the broker wrote at `t` or later, to the second, by the broker's clock |
/// | `Interval(d)` | as `Timestamp`, `d` before the reader's first subscription, by this host's clock |
///
/// ```
/// use fluffle_amqp::StreamOffset;
/// use std::time::Duration;
///
/// let yesterday = StreamOffset::Interval(Duration::from_secs(24 * 3600));
/// assert_ne!(yesterday, StreamOffset::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamOffset {
    /// The oldest message.
    #[default]
    First,
    /// The last chunk.
    Last,
    /// The next message that is published.
    Next,
    /// This offset.
    Offset(u64),
    /// What was written at this time or later.
    Timestamp(SystemTime),
    /// What was written so long ago or later.
    Interval(Duration),
}

/// A named reader of a stream: the argument of [`Consume::stream`](crate::Consume::stream). It reads all messages of
/// the stream, in order, and its offset is kept in a store after the work.
///
/// | setting | default | |
/// |---|---|---|
/// | [`begin`](StreamReader::begin) | [`StreamOffset::First`] | where to begin if no offset is kept |
/// | [`keep_every`](StreamReader::keep_every) | 100 | offsets that are kept with one write |
/// | [`keep_within`](StreamReader::keep_within) | 100 ms | longest wait until a done offset is kept |
/// | [`filter`](StreamReader::filter) | none | RabbitMQ 3.13 and later |
///
/// The name is part of the key under which the offset is kept, and of the queue `<stream>.<reader>`, in which failed
/// messages wait for their next attempt. Each reader sees all messages, so a name belongs to one process at a time. Two
/// processes with the same name both handle all messages.
///
/// ```
/// use fluffle_amqp::{Consume, Offsets, StreamOffset, StreamReader};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let reader = StreamReader::new("billing", Offsets::open("billing.offsets")?).begin(StreamOffset::First);
/// let consume: Consume<String> = Consume::queue("events").stream(reader).prefetch(500);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a reader does nothing until it is given to `Consume::stream`"]
pub struct StreamReader {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn OffsetStore>,
    pub(crate) begin: StreamOffset,
    pub(crate) keep_every: u64,
    pub(crate) keep_within: Duration,
    pub(crate) filter: Option<Filter>,
    /// The stream. Set when the consumer is added to a service.
    pub(crate) stream: Arc<str>,
}

/// A filter that the broker applies.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) values: Vec<String>,
    pub(crate) also_without: bool,
}

impl StreamReader {
    /// A reader of this name, whose offset `store` keeps. The name must not be empty and, together with the stream's,
    /// must fit into the name of a queue (at most 255 bytes with `.retry.<ms>`).
    pub fn new(name: impl Into<String>, store: impl OffsetStore) -> Self {
        Self {
            name: name.into(),
            store: Arc::new(store),
            begin: StreamOffset::default(),
            keep_every: 100,
            keep_within: Duration::from_millis(100),
            filter: None,
            stream: "".into(),
        }
    }

    /// Where to begin, if the store keeps no offset of this reader. Without effect if it does.
    pub fn begin(mut self, at: StreamOffset) -> Self {
        self.begin = at;
        self
    }

    /// After how many done offsets their last one is kept, at least 1. Default 100. If the store is slow or fails,
    /// reading goes on until twice as many offsets are done and not kept, and stops then until the store answers. So a
    /// crash repeats at most `2 * keep_every + prefetch` messages, and one chunk: RabbitMQ delivers what it wrote at
    /// once as a whole.
    pub fn keep_every(mut self, offsets: u64) -> Self {
        self.keep_every = offsets.max(1);
        self
    }

    /// How long a done offset may wait for others to be kept with it. Default 100 ms.
    pub fn keep_within(mut self, limit: Duration) -> Self {
        self.keep_within = limit;
        self
    }

    /// Reads only the messages that were published with one of these values in the header `x-stream-filter-value`.
    /// Needs RabbitMQ 3.13 or later; on an older broker the consumer ends with an error that says so.
    ///
    /// The broker filters whole chunks, by a Bloom filter, and delivers more than was asked for. The rest is left out
    /// here, by the header.
    pub fn filter<V: Into<String>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.filter = Some(Filter { values, also_without: false });
        self
    }

    /// With [`filter`](Self::filter): also reads messages that were published without a filter value.
    pub fn also_unfiltered(mut self) -> Self {
        if let Some(filter) = &mut self.filter {
            filter.also_without = true;
        }
        self
    }
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader")
            .field("name", &self.name)
            .field("begin", &self.begin)
            .field("keep_every", &self.keep_every)
            .field("keep_within", &self.keep_within)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}
