//! The handle that an application publishes with.

use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio::{task::coop::consume_budget, time::Instant};

use crate::{
    base::clock::timeout_at,
    publish::{
        batcher::Batcher,
        entry::Entry,
        error::{PublishError, PublishErrorKind},
        message::{new_id, target},
        options::MessageOptions,
        outcome::{Kept, Pending},
        receipt::{Claim, Confirmed, Receipt},
        route::Route,
        send_queue::{Reserved, SendQueue},
        stats::PublisherStats,
        tracing::{Creation, Joining, alone},
    },
};

/// Publishes messages of type `T` to one route. Cheap to clone. All clones share one mailbox, window and channel, or as
/// many as the route has [lanes](Route::lanes).
///
/// The caller encodes the message. Accepted messages wait in a bounded mailbox, whatever happens to connections and
/// channels meanwhile. After a reconnect every unconfirmed message is published again, in order, under the same id.
/// Messages reach the broker in the order in which they were accepted; in [batches](Route::batch) and over several
/// lanes, that holds for the messages of one routing key.
///
/// When the last clone is dropped, every accepted message is published and settled. Then the channel is closed, and its
/// place in the pool is given back.
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
    route: Route<T>,
    first: PublisherChannel<T>,
    /// The other lanes, if the route has several.
    others: Box<[PublisherChannel<T>]>,
}

/// One lane of a publisher: a send queue, which has a channel of its own, and the open batches of its routing keys.
pub(crate) struct PublisherChannel<T> {
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) batcher: Option<Arc<Batcher<T>>>,
}

/// How far accepting a message came without waiting.
enum Accepting<'a, T> {
    Done(Result<Receipt<T>, PublishError<T>>),
    /// The message waits for its turn by the rate limit, or for room for another batch.
    InBatch {
        message: T,
        key: Cow<'a, str>,
        creation: Creation,
        send_queue: &'a SendQueue,
        batcher: &'a Batcher<T>,
    },
    /// The message travels by itself, and waits for its turn by the rate limit or for room.
    Alone {
        receipt: Receipt<T>,
        entry: Entry,
        channel: &'a PublisherChannel<T>,
        deadline: Instant,
    },
}

impl<T> PublisherChannel<T> {
    /// Waits for a place for a message that travels by itself, then sends it.
    async fn accept(&self, entry: Entry) -> Result<(), PublishErrorKind> {
        let Some(batcher) = &self.batcher else { return self.send_queue.accept(entry).await };
        let place = self.send_queue.reserve_for(&entry.message).await?;
        batcher.send_alone(&self.send_queue, place, entry);
        Ok(())
    }

    /// Sends a message that travels by itself and has a place.
    fn send(&self, place: Reserved, entry: Entry) {
        match &self.batcher {
            Some(batcher) => batcher.send_alone(&self.send_queue, place, entry),
            None => {
                self.send_queue.count(entry.items());
                self.send_queue.send(place, entry);
            }
        }
    }
}

impl<T> Shared<T> {
    fn channels(&self) -> impl Iterator<Item = &PublisherChannel<T>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The lane of a routing key, always the same.
    fn channel(&self, routing_key: &str) -> &PublisherChannel<T> {
        if self.others.is_empty() {
            return &self.first;
        }
        let mut hasher = DefaultHasher::new();
        routing_key.hash(&mut hasher);
        let number = hasher.finish() % (self.others.len() as u64 + 1);
        number.checked_sub(1).and_then(|other| self.others.get(usize::try_from(other).ok()?)).unwrap_or(&self.first)
    }

    /// The routing key of a message that may join a batch, and the lane's send queue and batches. `None` without
    /// batches.
    fn batches<'a>(
        &'a self,
        message: &T,
        own: Option<&'a str>,
    ) -> Option<(Cow<'a, str>, &'a SendQueue, &'a Batcher<T>)> {
        self.first.batcher.as_ref()?;
        let key = self.route.routing_key(message, own);
        let channel = self.channel(&key);
        Some((key, &channel.send_queue, channel.batcher.as_deref()?))
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        for channel in self.channels() {
            channel.send_queue.send_open();
            channel.send_queue.abandon();
        }
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
    pub(crate) fn new(route: Route<T>, first: PublisherChannel<T>, others: Vec<PublisherChannel<T>>) -> Self {
        Self { shared: Arc::new(Shared { route, first, others: others.into() }) }
    }

    /// Publishes and waits for the broker's confirm, up to the route's deadline.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    ///
    /// # Cancellation
    /// If the future is dropped before the message is on the wire, the message is withdrawn. A message on the wire, or
    /// in a [batch](Route::batch), may arrive.
    pub async fn publish(&self, message: T) -> Result<Confirmed, PublishError<T>> {
        self.accept(message, MessageOptions::NONE, false).await?.confirmed().await
    }

    /// [`publish`](Self::publish) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message.
    pub async fn publish_with(&self, message: T, options: MessageOptions) -> Result<Confirmed, PublishError<T>> {
        self.accept(message, &options, false).await?.confirmed().await
    }

    /// Waits only for room in the mailbox. The receipt resolves with the confirm.
    ///
    /// # Errors
    /// [`PublishError`], with the message, if it was not accepted.
    ///
    /// # Cancellation
    /// If the future is dropped before it is ready, the message was not accepted. Dropping a [`Receipt`] withdraws
    /// nothing.
    pub async fn enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        self.accept(message, MessageOptions::NONE, true).await
    }

    /// [`enqueue`](Self::enqueue) with an id, a key, headers or other properties for this message.
    ///
    /// # Errors
    /// [`PublishError`], with the message, if it was not accepted.
    pub async fn enqueue_with(&self, message: T, options: MessageOptions) -> Result<Receipt<T>, PublishError<T>> {
        self.accept(message, &options, true).await
    }

    /// [`enqueue`](Self::enqueue) without waiting: fails at once with [`PublishErrorKind::Full`] if there is no room. A
    /// publisher with a journal always fails so, because a place in the journal means waiting for the disk.
    ///
    /// # Errors
    /// [`PublishError`], with the message, if it was not accepted.
    pub fn try_enqueue(&self, message: T) -> Result<Receipt<T>, PublishError<T>> {
        let Shared { route, first, .. } = &*self.shared;
        let full = || {
            let limited = route.rate_limit.as_ref().is_some_and(|limit| !limit.take_now());
            if limited || first.send_queue.journal.is_some() { Err(PublishErrorKind::Full) } else { Ok(()) }
        };
        let joins = self.shared.batches(&message, None);
        let alone = joins.as_ref().and_then(|(key, _, batcher)| batcher.goes_alone(key));
        if let Some((key, send_queue, batcher)) = joins.filter(|_| alone.is_none()) {
            let creation = Creation::new(&self.shared.route, send_queue, &key, MessageOptions::NONE);
            let joining = creation.of(&message, &key);
            let added = full().and_then(|()| match self.add(send_queue, batcher, &joining)? {
                Some(claim) => Ok(claim),
                None => batcher.try_open_with(send_queue, &joining),
            });
            let added = creation.joined(added);
            let key = key.into_owned();
            return match added {
                Ok(claim) => Ok(Receipt::new(message, claim)),
                Err(kind) => Err(self.not_batched(message, &key, kind)),
            };
        }
        let (receipt, mut entry) =
            self.prepare(message, MessageOptions::NONE, true, Instant::now() + route.deadline)?;
        entry.reply.keep_busy(alone);
        let send_queue = &self.shared.channel(&entry.message.routing_key).send_queue;
        match full().and_then(|()| send_queue.try_accept(entry)) {
            Ok(()) => Ok(receipt),
            Err(kind) => Err(receipt.failed(kind)),
        }
    }

    /// Waits until every message that this publisher and its clones have accepted is confirmed or was handed back.
    /// Sends open batches at once.
    ///
    /// # Cancellation
    /// Safe: dropping the future changes nothing.
    pub async fn flush(&self) {
        for channel in self.shared.channels() {
            channel.send_queue.send_open();
        }
        for channel in self.shared.channels() {
            channel.send_queue.idle().await;
        }
    }

    /// The totals of this publisher and its clones, since it was made.
    pub fn stats(&self) -> PublisherStats {
        self.shared
            .channels()
            .map(|channel| channel.send_queue.stats())
            .fold(PublisherStats::default(), PublisherStats::plus)
    }

    async fn accept(
        &self,
        message: T,
        options: &MessageOptions,
        detached: bool,
    ) -> Result<Receipt<T>, PublishError<T>> {
        if self.shared.first.batcher.is_none() {
            // Yield here now and then, or a publish loop starves the other tasks on this thread.
            consume_budget().await;
        }
        match self.accept_now(message, options, detached) {
            Accepting::Done(accepted) => accepted,
            // Boxed, so that callers who never wait do not carry this state in their own future.
            waiting => Box::pin(self.accept_in_time(waiting)).await,
        }
    }

    /// Accepts a message if that needs no waiting.
    fn accept_now<'a>(&'a self, message: T, options: &'a MessageOptions, detached: bool) -> Accepting<'a, T> {
        let limited = self.shared.route.rate_limit.is_some();
        let own_key = options.key.as_deref();
        let joins = if options.allow_batch() { self.shared.batches(&message, own_key) } else { None };
        // A message that waits for its turn may find its key free then: its batch leaves as soon as it is opened.
        let alone = joins.as_ref().filter(|_| !limited).and_then(|(key, _, batcher)| batcher.goes_alone(key));
        if let Some((key, send_queue, batcher)) = joins.filter(|_| alone.is_none()) {
            let creation = Creation::new(&self.shared.route, send_queue, &key, options);
            let joining = creation.of(&message, &key);
            let joined = if limited { Ok(None) } else { self.add(send_queue, batcher, &joining) };
            return match joined {
                Ok(Some(claim)) => Accepting::Done(Ok(Receipt::new(message, creation.into_batch(claim)))),
                Ok(None) => Accepting::InBatch { message, key, creation, send_queue, batcher },
                Err(kind) => Accepting::Done(Err(self.not_batched(message, &key, kind))),
            };
        }
        let deadline = Instant::now() + self.shared.route.deadline;
        let (receipt, mut entry) = match self.prepare(message, options, detached, deadline) {
            Ok(prepared) => prepared,
            Err(error) => return Accepting::Done(Err(error)),
        };
        entry.reply.keep_busy(alone);
        let channel = self.shared.channel(&entry.message.routing_key);
        if limited {
            return Accepting::Alone { receipt, entry, channel, deadline };
        }
        match channel.send_queue.try_reserve(entry.message.body.len()) {
            Ok(place) => {
                channel.send(place, entry);
                Accepting::Done(Ok(receipt))
            }
            Err(PublishErrorKind::Full) => Accepting::Alone { receipt, entry, channel, deadline },
            Err(kind) => Accepting::Done(Err(receipt.failed(kind))),
        }
    }

    /// Waits for the turn or the room that [`accept_now`](Self::accept_now) did not get, up to the route's deadline.
    async fn accept_in_time(&self, accepting: Accepting<'_, T>) -> Result<Receipt<T>, PublishError<T>> {
        let route = &self.shared.route;
        let turn = async {
            if let Some(limit) = &route.rate_limit {
                limit.take().await;
            }
        };
        match accepting {
            Accepting::Done(accepted) => accepted,
            Accepting::InBatch { message, key, creation, send_queue, batcher } => {
                let joining = async {
                    let joining = creation.of(&message, &key);
                    turn.await;
                    match self.add(send_queue, batcher, &joining)? {
                        Some(claim) => Ok(claim),
                        None => batcher.open_with(send_queue, &joining).await,
                    }
                };
                let joined = timeout_at(Instant::now() + route.deadline, joining).await;
                match creation.joined(joined.unwrap_or(Err(PublishErrorKind::Overloaded))) {
                    Ok(claim) => Ok(Receipt::new(message, claim)),
                    Err(kind) => Err(self.not_batched(message, &key, kind)),
                }
            }
            Accepting::Alone { receipt, entry, channel, deadline } => {
                let accepting = async {
                    turn.await;
                    channel.accept(entry).await
                };
                match timeout_at(deadline, accepting).await.unwrap_or(Err(PublishErrorKind::Overloaded)) {
                    Ok(()) => Ok(receipt),
                    Err(kind) => Err(receipt.failed(kind)),
                }
            }
        }
    }

    /// Adds a message to the open batch of its key, if there is one with room.
    fn add(
        &self,
        send_queue: &SendQueue,
        batcher: &Batcher<T>,
        joining: &Joining<'_, T>,
    ) -> Result<Option<Claim>, PublishErrorKind> {
        match self.shared.route.too_long(joining.key) {
            Some(property) => Err(PublishErrorKind::Property(property)),
            None => batcher.add(send_queue, joining),
        }
    }

    fn not_batched(&self, message: T, key: &str, kind: PublishErrorKind) -> PublishError<T> {
        let (id, target) = (new_id().to_string(), target(&self.shared.route.exchange, key));
        PublishError { message, id, target: target.into(), kind }
    }

    /// Encodes, addresses and labels a message. A message that can never be sent fails here.
    fn prepare(
        &self,
        message: T,
        options: &MessageOptions,
        detached: bool,
        deadline: Instant,
    ) -> Result<(Receipt<T>, Entry), PublishError<T>> {
        let Shared { route, first, .. } = &*self.shared;
        let (id, to) = route.address(&message, options);
        let kept = match (&first.send_queue.journal, detached) {
            (Some(_), _) => Kept::InJournal,
            (None, true) => Kept::InMemory,
            (None, false) => Kept::No,
        };
        let (trace, span) = alone(route, &first.send_queue, &id, &to.routing_key, options);
        let (pending, mut reply) = Pending::new(Arc::clone(&id), to.clone(), deadline, kept);
        reply.follow(span);
        let receipt = Receipt::new(message, Claim::whole(pending));
        match route.prepare_as(&receipt.message, options, id, to, trace.as_ref()) {
            Ok(prepared) => match first.send_queue.has_room_for_headers(&prepared) {
                Ok(()) => Ok((receipt, Entry::new(prepared, reply, detached))),
                Err(kind) => Err(receipt.failed(kind)),
            },
            Err(kind) => Err(receipt.failed(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_enqueues_in_a_loop_leaves_time_to_what_else_runs_on_his_thread() {
        let send_queue = SendQueue::new("test".to_owned(), 10_000, 10, Duration::from_secs(1));
        let publisher =
            Publisher::new(Route::<String>::queue("q"), PublisherChannel { send_queue, batcher: None }, Vec::new());
        let other = tokio::spawn(async {});
        for _ in 0..1000 {
            let _receipt = publisher.enqueue("there is room".to_owned()).await.unwrap();
        }
        assert!(other.is_finished());
    }
}
