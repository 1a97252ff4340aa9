//! Exchanges, as data.

use std::collections::BTreeMap;
use std::fmt;

use crate::topology::argument::{self, ArgumentValue, Arguments};
use crate::topology::binding::{Binding, Match};
use crate::topology::error::Entity;
use crate::topology::name;

/// The type of a consistent-hash exchange.
pub(crate) const CONSISTENT_HASH: &str = "x-consistent-hash";

/// How an exchange routes.
///
/// See [AMQP 0-9-1 exchanges](https://www.rabbitmq.com/tutorials/amqp-concepts#exchanges).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// To the queues whose binding key equals the routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By patterns over words: `*` is one word, `#` is none or more.
    Topic,
    /// By the message's headers instead of its routing key.
    Headers,
    /// To one of the bound queues, by a hash and by weight: `x-consistent-hash`, of the plugin
    /// `rabbitmq_consistent_hash_exchange`.
    ConsistentHash,
    /// As a broker plugin does, by the plugin's type name, such as `x-delayed-message`.
    Custom(String),
}

impl ExchangeKind {
    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            CONSISTENT_HASH => Self::ConsistentHash,
            custom => Self::Custom(custom.to_owned()),
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => CONSISTENT_HASH,
            Self::Custom(name) => name,
        })
    }
}

/// A property of a message that a consistent-hash exchange can go by, instead of the routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashProperty {
    /// `correlation_id`.
    CorrelationId,
    /// `message_id`: an even spread, for every message has another.
    MessageId,
    /// `timestamp`.
    Timestamp,
}

impl HashProperty {
    fn as_str(self) -> &'static str {
        match self {
            Self::CorrelationId => "correlation_id",
            Self::MessageId => "message_id",
            Self::Timestamp => "timestamp",
        }
    }
}

/// An exchange: durable unless told otherwise, not deleted by itself, open to publishers.
///
/// Building does no I/O and cannot fail; [`Topology::validate`](crate::Topology::validate) says what
/// is wrong with it.
///
/// ```
/// use fluffle_amqp::{Exchange, Topology};
///
/// let topology = Topology::new()
///     .exchange(Exchange::topic("orders").alternate("unrouted"))
///     .exchange(Exchange::fanout("unrouted"))
///     .exchange(Exchange::topic("eu").internal().bind("orders", "eu.#"));
/// topology.validate()?;
/// # Ok::<(), fluffle_amqp::TopologyError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    name: String,
    kind: ExchangeKind,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Arguments,
    bindings: Vec<Binding>,
}

impl Exchange {
    /// A direct exchange: to the queues whose binding key equals the routing key.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Direct, name)
    }

    /// A fanout exchange: to every bound queue.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Fanout, name)
    }

    /// A topic exchange: by patterns over the words of the routing key.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Topic, name)
    }

    /// A headers exchange: by the message's headers.
    pub fn headers(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Headers, name)
    }

    /// A consistent-hash exchange: each message to exactly one of the bound queues, messages with one routing key
    /// always to the same. The binding key is the queue's weight, a number from 1: a queue with 2 gets twice as many
    /// keys as one with 1.
    ///
    /// A queue more takes its share of the keys from all others, and no other key moves. Which queue a key goes to is
    /// the broker's affair, and differs between RabbitMQ and the broker inside the process.
    ///
    /// It takes the plugin `rabbitmq_consistent_hash_exchange`, which comes with RabbitMQ (`rabbitmq-plugins enable
    /// rabbitmq_consistent_hash_exchange`); without it the declaration is a permanent error that says so. See [its
    /// documentation](https://github.com/rabbitmq/rabbitmq-server/tree/main/deps/rabbitmq_consistent_hash_exchange);
    /// [`Topology::partitioned`](crate::Topology::partitioned) builds a whole stream on it.
    ///
    /// ```
    /// use fluffle_amqp::{Exchange, Queue, Topology};
    ///
    /// let topology = Topology::new()
    ///     .exchange(Exchange::consistent_hash("orders").hash_header("customer"))
    ///     .queue(Queue::quorum("orders.small").bind("orders", "1"))
    ///     .queue(Queue::quorum("orders.large").bind("orders", "3"));
    /// topology.validate()?;
    /// # Ok::<(), fluffle_amqp::TopologyError>(())
    /// ```
    pub fn consistent_hash(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::ConsistentHash, name)
    }

    /// An exchange of a broker plugin's type, such as `x-delayed-message`.
    ///
    /// A broker that does not know the type answers by closing the whole connection (503); that is
    /// reported as a permanent error naming this exchange.
    pub fn custom(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Custom(kind.into()), name)
    }

    pub(super) fn of(kind: ExchangeKind, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arguments::new(),
            bindings: Vec::new(),
        }
    }

    /// Gone when the broker restarts.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Deleted by the broker when the last binding from it goes.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Closed to publishers: only bindings bring messages here.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Messages that no binding takes go to this exchange (`alternate-exchange`).
    ///
    /// See [alternate exchanges](https://www.rabbitmq.com/docs/ae). RabbitMQ does not check that the
    /// exchange exists; [`Topology::validate`](crate::Topology::validate) cannot either.
    #[must_use]
    pub fn alternate(self, exchange: impl Into<String>) -> Self {
        self.argument("alternate-exchange", exchange.into())
    }

    /// A consistent-hash exchange goes by this header instead of the routing key (`hash-header`). Messages without it
    /// all go to one queue.
    #[must_use]
    pub fn hash_header(self, header: impl Into<String>) -> Self {
        self.argument("hash-header", header.into())
    }

    /// A consistent-hash exchange goes by this property instead of the routing key (`hash-property`). Messages without
    /// it all go to one queue.
    #[must_use]
    pub fn hash_property(self, property: HashProperty) -> Self {
        self.argument("hash-property", property.as_str())
    }

    /// Any other argument, as the plugin or the broker's version defines it.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<ArgumentValue>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// Takes messages from another exchange, by key.
    ///
    /// See [exchange-to-exchange bindings](https://www.rabbitmq.com/docs/e2e).
    #[must_use]
    pub fn bind(self, source: impl Into<String>, key: impl Into<String>) -> Self {
        self.bound(Binding::by_key(source.into(), key.into()))
    }

    /// Takes messages from a headers exchange, by headers.
    #[must_use]
    pub fn bind_headers<K, V>(
        self,
        source: impl Into<String>,
        matching: Match,
        headers: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: Into<String>,
        V: Into<ArgumentValue>,
    {
        self.bound(Binding::by_headers(source.into(), matching, headers))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it routes.
    #[must_use]
    pub fn kind(&self) -> &ExchangeKind {
        &self.kind
    }

    /// Whether it outlives the broker's restart.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the broker deletes it with its last binding.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// Whether it is closed to publishers.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// The bindings that bring messages here.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// How errors name this exchange.
    pub(crate) fn entity(&self) -> Entity {
        Entity::Exchange(self.name.clone())
    }

    pub(crate) fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// Everything that two declarations of one exchange must have alike, in words.
    pub(super) fn properties(&self) -> BTreeMap<String, String> {
        let mut properties = BTreeMap::from([
            ("type".into(), self.kind.to_string()),
            ("durable".into(), self.durable.to_string()),
            ("auto_delete".into(), self.auto_delete.to_string()),
            ("internal".into(), self.internal.to_string()),
        ]);
        properties.extend(self.arguments.iter().map(|(key, value)| (key.clone(), value.to_string())));
        properties
    }

    pub(super) fn bound(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }

    /// Takes over what a second, equal description of this exchange adds.
    pub(super) fn absorb(&mut self, other: Self) {
        for binding in other.bindings {
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        name::check_declared(&self.name)?;
        if let ExchangeKind::Custom(kind) = &self.kind
            && !kind.starts_with("x-")
        {
            return Err(format!(
                "its type {kind:?} is none of direct, fanout, topic, headers, nor a plugin's (those \
                 begin with \"x-\"); RabbitMQ would close the connection"
            ));
        }
        argument::check(&self.arguments)?;
        self.check_hash()?;
        self.bindings.iter().try_for_each(Binding::check)
    }
    fn check_hash(&self) -> Result<(), String> {
        let hashed: Vec<_> =
            ["hash-header", "hash-property"].into_iter().filter(|name| self.arguments.contains_key(*name)).collect();
        match (&self.kind, &hashed[..]) {
            (_, []) | (ExchangeKind::ConsistentHash, [_]) => Ok(()),
            (ExchangeKind::ConsistentHash, _) => {
                Err("it hashes by a header and by a property: a message goes by one of them, take the other off".into())
            }
            // By its type's name it may be ours, or a plugin's that knows the argument too.
            (ExchangeKind::Custom(_), _) => Ok(()),
            (kind, [name, ..]) => Err(format!(
                "a {kind} exchange takes no {name}: only consistent-hash exchanges do, see Exchange::consistent_hash"
            )),
        }
    }
}
