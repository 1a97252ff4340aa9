//! The handle an application publishes with.

use std::{fmt, sync::Arc};

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::publish::{
    batcher::Batcher,
    entry::Entry,
    error::{PublishError, PublishErrorKind},
    message::target,
    options::MessageOptions,
    outbox::Outbox,
    outcome::Pending,
    receipt::{Claim, Confirmed, Receipt},
    route::Route,
    stats::PublisherStats,
};

/// Publishes messages of type `T` to one route. Cheap to clone; all clones share one mailbox, window and channel.
///
/// Encoding happens in the caller. Accepted messages wait in a bounded mailbox, whatever happens to connections and
/// channels meanwhile; after a reconnect everything unconfirmed is published again, in order, under the same ids.
/// Messages reach the broker in the order in which they were accepted.
///
/// When the last clone is dropped, what was accepted is published and settled, then the channel is closed and its place
/// in the pool given back.
///
/// ```no_run
/// use fluffle_amqp::{Broker, Publisher, Route, Service, Topology, DRAIN};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let service = Service::start(Broker::from_env()?, Topology::new(), DRAIN)?;
/// let words: Publisher<String> = service.publisher(Route::queue("words")).await?;
///
/// let confirmed = words.publish("one at a time".into()).await?; // waits for the broker's confirm
///
/// let mut receipts = Vec::new();
/// for word in ["many", "in", "flight"] {
///     receipts.push(words.enqueue(word.into()).await?);         // waits for room only
/// }
/// for receipt in receipts {
///     receipt.confirmed().await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    outbox: Arc<Outbox>,
    route: Route<T>,
    batcher: Option<Arc<Batcher<T>>>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.outbox.send_open();
        self.outbox.abandon();
    }
}

impl<T> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("exchange", &self.shared.route.exchange).finish_non_exhaustive()
    }
}

impl<T> Publisher<T> {
    pub(crate) fn new(route: Route<T>, outbox: Arc<Outbox>, batcher: Option<Arc<Batcher<T>>>) -> Self {
        Self { shared: Arc::new(Shared { outbox, route, batcher }) }
    }

    /// Publishes and waits for the broker's confirm, up to the route's deadline.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    ///
    /// # Cancellation
    /// Dropped before it is ready, a message not yet on the wire is withdrawn; one on the wire, or in a
    /// [batch](Route::batch), may arrive.
    pub async fn publish(&self, message: T) -> Result<Confirmed, PublishError<T>> {
        self.accept(message, None, false).await?.confirmed().await
    }

    /// [`publish`](Self::publish) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    pub async fn publish_with(&self, message: T, options: MessageOptions) -> Result<Confirmed, PublishError<T>> {
        self.accept(message, Some(options), false).await?.confirmed().await
    }

    /// Waits for room in the mailbox only; the receipt tells of the confirm.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    ///
    /// # Cancellation
    /// Dropped before it is ready, nothing was accepted. A dropped [`Receipt`] withdraws nothing.
    pub async fn enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        self.accept(message, None, true).await
    }

    /// [`enqueue`](Self::enqueue) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    pub async fn enqueue_with(&self, message: T, options: MessageOptions) -> Result<Receipt<T>, PublishError<T>> {
        self.accept(message, Some(options), true).await
    }

    /// [`enqueue`](Self::enqueue), or at once [`PublishErrorKind::Full`]; always that for a publisher with a journal, whose
    /// disk has to be waited for.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    pub fn try_enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        let Shared { outbox, route, batcher } = &*self.shared;
        let options = MessageOptions::new();
        let full = || {
            let limited = route.rate_limit.as_ref().is_some_and(|limit| !limit.take_now());
            if limited || outbox.journal.is_some() { Err(PublishErrorKind::Full) } else { Ok(()) }
        };
        if let Some(batcher) = batcher {
            let key = route.routing_key(&message, &options);
            let added = full().and_then(|()| match self.add(batcher, &message, &key)? {
                Some(claim) => Ok(claim),
                None => batcher.try_open_with(outbox, &message, &key),
            });
            let key = key.into_owned();
            return match added {
                Ok(claim) => Ok(Receipt::new(message, claim)),
                Err(kind) => Err(self.not_batched(message, &key, kind)),
            };
        }
        let (receipt, entry) = self.prepare(message, &options, true, Instant::now() + route.deadline)?;
        match full().and_then(|()| outbox.try_accept(entry)) {
            Ok(()) => Ok(receipt),
            Err(kind) => Err(receipt.failed(kind)),
        }
    }

    /// Waits until every message accepted so far by this publisher and its clones is confirmed, or was handed back. Open batches
    /// are sent at once.
    ///
    /// # Cancellation
    /// Safe: it only looks.
    pub async fn flush(&self) {
        self.shared.outbox.send_open();
        self.shared.outbox.idle().await;
    }

    /// Running totals of this publisher and its clones.
    pub fn stats(&self) -> PublisherStats {
        self.shared.outbox.stats()
    }

    async fn accept(
        &self,
        message: T,
        options: Option<MessageOptions>,
        detached: bool,
    ) -> Result<Receipt<T>, PublishError<T>> {
        match (&self.shared.batcher, options) {
            (Some(batcher), None) => self.accept_in_batch(batcher, message, &MessageOptions::new()).await,
            (Some(batcher), Some(options)) if options.allow_batch() => {
                self.accept_in_batch(batcher, message, &options).await
            }
            (_, options) => self.accept_alone(message, &options.unwrap_or_default(), detached).await,
        }
    }

    async fn accept_in_batch(
        &self,
        batcher: &Batcher<T>,
        message: T,
        options: &MessageOptions,
    ) -> Result<Receipt<T>, PublishError<T>> {
        let Shared { outbox, route, .. } = &*self.shared;
        let key = route.routing_key(&message, options);
        let added = match &route.rate_limit {
            // Most find an open batch with room, and need neither the clock nor a wait.
            None => self.add(batcher, &message, &key),
            Some(_) => Ok(None),
        };
        let added = match added {
            Ok(None) => {
                let waiting = async {
                    if let Some(limit) = &route.rate_limit {
                        limit.take().await;
                        if let Some(claim) = self.add(batcher, &message, &key)? {
                            return Ok(claim);
                        }
                    }
                    batcher.open_with(outbox, &message, &key).await
                };
                let in_time = timeout_at(Instant::now() + route.deadline, waiting).await;
                in_time.unwrap_or(Err(PublishErrorKind::Overloaded))
            }
            Ok(Some(claim)) => Ok(claim),
            Err(kind) => Err(kind),
        };
        match added {
            Ok(claim) => {
                drop(key);
                Ok(Receipt::new(message, claim))
            }
            Err(kind) => {
                let key = key.into_owned();
                Err(self.not_batched(message, &key, kind))
            }
        }
    }

    /// Adds to an open batch, if there is one with room.
    fn add(&self, batcher: &Batcher<T>, message: &T, key: &str) -> Result<Option<Claim>, PublishErrorKind> {
        match self.shared.route.too_long(key) {
            Some(property) => Err(PublishErrorKind::Property(property)),
            None => batcher.add(&self.shared.outbox, message, key),
        }
    }

    fn not_batched(&self, message: T, key: &str, kind: PublishErrorKind) -> PublishError<T> {
        let (id, target) = (Uuid::now_v7().to_string(), target(&self.shared.route.exchange, key));
        PublishError { message, id, target, kind }
    }

    async fn accept_alone(
        &self,
        message: T,
        options: &MessageOptions,
        detached: bool,
    ) -> Result<Receipt<T>, PublishError<T>> {
        let Shared { outbox, route, batcher } = &*self.shared;
        let deadline = Instant::now() + route.deadline;
        let (receipt, entry) = self.prepare(message, options, detached, deadline)?;
        let accepting = async {
            if let Some(limit) = &route.rate_limit {
                limit.take().await;
            }
            match batcher {
                Some(batcher) => {
                    let place = outbox.reserve_for(&entry.message).await?;
                    batcher.send_alone(outbox, place, entry);
                    Ok(())
                }
                None => outbox.accept(entry).await,
            }
        };
        match timeout_at(deadline, accepting).await {
            Ok(Ok(())) => Ok(receipt),
            Ok(Err(kind)) => Err(receipt.failed(kind)),
            Err(_) => Err(receipt.failed(PublishErrorKind::Overloaded)),
        }
    }

    /// Encodes, addresses and labels; everything that can be wrong with the message itself shows here.
    fn prepare(
        &self,
        message: T,
        options: &MessageOptions,
        detached: bool,
        deadline: Instant,
    ) -> Result<(Receipt<T>, Entry), PublishError<T>> {
        let Shared { outbox, route, .. } = &*self.shared;
        let (id, to) = route.address(&message, options);
        let (pending, reply) = Pending::new(Arc::clone(&id), to.clone(), deadline, outbox.journal.is_some());
        let receipt = Receipt::new(message, Claim::whole(pending));
        match route.prepare_as(&receipt.message, options, id, to) {
            Ok(prepared) => Ok((receipt, Entry::new(prepared, reply, detached))),
            Err(kind) => Err(receipt.failed(kind)),
        }
    }
}
