//! Queues, as data.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::topology::argument::{ArgumentValue, Arguments};
use crate::topology::binding::{Binding, Match};
use crate::topology::error::Entity;
use crate::topology::queue_kind::{Overflow, QueueKind};

/// A queue and its bindings: durable, shared between connections and unlimited unless told otherwise.
///
/// Building does no I/O and cannot fail; [`Topology::validate`](crate::Topology::validate) says what
/// is wrong with it. Each setter stands for one optional argument, named in its documentation;
/// setting it twice keeps the last.
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
    /// Asked for by [`Queue::dead_letter`]: the topology adds the queue for the dead letters.
    dead_letter: bool,
    /// Added by the topology for another queue's dead letters: an explicit one replaces it.
    implied: bool,
    /// The first setter that was given a value it cannot keep; reported by the validation.
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

    /// A stream: replicated, always durable, read without consuming. To be published to: a [`Consume`](crate::Consume)
    /// of it is refused, because Fluffle keeps no offsets.
    pub fn stream(name: impl Into<String>) -> Self {
        Self::of(QueueKind::Stream, name)
    }

    /// A queue of this process alone: classic, transient, exclusive and auto-delete, named
    /// `<prefix>.<UUIDv7>`.
    ///
    /// The name is fixed here, not by the broker, so that a reconnect declares the same name again
    /// and messages bound to it find the new queue. The old queue goes with its connection; what it
    /// held is gone with it. [`Topology::find_queue`](crate::Topology::find_queue) knows it by its
    /// prefix too.
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

    /// Gone when the broker restarts. Classic queues only; RabbitMQ 4 deprecates it for queues that
    /// are not exclusive.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Belongs to the connection that consumes it, and goes with that connection. Classic queues only.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Deleted by the broker when its last consumer goes. Classic queues only.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// A message that waited this long is dropped or dead-lettered (`x-message-ttl`), once it is at
    /// the head of the queue.
    ///
    /// Rounded up to a millisecond; zero and more than ten years are refused by the validation. A
    /// deliberate zero ("deliver at once or not at all") is `.argument("x-message-ttl", 0)`.
    /// See [TTL](https://www.rabbitmq.com/docs/ttl).
    #[must_use]
    pub fn message_ttl(self, ttl: Duration) -> Self {
        let ttl = ttl.as_nanos().div_ceil(1_000_000);
        self.positive("message_ttl", "x-message-ttl", ttl)
    }

    /// The queue is deleted after this long without consumers and redeclaration (`x-expires`).
    ///
    /// Rounded up to a millisecond; zero and more than ten years are refused.
    #[must_use]
    pub fn expires(self, after: Duration) -> Self {
        let after = after.as_nanos().div_ceil(1_000_000);
        self.positive("expires", "x-expires", after)
    }

    /// At most so many ready messages (`x-max-length`); what then happens is [`Queue::overflow`].
    ///
    /// Zero is refused; a queue that shall keep nothing is `.argument("x-max-length", 0)`.
    #[must_use]
    pub fn max_length(self, messages: u64) -> Self {
        self.positive("max_length", "x-max-length", messages.into())
    }

    /// At most so many bytes of ready message bodies (`x-max-length-bytes`). Zero is refused.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.positive("max_bytes", "x-max-length-bytes", bytes.into())
    }

    /// What happens past [`Queue::max_length`] and [`Queue::max_bytes`] (`x-overflow`); the broker's
    /// default is [`Overflow::DropHead`].
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.argument("x-overflow", overflow.as_str())
    }

    /// Dead letters go to this exchange (`x-dead-letter-exchange`) under this key
    /// (`x-dead-letter-routing-key`); with an empty key, under the keys they came by.
    ///
    /// An empty exchange is the default exchange, where keys are names of queues: `("", "graveyard")`
    /// goes to that queue. Nothing is added to the topology, and the dead-lettering is the broker's
    /// default, at most once; [`Queue::dead_letter`] is the form that loses nothing.
    /// See [dead letter exchanges](https://www.rabbitmq.com/docs/dlx).
    #[must_use]
    pub fn dead_letter_to(mut self, exchange: impl Into<String>, key: impl Into<String>) -> Self {
        self.dead_letter = false;
        let key = key.into();
        self.arguments.remove("x-dead-letter-routing-key");
        let queue = self.argument("x-dead-letter-exchange", exchange.into());
        if key.is_empty() { queue } else { queue.argument("x-dead-letter-routing-key", key) }
    }

    /// Dead letters go to the queue `<name>.dead`, which the topology adds unless it has one of that
    /// name: a quorum queue for a quorum queue, else a durable classic one.
    ///
    /// On a quorum queue they move **at least once** (`x-dead-letter-strategy`): a dead letter stays
    /// until the target has confirmed it. RabbitMQ requires `x-overflow = reject-publish` for it, so
    /// that is set as well unless [`Queue::overflow`] says otherwise, which gives up the strategy.
    /// See [at-least-once dead lettering](https://www.rabbitmq.com/docs/quorum-queues#dead-lettering)
    /// (RabbitMQ 3.10). On a classic queue the move is not confirmed.
    #[must_use]
    pub fn dead_letter(self) -> Self {
        let target = format!("{}.dead", self.name);
        let mut queue = self.dead_letter_to("", target);
        queue.dead_letter = true;
        queue
    }

    /// Priorities from 0 to this one, 1 to 255 (`x-max-priority`). Classic queues only; each costs
    /// memory, RabbitMQ recommends at most 5.
    #[must_use]
    pub fn max_priority(self, priority: u8) -> Self {
        self.positive("max_priority", "x-max-priority", priority.into())
    }

    /// One consumer at a time, the others stand by (`x-single-active-consumer`). Not for streams.
    #[must_use]
    pub fn single_active_consumer(self) -> Self {
        self.argument("x-single-active-consumer", true)
    }

    /// A message returned more often than this is dropped or dead-lettered (`x-delivery-limit`).
    /// Quorum queues only; the broker's default is none before RabbitMQ 4.0 and 20 since.
    #[must_use]
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.positive("delivery_limit", "x-delivery-limit", deliveries.into())
    }

    /// Segments older than this are deleted (`x-max-age`). Streams only; rounded up to a second, zero
    /// is refused.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        let seconds = age.as_nanos().div_ceil(1_000_000_000);
        if seconds == 0 {
            self.complain("max_age is zero: nothing would be kept");
        }
        self.argument("x-max-age", format!("{seconds}s"))
    }

    /// Any other argument, as the broker's version or a plugin defines it.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<ArgumentValue>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// Takes messages from an exchange, by key. The exchange may be outside this topology; one that
    /// does not exist on the broker either is an error of the declaration.
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

    /// Its name on the broker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// Whether it outlives the broker's restart.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether it belongs to one connection, the one that has to declare it.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether the broker deletes it with its last consumer.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// The queue its dead letters go to, when that is known by name: by [`Queue::dead_letter`], or
    /// through the default exchange by [`Queue::dead_letter_to`].
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

    /// Whether the broker serves one of its consumers at a time.
    pub(crate) fn is_single_active_consumer(&self) -> bool {
        self.arguments.get("x-single-active-consumer") == Some(&ArgumentValue::Bool(true))
    }

    /// The arguments to declare it with: those set, and those that follow from them.
    pub(crate) fn arguments(&self) -> Arguments {
        let mut arguments = self.arguments.clone();
        // Said even for "classic": a virtual host may have another default type.
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

    pub(super) fn expires_messages(&self) -> bool {
        self.arguments.contains_key("x-message-ttl")
    }

    pub(super) fn set_durable(&mut self, durable: bool) {
        self.durable = durable;
    }

    /// Everything that two declarations of one queue must have alike, in words.
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

    /// Takes over what a second, equal description of this queue adds.
    pub(super) fn absorb(&mut self, other: Self) {
        self.problem = self.problem.take().or(other.problem);
        for binding in other.bindings {
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
    }

    /// The first setter that was given a value it cannot keep, as a problem for the validation.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// How errors name this queue.
    pub(crate) fn entity(&self) -> Entity {
        Entity::Queue(self.name.clone())
    }

    /// The text of an argument that was set, if it is text.
    pub(super) fn text(&self, argument: &str) -> Option<&str> {
        match self.arguments.get(argument) {
            Some(ArgumentValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn positive(mut self, setter: &str, argument: &str, value: u128) -> Self {
        if value == 0 {
            self.complain(&format!(
                "{setter} is zero: leave it out, or say .argument({argument:?}, 0) if zero is meant"
            ));
        }
        match i64::try_from(value) {
            Ok(value) => self.argument(argument, value),
            Err(_) => {
                self.complain(&format!("{setter} = {value} is more than the broker can count"));
                self
            }
        }
    }

    fn complain(&mut self, problem: &str) {
        self.problem.get_or_insert_with(|| problem.to_owned());
    }
}
