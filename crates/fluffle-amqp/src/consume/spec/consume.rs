//! The settings of a consumer.

use std::{hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use fluffle_supervise::{Backoff, Intensity};
use fluffle_wire::{Codec, Limits, Wire};

use crate::{
    base::payload::Payload,
    consume::spec::{
        guarantee::Guarantee,
        key::{KeyOf, hashed},
        middleware::Middleware,
        retry::Retry,
        seen_store::SeenStore,
        stream::StreamReader,
        threads::Threads,
    },
    flow::{
        breaker::{CircuitBreaker, KillSwitch},
        budget::DEFAULT_BYTES,
        rate::RateLimit,
    },
};

/// RabbitMQ's default `consumer_timeout`: 30 minutes (RabbitMQ, "Delivery Acknowledgement Timeout").
pub(crate) const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The settings of a consumer: the argument of `consume`. `T` is the type of the messages, `R` the type of the answers,
/// if senders ask for any.
///
/// | setting | default | |
/// |---|---|---|
/// | [`prefetch`](Consume::prefetch) | 128 | unsettled deliveries; bounds memory and concurrency |
/// | [`instances`](Consume::instances) | 1; with `ordered_by` one a core | handler actors that share the deliveries |
/// | [`ordered_by`](Consume::ordered_by) | no | keeps order by key with several instances |
/// | [`lanes`](Consume::lanes) | 1 | channels, each with its own prefetch and handlers |
/// | [`concurrency`](Consume::concurrency) | = prefetch | messages that one instance handles at a time |
/// | [`guarantee`](Consume::guarantee) | `AtLeastOnce` | |
/// | [`effectively_once`](Consume::effectively_once) | no | a store of the messages that were handled |
/// | [`retry`](Consume::retry) | 5 attempts, 1 s to 125 s apart | |
/// | [`delivery_limit`](Consume::delivery_limit) | twice the attempts, 6 to 20 | deliveries that are never answered |
/// | [`confirm_timeout`](Consume::confirm_timeout) | 10 s | for the confirm of a retry copy or dead letter |
/// | [`handler_timeout`](Consume::handler_timeout) | 10 min | after which the attempt has failed |
/// | [`give_back_after`](Consume::give_back_after) | half of `consumer_timeout` | longest wait for a handler |
/// | [`consumer_timeout`](Consume::consumer_timeout) | the queue's, or 30 min | the broker's setting |
/// | [`handler_backoff`](Consume::handler_backoff) | 10 ms to 5 s | before a crashed handler starts again |
/// | [`handler_intensity`](Consume::handler_intensity) | unlimited | crashes until the application gives up |
/// | [`max_bytes_in_flight`](Consume::max_bytes_in_flight) | 64 MiB | bytes that handlers have in hand |
/// | [`rate_limit`](Consume::rate_limit) | none | how fast handlers are given deliveries |
/// | [`circuit_breaker`](Consume::circuit_breaker) | none | stops while something that handlers need is down |
/// | [`kill_switch`](Consume::kill_switch) | none | stops when too many messages end as dead letters |
/// | [`on_io`](Consume::on_io), [`blocking`](Consume::blocking) | no | which threads run the handlers |
/// | [`on_thread`](Consume::on_thread) | no | a thread that several consumers share |
/// | [`middleware`](Consume::middleware) | the service's | runs around each call of a handler |
/// | [`dead_letter_queue`](Consume::dead_letter_queue) | `<queue>.dead` | declared for you |
///
/// The application declares the queue itself. The consumer declares a retry queue `<queue>.retry.<ms>` for each delay,
/// and the dead-letter queue. They are quorum queues, so that in a cluster no message in them is on one node only. If
/// the queue is temporary, its retry queues belong to the same connection and end with it.
///
/// ```
/// use fluffle_amqp::{Consume, Guarantee};
///
/// let consume: Consume<String> =
///     Consume::queue("alerts").prefetch(256).instances(2).guarantee(Guarantee::AtLeastOnce);
/// ```
pub struct Consume<T, R = ()> {
    pub(crate) queue: String,
    pub(crate) prefetch: u16,
    pub(crate) instances: Option<usize>,
    pub(crate) lanes: usize,
    pub(crate) concurrency: Option<usize>,
    pub(crate) guarantee: Guarantee,
    pub(crate) retry: Retry,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) retry_requests: bool,
    pub(crate) confirm_timeout: Duration,
    pub(crate) handler_timeout: Duration,
    pub(crate) give_back_after: Option<Duration>,
    pub(crate) consumer_timeout: Option<Duration>,
    pub(crate) handler_backoff: Backoff,
    pub(crate) handler_intensity: Intensity,
    pub(crate) threads: Threads,
    pub(crate) exclusive: bool,
    pub(crate) priority: Option<i32>,
    pub(crate) max_bytes: u64,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    pub(crate) kill_switch: Option<KillSwitch>,
    pub(crate) dead_letter_queue: Option<String>,
    pub(crate) key: Option<KeyOf<T>>,
    pub(crate) seen: Option<Arc<dyn SeenStore>>,
    pub(crate) stream: Option<StreamReader>,
    pub(crate) middleware: Vec<Arc<dyn Middleware>>,
    pub(crate) skips_other_types: bool,
    /// The types that aliases stand for.
    pub(crate) aliased: Vec<String>,
    pub(crate) wire: Wire<T>,
    pub(crate) reply: PhantomData<fn() -> R>,
}

impl<T, R> Consume<T, R> {
    /// From the queue of this name; bodies are in the format of their [`Payload`]: Protobuf, if nothing else is said.
    pub fn queue(name: impl Into<String>) -> Self
    where
        T: Payload,
    {
        Self::over(T::wire(), name.into())
    }

    /// A consumer of the queue of this name. Bodies are in the format of `codec`.
    pub fn coded(codec: impl Codec<T> + 'static, queue: impl Into<String>) -> Self {
        Self::over(Wire::new(codec), queue.into())
    }

    fn over(wire: Wire<T>, queue: String) -> Self {
        Self {
            queue,
            prefetch: 128,
            instances: None,
            lanes: 1,
            concurrency: None,
            guarantee: Guarantee::default(),
            retry: Retry::default(),
            delivery_limit: None,
            retry_requests: false,
            confirm_timeout: Duration::from_secs(10),
            handler_timeout: Duration::from_secs(600),
            give_back_after: None,
            consumer_timeout: None,
            handler_backoff: default_handler_backoff(),
            handler_intensity: Intensity::unlimited(),
            threads: Threads::default(),
            exclusive: false,
            priority: None,
            max_bytes: DEFAULT_BYTES,
            rate_limit: None,
            circuit_breaker: None,
            kill_switch: None,
            dead_letter_queue: None,
            key: None,
            seen: None,
            stream: None,
            middleware: Vec::new(),
            skips_other_types: false,
            aliased: Vec::new(),
            wire,
            reply: PhantomData,
        }
    }

    /// How many deliveries may be in this process and not settled (`basic.qos`), at least 1. A batch counts as one
    /// delivery, however many items it has.
    #[must_use]
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = count.max(1);
        self
    }

    /// How many handler actors there are, at least 1. Each takes the next delivery when it has room, so uneven work is
    /// shared evenly. Order holds within one instance only, so the default is 1. [`ordered_by`](Self::ordered_by) keeps
    /// order with several instances, so with it the default is one for each core
    /// ([`available_parallelism`](std::thread::available_parallelism)).
    #[must_use]
    pub fn instances(mut self, count: usize) -> Self {
        self.instances = Some(count.max(1));
        self
    }

    /// Keeps the order of messages that have the same key, while messages of different keys are handled in parallel.
    /// Each key belongs to one handler instance. The instance is given the next message of a key when it has answered
    /// the previous one. Keys with the same hash are one key.
    ///
    /// The order kept is the order in which the broker delivers. While a message waits in this process for its next
    /// attempt ([`Retry::in_process_below`](crate::Retry::in_process_below)), it keeps its key locked, unless it is an
    /// item of a batch. In these cases the key is free, so the message is handled after later messages of its key, or
    /// not at all:
    ///
    /// - it is retried through a retry queue, or becomes a dead letter;
    /// - its handler has exceeded [`handler_timeout`](Self::handler_timeout);
    /// - it goes back to the queue.
    ///
    /// If a channel is lost, a handler first finishes the message in hand, before that message is begun again.
    ///
    /// Items of a batch go to the instances that have their keys. If there are about as few keys as instances, or most
    /// messages have the same key, some instances have nothing to do. Messages that wait for their key count against
    /// [`prefetch`](Self::prefetch) and [`max_bytes_in_flight`](Self::max_bytes_in_flight), and for
    /// [`rate_limit`](Self::rate_limit) they count as handed out. Each message is decoded twice, the first time to read
    /// its key. If `key` panics, the message becomes a dead letter.
    ///
    /// `consume_batches` refuses this setting, because its handlers are given messages of all keys at once. For order
    /// with several processes see [`Topology::partitioned`](crate::Topology::partitioned).
    ///
    /// ```
    /// use fluffle_amqp::{Consume, Payload};
    ///
    /// # fn example<Reading: Payload>(station: fn(&Reading) -> u32) {
    /// let consume: Consume<Reading> = Consume::queue("readings").ordered_by(move |reading| station(reading));
    /// # }
    /// ```
    #[must_use]
    pub fn ordered_by<K: Hash>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        self.key = Some(hashed(key));
        self
    }

    /// How many channels the consumer has, at least 1 (the default). Each lane has its own channel, prefetch, byte
    /// budget, handlers and publisher of copies, on the connection of the [pool](crate::PoolConfig) with the fewest
    /// channels. Several lanes are for a queue that one channel cannot empty fast enough. The broker distributes the
    /// messages among the lanes, so their order is lost.
    ///
    /// All lanes share one rate limit, circuit breaker, kill switch and store of handled messages. A message that may
    /// be ending its process ([`delivery_limit`](Self::delivery_limit)) is handled alone within its lane, while other
    /// lanes handle other messages. In the tree and in [`Service::consumers`](crate::Service::consumers) each lane is a
    /// consumer of its own: `<queue>`, `<queue>#2` and so on.
    ///
    /// Refused at the start together with [`ordered_by`](Self::ordered_by), with [`exclusive`](Self::exclusive), for a
    /// temporary queue, and for a queue with a single active consumer.
    #[must_use]
    pub fn lanes(mut self, count: usize) -> Self {
        self.lanes = count.max(1);
        self
    }

    /// How many messages one instance may have begun and not answered, at least 1. Each item of a batch counts as a
    /// message. This matters for handlers that answer later (`ResponseFuture`): with 1, they run strictly one after the
    /// other.
    #[must_use]
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = Some(count.max(1));
        self
    }

    /// Whether a message is acked before or after it is handled. Turns [`effectively_once`](Self::effectively_once)
    /// off, so set that afterwards.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self.seen = None;
        self
    }

    /// `AtLeastOnce`, and in addition a message is acked without being handled if `store` knows its id as handled. This
    /// removes duplicates of a publisher that was unsure, and redeliveries whose ack did not reach the broker. While
    /// one delivery of a message is being handled, another delivery of the same message waits.
    ///
    /// A message can still be handled twice:
    ///
    /// - if the process dies after the work is done and before the mark is in the store;
    /// - if this process loses its connection and another process begins the message meanwhile
    ///   ([`Delivery::unless_lost`](crate::Delivery::unless_lost) helps);
    /// - if it has no id, or the store no longer remembers the id.
    ///
    /// To leave no gap at all, write the mark in the application's own transaction.
    #[must_use]
    pub fn effectively_once(mut self, store: Arc<dyn SeenStore>) -> Self {
        self.guarantee = Guarantee::AtLeastOnce;
        self.seen = Some(store);
        self
    }

    /// How often a failed message is tried again, and after which waits. Without effect with `AtMostOnce`.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How often a quorum queue may deliver a message that is never settled (`x-delivery-count`). After that the
    /// message becomes a dead letter with the reason `delivery-limit`. This is for messages that kill their process:
    /// there is no answer, so no attempt is charged. Default: twice the [attempts](Retry::attempts), between 6 and 20.
    /// At least 2.
    ///
    /// In the first half of the limit a message may have had bad luck: connections were lost, or another message killed
    /// the process. From half of the limit on it is handled alone. The consumer finishes what is in hand, gives the
    /// rest back by closing its channel, and takes one message at a time, until as many messages in a row as its
    /// [`prefetch`](Self::prefetch) were no suspects. Meanwhile other consumers of the process that have suspects take
    /// no messages. So in the second half, each death of the process is that message's own doing, and the messages that
    /// were near it are handled. Going back to the queue counts too, so the limit is reached after fewer deaths.
    ///
    /// Keep it within the queue's own limit (`x-delivery-limit`; since RabbitMQ 4 the default is 20). At that limit the
    /// broker itself drops or dead-letters the message. A classic queue does not count, so there such a message comes
    /// again for ever. Without effect with `AtMostOnce`, which drops a message that is delivered again.
    #[must_use]
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = Some(deliveries.max(2));
        self
    }

    /// How long the broker's confirm of a retry copy, a dead letter or an answer may take. After that, their channel is
    /// given up and what is unconfirmed is published again, so there may be two copies. The original stays unacked all
    /// that time; this setting bounds how long one lost confirm delays it. Default 10 s. Time during which the broker
    /// blocks publishers does not count.
    #[must_use]
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.confirm_timeout = limit;
        self
    }

    /// How long a handler may take for one message. After that, the attempt has failed. The handler is not interrupted.
    /// If it answers later, the answer is counted as late; with [`effectively_once`](Self::effectively_once) a late
    /// success is still remembered. Default 10 minutes.
    ///
    /// A failed attempt is charged and leads to a retry. If the message were given back to the queue instead, it would
    /// hang the next handler too, for ever. If nothing were done, the broker would close the channel. So keep the sum
    /// of this and [`give_back_after`](Self::give_back_after) below the broker's
    /// [`consumer_timeout`](Self::consumer_timeout); if it is above, a warning is logged.
    #[must_use]
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = limit;
        self
    }

    /// How long a delivery may wait for a handler. After that it goes back to the queue (`basic.nack` with requeue),
    /// for another consumer that has time, or for this one again. No handler has begun it, so no attempt is charged.
    /// Default: half of [`consumer_timeout`](Self::consumer_timeout). Without this, if many slow messages wait here,
    /// the broker would close the channel because of the last of them. Before RabbitMQ 4, this counts in a quorum
    /// queue's `x-delivery-count`, as a closed channel does. Without effect with `AtMostOnce`.
    #[must_use]
    pub fn give_back_after(mut self, limit: Duration) -> Self {
        self.give_back_after = Some(limit);
        self
    }

    /// What the broker's `consumer_timeout` is set to, in `rabbitmq.conf`, by policy or by queue argument. It is how
    /// long the broker waits for an ack before it closes the channel (RabbitMQ, "Delivery Acknowledgement Timeout").
    /// This setting does not change the broker's. If a delivery is unacked for half of it, a warning with queue,
    /// message id and age is logged. Default: what the topology of this service says of the queue
    /// ([`Queue::consumer_timeout`](crate::Queue::consumer_timeout)), or else 30 minutes.
    #[must_use]
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.consumer_timeout = Some(timeout);
        self
    }

    /// The waits before a crashed handler actor starts again. Default: 10 ms, growing to 5 s.
    #[must_use]
    pub fn handler_backoff(mut self, backoff: Backoff) -> Self {
        self.handler_backoff = backoff;
        self
    }

    /// How many crashes of handler actors are tolerated before the application gives up. Default: unlimited, because
    /// each crash is charged to its message, so a poison message ends as a dead letter.
    #[must_use]
    pub fn handler_intensity(mut self, intensity: Intensity) -> Self {
        self.handler_intensity = intensity;
        self
    }

    /// Makes this the only consumer of its queue: the broker refuses all others (`basic.consume` with `exclusive`).
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// The consumer's priority (`x-priority`; RabbitMQ, "Consumer Priorities"). The broker delivers to consumers with a
    /// higher priority first. Default 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How many bytes of deliveries all handler instances together may have in hand. A delivery counts from when a
    /// handler takes it until it is settled, with the size of its body and, if that is compressed, of what it unpacks
    /// to. Default 64 MiB.
    ///
    /// While the budget is used up, deliveries wait in the order in which they came. A single delivery that is larger
    /// than the budget is handled alone. The unpacked size of a body is known only after unpacking, so each instance
    /// may exceed the budget by one unpacked body ([`Limits`], 64 MiB by default). The bytes that wait are bounded by
    /// the prefetch times the largest body (16 MiB by default).
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How fast all handler instances together are given deliveries; see [`RateLimit`]. A batch counts as one delivery.
    /// Deliveries that may not be handed out yet wait in this process, within the prefetch.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Stops taking deliveries while handlers fail because something they need is down; see [`CircuitBreaker`].
    ///
    /// [Transient failures](crate::Failure::retry), crashes and timeouts count as failures. Rejections and undecodable
    /// bodies do not, because they say nothing about what is down. While the breaker is open, the consumer is not
    /// subscribed. What no handler has begun goes back to the queue, so that other consumers can handle it and the
    /// broker's `consumer_timeout` does not run out. Before RabbitMQ 4, this counts in a quorum queue's
    /// `x-delivery-count`. While the breaker is half-open, the consumer's prefetch is the number of probes.
    ///
    /// A message that fails while the breaker opens, and a probe that fails, are charged an attempt like any failure.
    /// [`ConsumerStats`] shows the state. A warning is logged when the breaker opens.
    ///
    /// [`ConsumerStats`]: crate::ConsumerStats
    #[must_use]
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.circuit_breaker = Some(breaker);
        self
    }

    /// Stops the consumer when too many of its messages end as dead letters; see [`KillSwitch`]. An error is logged,
    /// and [`ConsumerStats`](crate::ConsumerStats) shows the state. Other consumers go on. A stopped consumer is not
    /// subscribed, as with [`circuit_breaker`](Self::circuit_breaker). Without effect with `AtMostOnce`, which has no
    /// dead letters.
    #[must_use]
    pub fn kill_switch(mut self, switch: KillSwitch) -> Self {
        self.kill_switch = Some(switch);
        self
    }

    /// Retries requests that fail like any other message, for as long as their requester waits. By default, a request
    /// is not tried again if its handler fails or crashes, because only the requester knows whether asking twice is
    /// harmless; the requester gets [`RequestErrorKind::Failed`](crate::RequestErrorKind::Failed) at once. In both
    /// cases a handler's [`Failure::reject`](crate::Failure::reject) is an answer
    /// ([`Refused`](crate::RequestErrorKind::Refused)); it makes no dead letter and logs no error.
    ///
    /// A message with a reply address is a request if this consumer answers with a type other than `()`, or if the
    /// address is one of RabbitMQ's direct reply-to. A request whose `expiration` has passed when its turn comes is not
    /// handled.
    ///
    /// ```
    /// use fluffle_amqp::Consume;
    ///
    /// let lookups = Consume::<String, String>::queue("lookups").retry_requests();
    /// ```
    #[must_use]
    pub fn retry_requests(mut self) -> Self {
        self.retry_requests = true;
        self
    }

    /// Adds a [`Middleware`] that runs around each call of a handler of this consumer, inside those added before, and
    /// inside those of the [service](crate::Service::middleware).
    #[must_use]
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// The name of the queue for dead letters, by default `<queue>.dead`. The queue is declared for you.
    #[must_use]
    pub fn dead_letter_queue(mut self, name: impl Into<String>) -> Self {
        self.dead_letter_queue = Some(name.into());
        self
    }

    /// The limits on the sizes of messages that are accepted.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.wire = self.wire.limits(limits);
        self
    }
}

/// How many threads can run at the same time in this process.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_handler_backoff() -> Backoff {
    Backoff::exponential(Duration::from_millis(10), Duration::from_secs(5))
        .map(|backoff| backoff.reset_after(Duration::from_secs(1)))
        .unwrap_or_default()
}

impl<T, R> std::fmt::Debug for Consume<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consume")
            .field("queue", &self.queue)
            .field("prefetch", &self.prefetch)
            .field("instances", &self.handlers())
            .field("ordered", &self.key.is_some())
            .field("guarantee", &self.guarantee)
            .field("retry", &self.retry)
            .field("middleware", &self.middleware.len())
            .finish_non_exhaustive()
    }
}
