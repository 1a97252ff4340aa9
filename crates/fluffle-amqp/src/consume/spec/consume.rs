//! What to consume, and on which terms.

use std::{hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use fluffle_supervise::{Backoff, Intensity};
use fluffle_wire::{Codec, Limits, Protobuf, Wire};

use crate::{
    base::payload::Payload,
    consume::spec::{
        key::{KeyOf, hashed},
        middleware::Middleware,
        retry::Retry,
        seen_store::SeenStore,
    },
    flow::{
        breaker::{CircuitBreaker, KillSwitch},
        budget::DEFAULT_BYTES,
        rate::RateLimit,
    },
};

/// RabbitMQ's `consumer_timeout` unless it is configured otherwise: 30 minutes ("Delivery Acknowledgement Timeout").
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What a consumer promises about each message.
///
/// ```
/// use fluffle_amqp::{AtMostOnce, Consume};
///
/// let telemetry: Consume<String> = Consume::queue("telemetry").guarantee(AtMostOnce);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Acked on receipt, and refused when the broker delivers it again: never handled twice, lost if the handler fails,
    /// the process dies, or the ack did not get through.
    AtMostOnce,
    /// Acked after the handler is done (the default): never lost, handled again when the ack did not get through.
    #[default]
    AtLeastOnce,
}

pub use Guarantee::{AtLeastOnce, AtMostOnce};

/// What to consume, and on which terms: the argument of `consume`. `T` is the message, `R` the answer, if senders ask
/// for one.
///
/// | setting | default | |
/// |---|---|---|
/// | [`prefetch`](Consume::prefetch) | 128 | deliveries in this process and not settled, a batch being one; bounds memory and concurrency |
/// | [`instances`](Consume::instances) | 1; with `ordered_by` one a core | handler actors, sharing the deliveries |
/// | [`ordered_by`](Consume::ordered_by) | no | keeps order by key, among several instances |
/// | [`lanes`](Consume::lanes) | 1 | consumers on channels of their own |
/// | [`concurrency`](Consume::concurrency) | = prefetch | messages one instance may have started and not answered |
/// | [`guarantee`](Consume::guarantee) | `AtLeastOnce` | |
/// | [`effectively_once`](Consume::effectively_once) | no | a store of the messages handled before |
/// | [`retry`](Consume::retry) | 5 attempts, 1 s to 125 s apart | |
/// | [`delivery_limit`](Consume::delivery_limit) | twice the attempts, 6 to 20 | deliveries without an answer until a message is taken for one that kills its process |
/// | [`confirm_timeout`](Consume::confirm_timeout) | 10 s | for the confirm of a retry copy or dead letter |
/// | [`handler_timeout`](Consume::handler_timeout) | 10 min | what a handler has had for longer is a failed attempt |
/// | [`give_back_after`](Consume::give_back_after) | half of `consumer_timeout` | what has waited for a handler for longer goes back |
/// | [`consumer_timeout`](Consume::consumer_timeout) | 30 min | what the broker's is set to; half of it unacked is a warning |
/// | [`handler_backoff`](Consume::handler_backoff) | 10 ms to 5 s | before a crashed handler starts again |
/// | [`handler_intensity`](Consume::handler_intensity) | unlimited | a crash is charged to its message, so a poison message ends as a dead letter |
/// | [`max_bytes_in_flight`](Consume::max_bytes_in_flight) | 64 MiB | bytes that handlers have in hand |
/// | [`rate_limit`](Consume::rate_limit) | none | how fast handlers are given deliveries |
/// | [`circuit_breaker`](Consume::circuit_breaker) | none | stops taking while what handlers need is down |
/// | [`kill_switch`](Consume::kill_switch) | none | stops taking when too much ends as dead letters |
/// | [`middleware`](Consume::middleware) | the service's | runs around each call of a handler |
/// | [`dead_letter_queue`](Consume::dead_letter_queue) | `<queue>.dead` | declared for you |
///
/// Besides the queue itself, which is yours to declare, the consumer declares `<queue>.retry.<ms>` for each delay and
/// the dead-letter queue: quorum queues, so that a message on its way through them is never in one place only. (The
/// retry queues of a temporary queue go with its connection, as it does.)
///
/// ```
/// use fluffle_amqp::{Consume, Guarantee};
///
/// let consume: Consume<String> = Consume::queue("alerts").prefetch(256).instances(2).guarantee(Guarantee::AtLeastOnce);
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
    pub(crate) consumer_timeout: Duration,
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
    pub(crate) middleware: Vec<Arc<dyn Middleware>>,
    pub(crate) wire: Wire<T>,
    reply: PhantomData<fn() -> R>,
}

/// Which threads run the handlers of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Up to one arbiter a core for this consumer alone; its instances share them.
    #[default]
    Shared,
    /// One arbiter for each instance.
    Own,
}

impl<T, R> Consume<T, R> {
    /// From the queue of this name; bodies are Protobuf.
    pub fn queue(name: impl Into<String>) -> Self
    where
        T: Payload,
    {
        Self::coded(Protobuf, name)
    }

    /// From the queue of this name; bodies are in a codec of your choice.
    pub fn coded(codec: impl Codec<T> + 'static, queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
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
            consumer_timeout: CONSUMER_TIMEOUT,
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
            middleware: Vec::new(),
            wire: Wire::new(codec),
            reply: PhantomData,
        }
    }

    /// Most deliveries in this process and not settled (`basic.qos`), at least 1. A batch is one delivery: its items
    /// are not counted.
    #[must_use]
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = count.max(1);
        self
    }

    /// Handler actors, at least 1. Each takes the next delivery when it has room, so uneven jobs spread by themselves.
    /// Order holds within one instance only, so the default is 1; with [`ordered_by`](Self::ordered_by), which keeps it
    /// among several, one for each core ([`available_parallelism`](std::thread::available_parallelism)).
    #[must_use]
    pub fn instances(mut self, count: usize) -> Self {
        self.instances = Some(count.max(1));
        self
    }

    /// Keeps the order of messages that have the same key, while those of different keys are handled side by side: each
    /// key belongs to one handler instance, which is given the next message of it when it has answered the last one.
    /// Keys are told apart by their hash.
    ///
    /// What is kept is the order in which the broker delivers. A wait between attempts in this process
    /// ([`Retry::in_process_below`](crate::Retry::in_process_below)) holds its key, unless it is an item of a batch
    /// that waits. A retry through a retry queue, a dead letter, a handler past its
    /// [`handler_timeout`](Self::handler_timeout), and whatever goes back to the queue free the key: that message comes
    /// after others of its key, or not at all. Messages in hand when their channel is lost are finished before they are
    /// begun again.
    ///
    /// The items of a batch that have different keys go to different instances. With as few keys as instances, or one
    /// key that most messages have, some instances have nothing to do. What waits for its key is within the
    /// [`prefetch`](Self::prefetch) and within [`max_bytes_in_flight`](Self::max_bytes_in_flight), and counts as handed
    /// out for [`rate_limit`](Self::rate_limit). Each message is decoded twice, first for its key; a panic in `key`
    /// makes it a dead letter.
    ///
    /// Not for `consume_batches`, whose handlers are given messages of all keys at once. Over several processes see
    /// [`Topology::partitioned`](crate::Topology::partitioned).
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

    /// Consumers in one, at least 1 (the default): each lane has a channel, a prefetch, a byte budget, handlers and a
    /// publisher of copies of its own, on whichever connection of the [pool](crate::PoolConfig) has the fewest
    /// channels. For a queue that one channel cannot empty fast enough; the broker deals its messages out among the
    /// lanes, so order ends.
    ///
    /// All lanes share one rate limit, circuit breaker, kill switch and store of handled messages. A message that may
    /// be ending its process ([`delivery_limit`](Self::delivery_limit)) is handled alone in its lane, beside what other
    /// lanes have. In the tree and in [`Service::consumers`](crate::Service::consumers) each is a consumer by itself:
    /// `<queue>`, `<queue>#2` and so on.
    ///
    /// Refused with [`ordered_by`](Self::ordered_by), [`exclusive`](Self::exclusive), temporary queues and queues with
    /// a single active consumer.
    #[must_use]
    pub fn lanes(mut self, count: usize) -> Self {
        self.lanes = count.max(1);
        self
    }

    /// Messages one instance may have started and not answered, at least 1; items of batches are messages. Matters to
    /// handlers that answer later (`ResponseFuture`); 1 makes them run strictly one after the other.
    #[must_use]
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = Some(count.max(1));
        self
    }

    /// When a message is acked.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self.seen = None;
        self
    }

    /// At least once, and a message whose id `store` knows as handled is acked without being handled again: duplicates
    /// of a publisher that was unsure, deliveries whose ack did not get through. While one delivery of a message is
    /// being handled the next one of it waits.
    ///
    /// What can still repeat: work whose process dies between its end and the mark in the store; work that another
    /// process has begun after this one lost its connection ([`Delivery::unless_lost`](crate::Delivery::unless_lost)
    /// helps); messages without an id, or older than the store remembers. To leave no gap, let the application's own
    /// transaction carry the mark.
    #[must_use]
    pub fn effectively_once(mut self, store: Arc<dyn SeenStore>) -> Self {
        self.guarantee = Guarantee::AtLeastOnce;
        self.seen = Some(store);
        self
    }

    /// How often a failed message is tried, and how far apart. Without effect with `AtMostOnce`.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How often a quorum queue may deliver a message that is never settled (`x-delivery-count`) before it is a dead
    /// letter with the reason `delivery-limit`: what takes its whole process down answers nothing that an attempt could
    /// be charged to. Default: twice the [attempts](Retry::attempts), from 6 to 20; at least 2.
    ///
    /// The first half may be bad luck: lost connections, or waiting beside a message that killed the process. From then
    /// on a message is handled alone: the consumer finishes what is in hand, gives the rest back by closing its
    /// channel, and takes one message at a time, until a prefetch of messages in a row was above suspicion; no other
    /// consumer of the process that has such messages takes any meanwhile. So in the second half each death is that
    /// message's own doing, and those that stood beside it are handled. Going back counts as well, so that it takes
    /// fewer deaths.
    ///
    /// Keep it within the queue's own limit (`x-delivery-limit`, 20 unless set since RabbitMQ 4), at which the broker
    /// drops or dead-letters by itself. Classic queues count nothing: there such a message comes again for ever.
    /// Without effect with `AtMostOnce`, which refuses what comes again.
    #[must_use]
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.delivery_limit = Some(deliveries.max(2));
        self
    }

    /// How long the broker's confirm of a retry copy, a dead letter or an answer may take. Past it the channel they go
    /// out on is given up, and what is unconfirmed is published again: there may be two copies then. The original is
    /// unacked all that time, so this bounds how long one lost confirm holds a message up. Default 10 s, not counting
    /// the time the broker blocks publishers.
    #[must_use]
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.confirm_timeout = limit;
        self
    }

    /// How long a handler may take with one message before that counts as a failed attempt. The handler is not
    /// interrupted; what it answers later is counted as late and ignored.
    ///
    /// This is how a message is taken from a handler before the broker would do it, and close the channel: as a retry
    /// copy that charges an attempt, for a message that hangs its handler would be given back, and hang the next one,
    /// for ever. Together with [`give_back_after`](Self::give_back_after) keep it below the broker's
    /// [`consumer_timeout`](Self::consumer_timeout); a warning says so when they are not.
    #[must_use]
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = limit;
        self
    }

    /// How long a delivery may wait for a handler before it is given back to the queue (`basic.nack` with requeue), for
    /// another consumer that has time, or for this one again. Nobody has begun it, so no attempt is charged. Default:
    /// half of [`consumer_timeout`](Self::consumer_timeout), so that a long queue of slow messages never has the broker
    /// close the channel over those at its end. (Brokers before RabbitMQ 4 count it in a quorum queue's
    /// `x-delivery-count`, as they would a closed channel.) Without effect with `AtMostOnce`.
    #[must_use]
    pub fn give_back_after(mut self, limit: Duration) -> Self {
        self.give_back_after = Some(limit);
        self
    }

    /// What the broker's `consumer_timeout` is set to, in `rabbitmq.conf`, by policy or queue argument: how long it
    /// waits for an ack before it closes the channel (RabbitMQ, "Delivery Acknowledgement Timeout"). Nothing here
    /// changes it. A delivery unacked for half of it is a warning with its queue, message id and age.
    #[must_use]
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.consumer_timeout = timeout;
        self
    }

    /// The waits before a crashed handler actor starts again.
    #[must_use]
    pub fn handler_backoff(mut self, backoff: Backoff) -> Self {
        self.handler_backoff = backoff;
        self
    }

    /// How many crashes of handler actors are borne before the application gives up.
    #[must_use]
    pub fn handler_intensity(mut self, intensity: Intensity) -> Self {
        self.handler_intensity = intensity;
        self
    }

    /// Gives each instance a thread of its own, for handlers that block theirs (files, synchronous clients, long
    /// computations): while one is busy the other instances, other consumers and all connections go on. Without it a
    /// blocking handler still stops only its own consumer.
    #[must_use]
    pub fn blocking(mut self) -> Self {
        self.threads = Threads::Own;
        self
    }

    /// Asks the broker to let no other consumer near the queue (`basic.consume` `exclusive`).
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Consumer priority (`x-priority`): higher ones are served first. RabbitMQ, "Consumer Priorities".
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Most bytes of deliveries that handlers have in hand, all instances together: bodies as they came, and what
    /// compressed ones unpack to, from handing out until settled. Default 64 MiB.
    ///
    /// Past it deliveries wait, in the order they came, and a single one that is larger goes alone. What a body unpacks
    /// to is known only then, so each instance may pass the budget by one body's unpacked size ([`Limits`], 64 MiB by
    /// default). What waits is bounded by the prefetch times the largest body (16 MiB by default).
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How fast handlers are given deliveries, a batch being one, all instances together; see [`RateLimit`]. What may
    /// not be handed out yet waits in this process, within the prefetch.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Stops taking deliveries while handlers only fail, because something they need is down; see [`CircuitBreaker`].
    ///
    /// Failures are [transient](crate::Failure::retry) ones, crashes and timeouts; rejections and undecodable bodies
    /// say nothing about what is down. While it is open the consumer is not subscribed: what no handler has begun goes
    /// back to the queue, for other consumers and so that the broker's `consumer_timeout` has nothing to run out on.
    /// (Brokers before RabbitMQ 4 count that in a quorum queue's `x-delivery-count`.) Half-open, it consumes with its
    /// probes as prefetch.
    ///
    /// What failed while it opened, and a probe that fails, is charged an attempt like any failure. [`ConsumerStats`]
    /// shows the state, `warn` says when it opens.
    ///
    /// [`ConsumerStats`]: crate::ConsumerStats
    #[must_use]
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.circuit_breaker = Some(breaker);
        self
    }

    /// Stops taking deliveries when too many end as dead letters; see [`KillSwitch`]. An `error` says so, and
    /// [`ConsumerStats`](crate::ConsumerStats) shows it; other consumers go on. Stopped, it is not subscribed, as with
    /// [`circuit_breaker`](Self::circuit_breaker). Without effect with `AtMostOnce`, which has no dead letters.
    #[must_use]
    pub fn kill_switch(mut self, switch: KillSwitch) -> Self {
        self.kill_switch = Some(switch);
        self
    }

    /// Has requests that fail retried as any message is, for as long as their asker waits. Default: a request whose
    /// handler fails or crashes is not repeated, because only its asker knows whether asking twice is harmless; the
    /// asker gets [`RequestErrorKind::Failed`](crate::RequestErrorKind::Failed) at once. A handler's
    /// [`Failure::reject`](crate::Failure::reject) is an answer either way
    /// ([`Refused`](crate::RequestErrorKind::Refused)): neither a dead letter nor an error of the log.
    ///
    /// A request is a message with a reply address, if this consumer answers with more than `()`, or if that is an
    /// address of RabbitMQ's direct reply-to. One whose `expiration` has passed when its turn comes is not handled.
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

    /// Where dead letters go; the queue is declared for you.
    #[must_use]
    pub fn dead_letter_queue(mut self, name: impl Into<String>) -> Self {
        self.dead_letter_queue = Some(name.into());
        self
    }

    /// Limits on what is accepted.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.wire = self.wire.limits(limits);
        self
    }
}

/// How many threads this process can have at work.
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
