//! Topology: the exchanges, queues and bindings that a service needs, as data.
//!
//! Built in Rust or read from TOML, validated without a broker, declared after every connect.

mod argument;
mod binding;
mod cycle;
mod declare;
mod error;
mod exchange;
mod name;
mod partitions;
mod queue;
mod queue_kind;
mod queue_rules;
mod refusal;
mod toml;
mod toml_values;

// Beside the other tests, but part of the crate: declaring names lapin, which no application sees.
#[cfg(test)]
#[path = "../../tests/topology_broker/mod.rs"]
mod broker_tests;

pub use argument::ArgumentValue;
pub use binding::{Binding, Match};
pub(crate) use declare::Scope;
pub use error::{Difference, Entity, TopologyError, TopologyErrorKind};
pub use exchange::{Exchange, ExchangeKind, HashProperty};
pub use queue::Queue;
pub use queue_kind::{Overflow, QueueKind};

use std::collections::{BTreeMap, HashMap};

/// The exchanges, queues and bindings of a service.
///
/// Declaring it makes the broker have at least this: what exists alike is left alone, what exists
/// differently is a permanent [`TopologyErrorKind::Conflict`], and nothing is ever deleted, nor is a
/// binding that is no longer listed undone.
///
/// The same entity may be added twice when both descriptions are alike: their bindings are united. A
/// differing second description is an error of [`Topology::validate`] and [`Topology::merge`].
///
/// ```
/// use fluffle_amqp::{Exchange, Queue, Topology};
///
/// let topology = Topology::new()
///     .exchange(Exchange::topic("quakes"))
///     .queue(Queue::quorum("alerts").bind("quakes", "quake.major.#").dead_letter());
/// topology.validate()?;
///
/// let names: Vec<_> = topology.queues().map(Queue::name).collect();
/// assert_eq!(names, ["alerts", "alerts.dead"]);
/// # Ok::<(), fluffle_amqp::TopologyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
}

impl Topology {
    /// A topology with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an exchange.
    #[must_use]
    pub fn exchange(mut self, exchange: Exchange) -> Self {
        let known = self.exchanges.iter_mut().find(|known| known.name() == exchange.name());
        match known {
            Some(known) if known.properties() == exchange.properties() => {
                known.absorb(exchange);
            }
            // Differing: both stay, for the validation to name both.
            Some(_) | None => self.exchanges.push(exchange),
        }
        self
    }

    /// Adds a queue, and the queue for its dead letters if [`Queue::dead_letter`] asks for one and
    /// the topology has none of that name. A queue added later under that name replaces the latter.
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        let dead = queue.implied_dead_letter_queue();
        self.insert_queue(queue);
        if let Some(dead) = dead {
            self.insert_queue(dead);
        }
        self
    }

    fn insert_queue(&mut self, queue: Queue) {
        let known = self.queues.iter_mut().find(|known| known.name() == queue.name());
        match known {
            Some(known) if known.is_implied() && !queue.is_implied() => *known = queue,
            Some(known) if queue.is_implied() && !known.is_implied() => {}
            Some(known) if known.properties() == queue.properties() => known.absorb(queue),
            Some(_) | None => self.queues.push(queue),
        }
    }

    /// The union of two topologies.
    ///
    /// # Errors
    ///
    /// [`TopologyErrorKind::Invalid`] when both describe one entity and differ; it names the entity
    /// and both values.
    pub fn merge(self, other: Self) -> Result<Self, TopologyError> {
        let mut merged = other.exchanges.into_iter().fold(self, Self::exchange);
        for queue in other.queues {
            merged.insert_queue(queue);
        }
        merged.check_twins()?;
        Ok(merged)
    }

    /// The exchanges, in the order they were added.
    pub fn exchanges(&self) -> impl ExactSizeIterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// The queues, in the order they were added, each followed by its own dead-letter queue.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = &Queue> {
        self.queues.iter()
    }

    /// A queue by its name, or else the first [`Queue::temporary`] one by its prefix.
    #[must_use]
    pub fn find_queue(&self, name: &str) -> Option<&Queue> {
        let by_name = self.queues.iter().find(|queue| queue.name() == name);
        by_name.or_else(|| self.queues.iter().find(|queue| queue.prefix() == Some(name)))
    }

    /// Whether there is nothing to declare.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.queues.is_empty()
    }

    /// Finds what is wrong without asking the broker: names, properties that contradict each other or
    /// the queue's kind, values out of range, weights that are none, dead letters that go in a ring, entities
    /// described twice and not alike. Bindings to exchanges outside the topology are fine.
    ///
    /// # Errors
    ///
    /// The first problem, as [`TopologyErrorKind::Invalid`] naming the entity.
    pub fn validate(&self) -> Result<(), TopologyError> {
        for exchange in &self.exchanges {
            let invalid = |problem| TopologyError::invalid(entity_of(exchange), problem);
            exchange.check().map_err(invalid)?;
        }
        for queue in &self.queues {
            let invalid = |problem| TopologyError::invalid(Entity::Queue(queue.name().into()), problem);
            queue.check().map_err(invalid)?;
        }
        self.check_twins()?;
        self.check_weights()?;
        cycle::check(&self.queues)
    }

    fn check_twins(&self) -> Result<(), TopologyError> {
        let exchanges = self.exchanges.iter().map(|it| (entity_of(it), it.properties()));
        let queues = self.queues.iter().map(|it| (Entity::Queue(it.name().into()), it.properties()));
        let mut seen: HashMap<Entity, BTreeMap<String, String>> = HashMap::new();
        for (entity, properties) in exchanges.chain(queues) {
            if let Some(first) = seen.get(&entity) {
                let problem = contradiction(first, &properties);
                return Err(TopologyError::invalid(entity, problem));
            }
            seen.insert(entity, properties);
        }
        Ok(())
    }
}

fn entity_of(exchange: &Exchange) -> Entity {
    Entity::Exchange(exchange.name().to_owned())
}

/// The first property in which two descriptions of one entity differ.
fn contradiction(first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> String {
    let say = |properties: &BTreeMap<String, String>, key: &String| match properties.get(key) {
        Some(value) => format!("with {key} = {value}"),
        None => format!("without {key}"),
    };
    let keys = first.keys().chain(second.keys());
    let mut differing = keys.filter(|key| first.get(*key) != second.get(*key));
    let both = differing.next().map(|key| (say(first, key), say(second, key)));
    let (once, again) = both.unwrap_or_default();
    format!(
        "it is described twice and not alike, once {once} and once {again}: keep one description, or \
         make them equal"
    )
}
