//! The handle an application publishes with.

use std::{fmt, sync::Arc};

use fluffle_store::Enqueued;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::publish::{
    error::{PublishError, PublishErrorKind},
    message::{Prepared, target},
    options::MessageOptions,
    outbox::{Entry, NotAccepted, Outbox, Outcome},
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
}

/// The broker has the message (or, with [`Confirms::Off`](crate::Confirms::Off), the socket has).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The message's id.
    pub id: String,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
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
    pub(crate) fn new(route: Route<T>, outbox: Arc<Outbox>) -> Self {
        Self { shared: Arc::new(Shared { outbox, route }) }
    }

    /// Publishes and waits for the broker's confirm, up to the route's deadline.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    ///
    /// # Cancellation
    /// Dropped before it is ready, a message not yet on the wire is withdrawn; one on the wire may arrive.
    pub async fn publish(&self, message: T) -> Result<Confirmed, PublishError<T>> {
        self.publish_with(message, MessageOptions::new()).await
    }

    /// [`publish`](Self::publish) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    pub async fn publish_with(&self, message: T, options: MessageOptions) -> Result<Confirmed, PublishError<T>> {
        let deadline = Instant::now() + self.shared.route.deadline;
        self.accept(message, &options, false, deadline).await?.confirmed().await
    }

    /// Waits for room in the mailbox only; the receipt tells of the confirm.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    ///
    /// # Cancellation
    /// Dropped before it is ready, nothing was accepted. A dropped [`Receipt`] withdraws nothing.
    pub async fn enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        self.enqueue_with(message, MessageOptions::new()).await
    }

    /// [`enqueue`](Self::enqueue) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    pub async fn enqueue_with(&self, message: T, options: MessageOptions) -> Result<Receipt<T>, PublishError<T>> {
        let deadline = Instant::now() + self.shared.route.deadline;
        self.accept(message, &options, true, deadline).await
    }

    /// [`enqueue`](Self::enqueue), or at once [`PublishErrorKind::Full`]; always that for a publisher with a journal, whose
    /// disk has to be waited for.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it was not accepted.
    pub fn try_enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        let deadline = Instant::now() + self.shared.route.deadline;
        let (raw, receipt, reply) = self.prepare(message, &MessageOptions::new(), deadline)?;
        let limited = self.shared.route.rate_limit.as_ref().is_some_and(|limit| !limit.take_now());
        if limited || self.shared.outbox.journal.is_some() {
            return Err(receipt.failed(PublishErrorKind::Full));
        }
        match self.shared.outbox.try_accept(Entry::new(raw, reply, true)) {
            Ok(()) => Ok(receipt),
            Err(NotAccepted::Full) => Err(receipt.failed(PublishErrorKind::Full)),
            Err(NotAccepted::Closed) => Err(receipt.failed(PublishErrorKind::Closed)),
        }
    }

    /// Waits until every message accepted so far by this publisher and its clones is confirmed, or was handed back.
    ///
    /// # Cancellation
    /// Safe: it only looks.
    pub async fn flush(&self) {
        self.shared.outbox.idle().await;
    }

    /// Running totals of this publisher and its clones.
    pub fn stats(&self) -> PublisherStats {
        self.shared.outbox.stats()
    }

    async fn accept(
        &self,
        message: T,
        options: &MessageOptions,
        detached: bool,
        deadline: Instant,
    ) -> Result<Receipt<T>, PublishError<T>> {
        let (raw, mut receipt, reply) = self.prepare(message, options, deadline)?;
        let outbox = &self.shared.outbox;
        let accepting = async {
            if let Some(limit) = &self.shared.route.rate_limit {
                limit.take().await;
            }
            if outbox.journal.is_some() {
                return outbox.post(&raw, reply).await.map(Some);
            }
            let accepted = outbox.accept(Entry::new(raw, reply, detached)).await;
            accepted.map(|()| None).map_err(|_| PublishErrorKind::Closed)
        };
        match timeout_at(deadline, accepting).await {
            Ok(Ok(posted)) => {
                receipt.journaled = outbox.journal.is_some();
                receipt.posted = posted;
                Ok(receipt)
            }
            Ok(Err(kind)) => Err(receipt.failed(kind)),
            Err(_) => Err(receipt.failed(PublishErrorKind::Overloaded)),
        }
    }

    /// Encodes, addresses and labels; everything that can be wrong with the message itself shows here.
    fn prepare(
        &self,
        message: T,
        options: &MessageOptions,
        deadline: Instant,
    ) -> Result<(Prepared, Receipt<T>, oneshot::Sender<Outcome>), PublishError<T>> {
        let route = &self.shared.route;
        let (id, routing_key) = route.address(&message, options);
        let (receipt, reply) = Receipt::new(message, id.clone(), target(&route.exchange, &routing_key), deadline);
        match route.prepare_as(&receipt.message, options, id, routing_key) {
            Ok(prepared) => Ok((prepared, receipt, reply)),
            Err(kind) => Err(receipt.failed(kind)),
        }
    }
}

/// An accepted message on its way, from [`Publisher::enqueue`], where an example is. Dropping it withdraws nothing.
#[must_use = "the message may still fail: await `confirmed`, or drop the receipt on purpose and watch the stats"]
pub struct Receipt<T> {
    message: T,
    id: String,
    target: String,
    outcome: oneshot::Receiver<Outcome>,
    deadline: Instant,
    /// Whether it goes by way of a journal.
    journaled: bool,
    /// Its way there.
    posted: Option<Enqueued>,
}

impl<T> Receipt<T> {
    /// A receipt, and where its verdict comes from.
    pub(crate) fn new(message: T, id: String, target: String, deadline: Instant) -> (Self, oneshot::Sender<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        (Self { message, id, target, outcome, deadline, journaled: false, posted: None }, reply)
    }

    /// The message's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the broker's confirm, up to the route's deadline, counted from the call that accepted the message.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    pub async fn confirmed(self) -> Result<Confirmed, PublishError<T>> {
        let mut this = self;
        match timeout_at(this.deadline, this.safe()).await {
            Ok(Ok(())) => {}
            Ok(Err(kind)) => return Err(this.failed(kind)),
            // The disk has not said so yet. When it does, the message is published.
            Err(_) => return Err(this.failed(PublishErrorKind::Unknown)),
        }
        let outcome = match timeout_at(this.deadline, &mut this.outcome).await {
            Ok(Ok(Outcome::InCustody(custody))) => Ok(Ok(custody.take().unwrap_or(Outcome::Closed))),
            other => other,
        };
        let kind = match outcome {
            Ok(Ok(Outcome::Confirmed | Outcome::Written)) => return Ok(Confirmed { id: this.id }),
            Ok(Ok(Outcome::Returned(returned))) => PublishErrorKind::Returned(returned),
            Ok(Ok(Outcome::Nacked)) => PublishErrorKind::Nacked,
            Ok(Ok(Outcome::Refused { code, text })) => PublishErrorKind::Refused { code, text },
            Ok(Ok(Outcome::Closed) | Err(_)) | Err(_) if this.journaled => PublishErrorKind::Journaled,
            Ok(Ok(Outcome::Closed | Outcome::InCustody(_)) | Err(_)) => PublishErrorKind::Closed,
            Err(_) => PublishErrorKind::Unknown,
        };
        Err(this.failed(kind))
    }

    /// Waits until the message is in the publisher's journal, as safe as its flush policy says: from then on it is
    /// published whatever happens to this process. At once for a publisher without a journal.
    ///
    /// # Errors
    /// [`PublishError`], with the message, when it did not get there and will not be published.
    ///
    /// # Cancellation
    /// Dropped, the message goes its way, and nobody hears of it.
    pub async fn journaled(mut self) -> Result<Self, PublishError<T>> {
        match self.safe().await {
            Ok(()) => Ok(self),
            Err(kind) => Err(self.failed(kind)),
        }
    }

    /// Waits for the journal. Cancellation safe.
    async fn safe(&mut self) -> Result<(), PublishErrorKind> {
        let Some(posted) = &mut self.posted else { return Ok(()) };
        // Its position comes back with the journal's reader.
        let safe = posted.await.map(|_position| ()).map_err(|error| PublishErrorKind::Journal(error.kind));
        self.posted = None;
        safe
    }

    pub(crate) fn failed(self, kind: PublishErrorKind) -> PublishError<T> {
        PublishError { message: self.message, id: self.id, target: self.target, kind }
    }
}

impl<T> fmt::Debug for Receipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("id", &self.id).field("target", &self.target).finish_non_exhaustive()
    }
}
