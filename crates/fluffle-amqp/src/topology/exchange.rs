//! Exchanges, as data.

use std::collections::BTreeMap;
use std::fmt;

use crate::topology::argument::{self, ArgumentValue, Arguments};
use crate::topology::binding::{Binding, Match};
use crate::topology::error::Entity;
use crate::topology::name;

/// The type of a consistent-hash exchange.
pub(crate) const CONSISTENT_HASH: &str = "x-consistent-hash";

/// How an exchange routes messages.
///
/// See [AMQP 0-9-1 exchanges](https://www.rabbitmq.com/tutorials/amqp-concepts#exchanges).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// To the queues whose binding key equals the routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// To the queues whose binding key matches the words of the routing key: `*` matches one word, `#` matches none or
    /// more.
    Topic,
    /// To the queues whose binding matches the message's headers; the routing key does not matter.
    Headers,
    /// To one of the bound queues, chosen by a hash of the routing key and by the weights of the bindings:
    /// `x-consistent-hash`, from the plugin `rabbitmq_consistent_hash_exchange`.
    ConsistentHash,
    /// A broker plugin's type, by its name, such as `x-delayed-message`.
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

/// A property of a message that a consistent-hash exchange can hash instead of the routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashProperty {
    /// `correlation_id`.
    CorrelationId,
    /// `message_id`: spreads messages evenly, because each message has another id.
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

/// An exchange. By default it is durable, is not deleted automatically and accepts publishers.
///
/// Building does no I/O and cannot fail; [`Topology::validate`](crate::Topology::validate) reports what is wrong.
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
    /// A direct exchange: a message goes to the queues whose binding key equals its routing key.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Direct, name)
    }

    /// A fanout exchange: a message goes to every bound queue.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Fanout, name)
    }

    /// A topic exchange: a message goes to the queues whose binding key matches the words of its routing key.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Topic, name)
    }

    /// A headers exchange: a message goes to the queues whose binding matches its headers.
    pub fn headers(name: impl Into<String>) -> Self {
        Self::of(ExchangeKind::Headers, name)
    }

    /// A consistent-hash exchange: each message goes to exactly one of the bound queues, and messages with the same
    /// routing key go to the same queue. The binding key is the queue's weight, a number from 1: a queue with weight 2
    /// gets twice as many keys as a queue with weight 1.
    ///
    /// A queue that is added takes its share of the keys from all the others, and no other key moves. The broker
    /// decides which queue a key goes to; RabbitMQ and the broker inside the process decide differently.
    ///
    /// The exchange needs the plugin `rabbitmq_consistent_hash_exchange`, which comes with RabbitMQ (`rabbitmq-plugins
    /// enable rabbitmq_consistent_hash_exchange`); without it the declaration fails with a permanent error that says
    /// so. See [its
    /// documentation](https://github.com/rabbitmq/rabbitmq-server/tree/main/deps/rabbitmq_consistent_hash_exchange).
    /// [`Topology::partitioned`](crate::Topology::partitioned) builds a whole stream on such an exchange.
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
    /// A broker that does not know the type closes the whole connection (503); that is reported as a permanent error
    /// that names this exchange.
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

    /// The exchange is gone after a restart of the broker.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// The broker deletes the exchange when the last binding from it is removed.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Publishers cannot publish to the exchange: messages come only through bindings.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Sends messages that no binding takes to this exchange (`alternate-exchange`).
    ///
    /// See [alternate exchanges](https://www.rabbitmq.com/docs/ae). RabbitMQ does not check that the exchange exists;
    /// neither does [`Topology::validate`](crate::Topology::validate).
    #[must_use]
    pub fn alternate(self, exchange: impl Into<String>) -> Self {
        self.argument("alternate-exchange", exchange.into())
    }

    /// The consistent-hash exchange hashes this header instead of the routing key (`hash-header`). Messages without the
    /// header all go to one queue.
    #[must_use]
    pub fn hash_header(self, header: impl Into<String>) -> Self {
        self.argument("hash-header", header.into())
    }

    /// The consistent-hash exchange hashes this property instead of the routing key (`hash-property`). Messages without
    /// the property all go to one queue.
    #[must_use]
    pub fn hash_property(self, property: HashProperty) -> Self {
        self.argument("hash-property", property.as_str())
    }

    /// Sets any other argument, as the plugin or the broker's version defines it.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<ArgumentValue>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// Takes messages from another exchange, by binding key.
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

    /// The name of the exchange.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the exchange routes messages.
    #[must_use]
    pub fn kind(&self) -> &ExchangeKind {
        &self.kind
    }

    /// Whether the exchange survives a restart of the broker.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether the broker deletes the exchange with its last binding.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// Whether the exchange is closed to publishers.
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

    /// The arguments of its declaration, by name.
    ///
    /// ```
    /// use fluffle_amqp::{ArgumentValue, Exchange};
    ///
    /// let orders = Exchange::topic("orders").alternate("unrouted");
    /// assert_eq!(orders.arguments()["alternate-exchange"], ArgumentValue::from("unrouted"));
    /// ```
    #[must_use]
    pub fn arguments(&self) -> &BTreeMap<String, ArgumentValue> {
        &self.arguments
    }

    /// The properties in which two declarations of one exchange must agree, as text.
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

    /// Adds the bindings of a second description of this exchange, which has the same properties.
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
                 begin with \"x-\"), and RabbitMQ closes the connection over it: correct the type"
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
                Err("it hashes a header and a property, but only one of them can be hashed: remove the other".into())
            }
            // A custom type may accept the argument: it may be the consistent-hash type by its name, or a plugin's.
            (ExchangeKind::Custom(_), _) => Ok(()),
            (kind, [name, ..]) => Err(format!(
                "a {kind} exchange takes no {name}: only consistent-hash exchanges do, see Exchange::consistent_hash"
            )),
        }
    }
}
