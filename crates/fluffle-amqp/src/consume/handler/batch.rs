//! `DeliveryBatch`, the argument of a handler of batches, and `ItemFailures`, its result.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use actix::Message;
use fluffle_wire::{DecodeError, Wire, headers::TraceContext};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::attempt::Attempt,
        message::{accessors::accessors, item::item_id, progress::StreamPosition, settled::Settled},
    },
};

/// All messages of one batch. Each is decoded when it is asked for. A message that came by itself is a batch of one.
///
/// An actor handles it with a [`Handler`](actix::Handler) whose result says what becomes of the messages:
///
/// | result | |
/// |---|---|
/// | `Ok(ItemFailures::none())` | all messages are handled |
/// | `Ok(failures)` | messages that were [added](ItemFailures::add) have failed, the others are handled |
/// | `Err(failure)`, or a panic | all messages have failed |
///
/// A message that has failed is retried or dead-lettered as a message of its own. So if one poison message makes a
/// batch fail, only that message fails in the next attempt. The batch is acked when every such copy is confirmed. A
/// message that could not be decoded ([`iter`](Self::iter) gave an error for it) becomes a dead letter, even if the
/// result says that all messages are handled.
///
/// `prefetch`, `concurrency` and `handler_timeout` apply to batches here, not to their messages.
///
/// ```
/// use actix::prelude::*;
/// use fluffle_amqp::{DeliveryBatch, Failure, ItemFailures};
///
/// struct Archive { lines: Vec<String> }
/// impl Actor for Archive { type Context = Context<Self>; }
///
/// impl Handler<DeliveryBatch<String>> for Archive {
///     type Result = Result<ItemFailures, Failure>;
///     fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
///         let mut failures = ItemFailures::none();
///         for (index, line) in batch.iter().enumerate() {
///             match line {
///                 Ok(line) if line.is_empty() => failures.add(index, Failure::reject("an empty line")),
///                 Ok(line) => self.lines.push(line),
///                 Err(_) => {} // becomes a dead letter
///             }
///         }
///         Ok(failures)
///     }
/// }
/// ```
pub struct DeliveryBatch<T> {
    attempt: Arc<Attempt>,
    wire: Wire<T>,
    /// With effectively once: the items that were not handled before, if some were.
    new: Option<Vec<usize>>,
    /// A single message, decoded, until it is taken.
    alone: Mutex<Option<T>>,
}

impl<T> DeliveryBatch<T> {
    pub(crate) fn new(wire: Wire<T>, attempt: Arc<Attempt>, alone: Option<T>) -> Self {
        let contents = attempt.contents().filter(|contents| contents.known.get().is_some());
        let new = contents.map(|contents| contents.new_items(..).collect());
        Self { attempt, wire, new, alone: Mutex::new(alone) }
    }

    /// How many messages [`iter`](Self::iter) yields, including those that cannot be decoded.
    pub fn len(&self) -> usize {
        let all = || self.attempt.contents().map_or(1, |contents| contents.items.len());
        self.new.as_ref().map_or_else(all, Vec::len)
    }

    /// Whether the batch has no messages. A batch may be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages in order, decoded one by one. With [`effectively_once`](crate::Consume::effectively_once), messages
    /// that were handled before are left out.
    ///
    /// A message that cannot be decoded gives an error, and the next one follows. If the length of a message is
    /// damaged, nothing behind it can be read, and its error is the last one.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, DecodeError>> + '_ {
        let contents = self.attempt.contents();
        let mut items = contents.map(|contents| contents.items.clone());
        (0..self.len()).filter_map(move |number| {
            let (Some(items), Some(contents)) = (&mut items, contents) else { return Some(self.alone()) };
            let index = self.place(number)?;
            let raw = items.nth(index.checked_sub(items.index())?)?;
            let message = raw.and_then(|raw| self.wire.decode_item(&self.attempt.label_of_item(index), &raw));
            if message.is_err() {
                contents.note_unreadable(index);
            }
            Some(message)
        })
    }

    /// The id of message `index`, as [`iter`](Self::iter) counts: `<id of the batch>/<index in the batch>`, or the
    /// message's own id if it came by itself. `None` if there is no such message, or if its publisher set no id.
    pub fn id(&self, index: usize) -> Option<String> {
        let id = self.attempt.message_id()?;
        match self.attempt.contents() {
            Some(_) => self.place(index).map(|place| item_id(id, place)),
            None => (index == 0).then(|| id.to_owned()),
        }
    }

    /// The id of the batch.
    pub fn message_id(&self) -> Option<&str> {
        self.attempt.message_id()
    }

    /// The span that sent the batch (W3C Trace Context), if the sender told it.
    pub fn trace(&self) -> Option<TraceContext> {
        self.attempt.trace()
    }

    /// The span that sent message `index`, as [`iter`](Self::iter) counts, or the one that sent the batch. `None` if
    /// there is no such message, or if the sender told no span.
    pub fn item_trace(&self, index: usize) -> Option<TraceContext> {
        match self.attempt.contents() {
            Some(contents) => contents.trace(&self.attempt, self.place(index)?),
            None => (index == 0).then(|| self.attempt.trace())?,
        }
    }

    accessors!();

    /// Where the batch is in its stream. `None` if it was not read from a stream, also after a retry through a retry
    /// queue.
    pub fn stream_position(&self) -> Option<StreamPosition> {
        self.attempt.position.as_deref().cloned()
    }

    /// What becomes of the whole batch; see [`Delivery::settled`](crate::Delivery::settled).
    pub fn settled(&self) -> impl Future<Output = Settled> + Send + 'static {
        let attempt = Arc::clone(&self.attempt);
        async move { attempt.settled().await }
    }

    /// The index in the batch of message `number`, as `iter` counts.
    fn place(&self, number: usize) -> Option<usize> {
        match &self.new {
            Some(new) => new.get(number).copied(),
            None => (number < self.len()).then_some(number),
        }
    }

    /// The single message. It was decoded before it was handed over, so that a message that cannot be decoded never
    /// gets to the handler. If the handler asks for it again, it is decoded again.
    fn alone(&self) -> Result<T, DecodeError> {
        let read = self.alone.lock().unwrap_or_else(PoisonError::into_inner).take();
        read.map_or_else(|| self.wire.decode(&self.attempt.wire()), Ok)
    }
}

impl<T> Message for DeliveryBatch<T> {
    type Result = Result<ItemFailures, Failure>;
}

impl<T> fmt::Debug for DeliveryBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryBatch")
            .field("len", &self.len())
            .field("message_id", &self.message_id())
            .field("attempt", &self.attempt())
            .field("queue", &self.queue())
            .finish_non_exhaustive()
    }
}

/// The result of a handler of a [`DeliveryBatch`]: the messages that were not handled, and why.
#[derive(Debug, Default)]
#[must_use = "messages that are not in the handler's result count as handled"]
pub struct ItemFailures(Vec<(usize, Failure)>);

impl ItemFailures {
    /// All messages were handled.
    pub fn none() -> Self {
        Self::default()
    }

    /// Message `index`, as [`DeliveryBatch::iter`] counts, has failed. If several failures are added for a message, the
    /// first one counts.
    pub fn add(&mut self, index: usize, failure: impl Into<Failure>) {
        self.0.push((index, failure.into()));
    }

    /// How many failures were added.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no failures were added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[(usize, Failure)] {
        &self.0
    }

    pub(crate) fn first(self) -> Option<Failure> {
        self.0.into_iter().next().map(|(_, failure)| failure)
    }
}

impl IntoIterator for ItemFailures {
    type Item = (usize, Failure);
    type IntoIter = std::vec::IntoIter<(usize, Failure)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
