//! Queues, as data.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::topology::argument::{ArgumentValue, Arguments};
use crate::topology::binding::{Binding, Match};
use crate::topology::error::Entity;
use crate::topology::queue_kind::{LeaderLocator, Overflow, QueueKind};

/// A queue and its bindings. By default it is durable, shared between connections and has no limits.
///
/// Building does no I/O and cannot fail; [`Topology::validate`](crate::Topology::validate) reports what is wrong. Each
/// setter sets one optional argument, which its documentation names; if it is called twice, the last call counts.
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{Match, Overflow, Queue, Topology};
///
/// let topology = Topology::new()
///     .queue(Queue::quorum("orders").bind("amq.topic", "orders.#").delivery_limit(5).dead_letter())
///     .queue(Queue::classic("alarms").max_priority(5).message_ttl(Duration::from_secs(30)))
///     .queue(Queue::stream("audit").max_age(Duration::from_secs(7 * 86_400)))
///     .queue(Queue::temporary("screen").bind_headers("amq.headers", Match::Any, [("urgent", true)]));
/// topology.validate()?;
/// assert_eq!(topology.find_queue("orders").and_then(Queue::dead_letter_queue), Some("orders.dead"));
/// # Ok::<(), fluffle_amqp::TopologyError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    name: String,
    prefix: Option<String>,
    kind: QueueKind,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: Arguments,
    bindings: Vec<Binding>,
    /// Set by [`Queue::dead_letter`]: the topology adds the queue for the dead letters.
    dead_letter: bool,
    /// Added by the topology for another queue's dead letters. A queue that the application adds under this name
    /// replaces it.
    implied: bool,
    /// The problem of the first setter that was given an invalid value; the validation reports it.
    problem: Option<String>,
}

impl Queue {
    /// A classic queue.
    pub fn classic(name: impl Into<String>) -> Self {
        Self::of(QueueKind::Classic, name)
    }

    /// A quorum queue: replicated, always durable.
    pub fn quorum(name: impl Into<String>) -> Self {
        Self::of(QueueKind::Quorum, name)
    }

    /// A stream: replicated and always durable; reading does not remove messages. [`Queue::max_age`],
    /// [`Queue::max_bytes`] and [`Queue::segment_bytes`] say how much it keeps; without them it grows until the disk is
    /// full. [`Consume::stream`](crate::Consume::stream) reads it.
    pub fn stream(name: impl Into<String>) -> Self {
        Self::of(QueueKind::Stream, name)
    }

    /// A queue for this process alone: classic, transient, exclusive and auto-delete, with the name
    /// `<prefix>.<UUIDv7>`.
    ///
    /// The name is chosen here and not by the broker, so that a reconnect declares the same name again and bindings
    /// refer to the new queue. When the connection ends, the broker deletes the queue with its messages.
    /// [`Topology::find_queue`](crate::Topology::find_queue) also finds the queue by its prefix.
    pub fn temporary(prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        let mut queue = Self::of(QueueKind::Classic, format!("{prefix}.{}", Uuid::now_v7().simple()));
        queue.prefix = Some(prefix);
        queue.transient().exclusive().auto_delete()
    }

    pub(super) fn of(kind: QueueKind, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            prefix: None,
            kind,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Arguments::new(),
            bindings: Vec::new(),
            dead_letter: false,
            implied: false,
            problem: None,
        }
    }

    /// The queue is gone after a restart of the broker. Classic queues only; RabbitMQ 4 deprecates this for queues that
    /// are not exclusive.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// The queue belongs to the connection that consumes from it, and is deleted with that connection. Classic queues
    /// only.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// The broker deletes the queue when its last consumer is gone. Classic queues only.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// A message that has waited for this long is dropped or dead-lettered once it is at the head of the queue
    /// (`x-message-ttl`).
    ///
    /// Rounded up to a millisecond. The validation refuses zero and more than ten years. If zero is meant ("deliver at
    /// once or not at all"), write `.argument("x-message-ttl", 0)`. See [TTL](https://www.rabbitmq.com/docs/ttl).
    #[must_use]
    pub fn message_ttl(self, ttl: Duration) -> Self {
        let ttl = ttl.as_nanos().div_ceil(1_000_000);
        self.positive("message_ttl", "x-message-ttl", ttl)
    }

    /// The broker deletes the queue after this time without consumers and redeclaration (`x-expires`).
    ///
    /// Rounded up to a millisecond. The validation refuses zero and more than ten years.
    #[must_use]
    pub fn expires(self, after: Duration) -> Self {
        let after = after.as_nanos().div_ceil(1_000_000);
        self.positive("expires", "x-expires", after)
    }

    /// The most ready messages (`x-max-length`). [`Queue::overflow`] sets what happens beyond that.
    ///
    /// The validation refuses zero; for a queue that keeps nothing write `.argument("x-max-length", 0)`.
    #[must_use]
    pub fn max_length(self, messages: u64) -> Self {
        self.positive("max_length", "x-max-length", messages.into())
    }

    /// The most bytes of the bodies of ready messages (`x-max-length-bytes`). Of a stream: of its segment files; see
    /// [`Queue::segment_bytes`]. The validation refuses zero.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.positive("max_bytes", "x-max-length-bytes", bytes.into())
    }

    /// What happens beyond [`Queue::max_length`] and [`Queue::max_bytes`] (`x-overflow`). The broker's default is
    /// [`Overflow::DropHead`].
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.argument("x-overflow", overflow.as_str())
    }

    /// Sends dead letters to this exchange (`x-dead-letter-exchange`) with this key (`x-dead-letter-routing-key`). If
    /// the key is empty, a dead letter keeps its own routing keys.
    ///
    /// An empty exchange name is the default exchange, where a key is the name of a queue: `("", "graveyard")` goes to
    /// that queue. Nothing is added to the topology, and the broker moves dead letters at most once, its default;
    /// [`Queue::dead_letter`] loses none. See [dead letter exchanges](https://www.rabbitmq.com/docs/dlx).
    #[must_use]
    pub fn dead_letter_to(mut self, exchange: impl Into<String>, key: impl Into<String>) -> Self {
        self.dead_letter = false;
        let key = key.into();
        self.arguments.remove("x-dead-letter-routing-key");
        let queue = self.argument("x-dead-letter-exchange", exchange.into());
        if key.is_empty() { queue } else { queue.argument("x-dead-letter-routing-key", key) }
    }

    /// Sends dead letters to the queue `<name>.dead`. The topology adds that queue unless it has one of that name: a
    /// quorum queue for a quorum queue, else a durable classic queue.
    ///
    /// From a quorum queue dead letters move **at least once** (`x-dead-letter-strategy`): a dead letter stays until
    /// the target has confirmed it. RabbitMQ requires `x-overflow = reject-publish` for this strategy, so this sets it
    /// too. If [`Queue::overflow`] says otherwise, the strategy is not set. See [at-least-once dead
    /// lettering](https://www.rabbitmq.com/docs/quorum-queues#dead-lettering) (RabbitMQ 3.10). From a classic queue
    /// dead letters move without confirms.
    #[must_use]
    pub fn dead_letter(self) -> Self {
        let target = format!("{}.dead", self.name);
        let mut queue = self.dead_letter_to("", target);
        queue.dead_letter = true;
        queue
    }

    /// Priorities from 0 to this one (`x-max-priority`). For a classic queue it is 1 to 255; each priority costs
    /// memory, and RabbitMQ recommends at most 5. For a quorum queue it is 1 to 31, since RabbitMQ 4.3, whose order is
    /// strict then; on an older broker the topology is refused with the version that has it. Without this setting, a
    /// quorum queue of RabbitMQ 4.0 to 4.2 knows two priorities, up to 4 and above, and an older one knows none
    /// (RabbitMQ, "Quorum Queues", priorities).
    #[must_use]
    pub fn max_priority(self, priority: u8) -> Self {
        self.positive("max_priority", "x-max-priority", priority.into())
    }

    /// How long a delivery may be unacked until the broker takes it back (`x-consumer-timeout`): a time limit for this
    /// queue instead of the broker's `consumer_timeout`, which is 30 minutes. Since RabbitMQ 3.12; on an older broker
    /// the topology is refused with the version that has it. Since 4.3 for quorum queues only, and the broker then
    /// cancels the consumer, where older ones close its channel; Fluffle consumes again after either. Consumers in the
    /// same service go by it; tell it to those of other services, whose topology does not declare the queue
    /// ([`Consume::consumer_timeout`](crate::Consume::consumer_timeout)).
    #[must_use]
    pub fn consumer_timeout(self, timeout: Duration) -> Self {
        self.positive("consumer_timeout", "x-consumer-timeout", timeout.as_nanos().div_ceil(1_000_000))
    }

    /// The broker delivers to one consumer at a time, and the others stand by (`x-single-active-consumer`). Not for
    /// streams.
    #[must_use]
    pub fn single_active_consumer(self) -> Self {
        self.argument("x-single-active-consumer", true)
    }

    /// A message that is returned to the queue more often than this is dropped or dead-lettered (`x-delivery-limit`).
    /// Quorum queues only. The broker's default is no limit before RabbitMQ 4.0, and 20 since.
    #[must_use]
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.positive("delivery_limit", "x-delivery-limit", deliveries.into())
    }

    /// On which node of a cluster the queue begins (`x-queue-leader-locator`).
    ///
    /// A client at the leader's node saves each message one way through the cluster. With
    /// [`LeaderLocator::ClientLocal`] and [`EndpointOrder::Listed`](crate::EndpointOrder::Listed), the queue and all
    /// connections of the service that declares it begin at the endpoint that is named first. When a node dies the
    /// leader and the connections move, and nothing brings them together again: AMQP does not tell who leads a queue.
    ///
    /// ```
    /// use fluffle_amqp::{LeaderLocator, Queue};
    ///
    /// let spread = Queue::quorum("jobs").leader_locator(LeaderLocator::Balanced);
    /// ```
    #[must_use]
    pub fn leader_locator(self, locator: LeaderLocator) -> Self {
        self.argument("x-queue-leader-locator", locator.as_str())
    }

    /// The broker deletes segments whose newest message is older than this (`x-max-age`). Streams only. It looks when a
    /// new segment begins, so small streams keep messages for longer. Rounded up to a second; the validation refuses
    /// zero.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        let seconds = age.as_nanos().div_ceil(1_000_000_000);
        if seconds == 0 {
            self.complain("max_age is zero, and the stream would keep nothing: set a longer age, or leave it out");
        }
        self.argument("x-max-age", format!("{seconds}s"))
    }

    /// The most bytes of a segment file (`x-stream-max-segment-size-bytes`). Streams only. The broker's default is
    /// 500 MB. The broker deletes whole segments, and never the last one, so a stream keeps up to one segment more than
    /// [`Queue::max_bytes`] and [`Queue::max_age`] say. The validation refuses zero and more than 3 GB.
    #[must_use]
    pub fn segment_bytes(self, bytes: u64) -> Self {
        self.positive("segment_bytes", "x-stream-max-segment-size-bytes", bytes.into())
    }

    /// Sets any other argument, as the broker's version or a plugin defines it.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<ArgumentValue>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// Takes messages from an exchange, by binding key. The exchange may be outside this topology; if it does not exist
    /// on the broker, the declaration fails.
    #[must_use]
    pub fn bind(self, exchange: impl Into<String>, key: impl Into<String>) -> Self {
        self.bound(Binding::by_key(exchange.into(), key.into()))
    }

    /// Takes messages from a headers exchange, by headers.
    #[must_use]
    pub fn bind_headers<K, V>(
        self,
        exchange: impl Into<String>,
        matching: Match,
        headers: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: Into<String>,
        V: Into<ArgumentValue>,
    {
        self.bound(Binding::by_headers(exchange.into(), matching, headers))
    }

    /// The name on the broker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of the queue.
    #[must_use]
    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// Whether the queue survives a restart of the broker.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the queue belongs to one connection, which must declare it itself.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether the broker deletes the queue with its last consumer.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// The queue that its dead letters go to, if it is known by name: set by [`Queue::dead_letter`], or by
    /// [`Queue::dead_letter_to`] through the default exchange.
    #[must_use]
    pub fn dead_letter_queue(&self) -> Option<&str> {
        match self.text("x-dead-letter-exchange") {
            Some("") => self.text("x-dead-letter-routing-key"),
            _ => None,
        }
    }

    /// The bindings that bring messages here.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// How long its deliveries may be unacked, if it has a limit of its own (`x-consumer-timeout`).
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        match self.arguments.get("x-consumer-timeout") {
            Some(ArgumentValue::Int(ms)) => u64::try_from(*ms).ok().map(Duration::from_millis),
            _ => None,
        }
    }

    /// Whether the broker delivers to one of its consumers at a time.
    pub(crate) fn is_single_active_consumer(&self) -> bool {
        self.arguments.get("x-single-active-consumer") == Some(&ArgumentValue::Bool(true))
    }

    /// The arguments of its declaration, by name: those that were set, and those that follow from them, such as
    /// `x-queue-type`.
    ///
    /// ```
    /// use fluffle_amqp::{ArgumentValue, Queue};
    ///
    /// let arguments = Queue::quorum("orders").max_length(100).arguments();
    /// assert_eq!(arguments["x-queue-type"], ArgumentValue::from("quorum"));
    /// assert_eq!(arguments["x-max-length"], ArgumentValue::from(100));
    /// ```
    #[must_use]
    pub fn arguments(&self) -> BTreeMap<String, ArgumentValue> {
        let mut arguments = self.arguments.clone();
        // Sent even for "classic", because a virtual host may have another default type.
        arguments.entry("x-queue-type".into()).or_insert_with(|| self.kind.as_str().into());
        let confirmable = matches!(self.text("x-overflow"), None | Some("reject-publish"));
        if self.dead_letter && self.kind == QueueKind::Quorum && confirmable {
            arguments.insert("x-overflow".into(), Overflow::RejectPublish.as_str().into());
            let strategy = arguments.entry("x-dead-letter-strategy".into());
            strategy.or_insert_with(|| "at-least-once".into());
        }
        arguments
    }

    /// The queue that [`Queue::dead_letter`] asks for.
    pub(super) fn implied_dead_letter_queue(&self) -> Option<Self> {
        let name = self.dead_letter_queue().filter(|_| self.dead_letter)?;
        let kind = match self.kind {
            QueueKind::Quorum => QueueKind::Quorum,
            QueueKind::Classic | QueueKind::Stream => QueueKind::Classic,
        };
        Some(Self { implied: true, ..Self::of(kind, name) })
    }

    pub(super) fn is_implied(&self) -> bool {
        self.implied
    }

    pub(super) fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether the broker deletes the queue when nobody uses it.
    pub(crate) fn ends_unused(&self) -> bool {
        self.auto_delete || self.arguments.contains_key("x-expires")
    }

    pub(super) fn expires_messages(&self) -> bool {
        self.arguments.contains_key("x-message-ttl")
    }

    pub(super) fn set_durable(&mut self, durable: bool) {
        self.durable = durable;
    }

    /// The properties in which two declarations of one queue must agree, as text.
    pub(super) fn properties(&self) -> BTreeMap<String, String> {
        let mut properties = BTreeMap::from([
            ("durable".into(), self.durable.to_string()),
            ("exclusive".into(), self.exclusive.to_string()),
            ("auto_delete".into(), self.auto_delete.to_string()),
        ]);
        let arguments = self.arguments().into_iter();
        properties.extend(arguments.map(|(key, value)| (key, value.to_string())));
        properties
    }

    pub(super) fn bound(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }

    /// Adds the bindings of a second description of this queue, which has the same properties.
    pub(super) fn absorb(&mut self, other: Self) {
        self.problem = self.problem.take().or(other.problem);
        for binding in other.bindings {
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
    }

    /// The problem of the first setter that was given an invalid value.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether the queue has a limit and refuses messages beyond it.
    pub(super) fn refuses_when_full(&self) -> bool {
        let has_limit = ["x-max-length", "x-max-length-bytes"].iter().any(|limit| self.arguments.contains_key(*limit));
        has_limit && self.text("x-overflow").is_some_and(|overflow| overflow.starts_with("reject-publish"))
    }

    /// How errors name this queue.
    pub(crate) fn entity(&self) -> Entity {
        Entity::Queue(self.name.clone())
    }

    /// The text of an argument that was set; `None` if it was not set or is not text.
    pub(super) fn text(&self, argument: &str) -> Option<&str> {
        match self.arguments.get(argument) {
            Some(ArgumentValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn positive(mut self, setter: &str, argument: &str, value: u128) -> Self {
        if value == 0 {
            self.complain(&format!(
                "{setter} is zero: leave it out, or write .argument({argument:?}, 0) if zero is meant"
            ));
        }
        match i64::try_from(value) {
            Ok(value) => self.argument(argument, value),
            Err(_) => {
                self.complain(&format!("{setter} = {value} is more than the broker can store: lower it"));
                self
            }
        }
    }

    fn complain(&mut self, problem: &str) {
        self.problem.get_or_insert_with(|| problem.to_owned());
    }
}
