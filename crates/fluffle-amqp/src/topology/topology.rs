//! The topology: its entities, how two are merged, and what makes one invalid.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::topology::{cycle, error::TopologyError, exchange::Exchange, queue::Queue, queue_rules, weights};

/// The exchanges, queues and bindings of a service.
///
/// Declaring a topology creates whatever the broker lacks of it. An entity that exists with the same properties is left
/// alone; one that exists with other properties is a permanent [`TopologyErrorKind::Conflict`]. A declaration never
/// deletes anything, and it does not undo a binding that is no longer listed.
///
/// An entity may be added twice if both descriptions have the same properties: the entity then has the bindings of
/// both. If they differ, [`Topology::validate`] and [`Topology::merge`] fail.
///
/// [`TopologyErrorKind::Conflict`]: crate::TopologyErrorKind::Conflict
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
    /// Shared by the copies of a topology: a service makes a copy for each consumer that adds to it.
    queues: Vec<Arc<Queue>>,
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
            // If they differ, both are kept, because the validation names both.
            Some(_) | None => self.exchanges.push(exchange),
        }
        self
    }

    /// Adds a queue. If [`Queue::dead_letter`] asks for a dead-letter queue and the topology has no queue of that name,
    /// this adds it too. A queue that is added later under that name replaces the dead-letter queue made here.
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        let dead = queue.implied_dead_letter_queue();
        self.insert_queue(Arc::new(queue));
        if let Some(dead) = dead {
            self.insert_queue(Arc::new(dead));
        }
        self
    }

    fn insert_queue(&mut self, queue: Arc<Queue>) {
        let known = self.queues.iter_mut().find(|known| known.name() == queue.name());
        match known {
            Some(known) if known.is_implied() && !queue.is_implied() => *known = queue,
            Some(known) if queue.is_implied() && !known.is_implied() => {}
            Some(known) if known.properties() == queue.properties() => {
                Arc::make_mut(known).absorb(Arc::unwrap_or_clone(queue));
            }
            Some(_) | None => self.queues.push(queue),
        }
    }

    /// The union of two topologies.
    ///
    /// # Errors
    ///
    /// [`TopologyErrorKind::Invalid`](crate::TopologyErrorKind::Invalid) if both describe one entity and differ; the
    /// error names the entity and both values.
    pub fn merge(self, other: Self) -> Result<Self, TopologyError> {
        let mut merged = other.exchanges.into_iter().fold(self, Self::exchange);
        for queue in other.queues {
            merged.insert_queue(queue);
        }
        merged.check_twins()?;
        Ok(merged)
    }

    /// The exchanges, in the order in which they were added.
    pub fn exchanges(&self) -> impl ExactSizeIterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// The queues, in the order in which they were added, each followed by its own dead-letter queue.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = &Queue> {
        self.queues.iter().map(Arc::as_ref)
    }

    /// The queue of this name; if there is none, the first [`Queue::temporary`] queue with this prefix.
    #[must_use]
    pub fn find_queue(&self, name: &str) -> Option<&Queue> {
        let by_name = self.queues().find(|queue| queue.name() == name);
        by_name.or_else(|| self.queues().find(|queue| queue.prefix() == Some(name)))
    }

    /// Whether there is nothing to declare.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.queues.is_empty()
    }

    /// Checks the topology without asking the broker. Found are: invalid names, properties that contradict each other
    /// or the queue's kind, values out of range, invalid weights of a consistent-hash exchange, rings of queues in
    /// which dead letters circulate, and entities that are described twice with different properties. A binding to an
    /// exchange outside the topology is valid.
    ///
    /// # Errors
    ///
    /// The first problem, as [`TopologyErrorKind::Invalid`](crate::TopologyErrorKind::Invalid), which names the entity.
    pub fn validate(&self) -> Result<(), TopologyError> {
        for exchange in &self.exchanges {
            let invalid = |problem| TopologyError::invalid(exchange.entity(), problem);
            exchange.check().map_err(invalid)?;
        }
        self.check_twins()?;
        let queues: Vec<&Queue> = self.queues().collect();
        self.validate_queues(&queues)
    }

    /// The same for some queues of a topology whose other parts are valid.
    pub(crate) fn validate_queues(&self, queues: &[&Queue]) -> Result<(), TopologyError> {
        for queue in queues {
            let invalid = |problem| TopologyError::invalid(queue.entity(), problem);
            queue_rules::check(queue).map_err(invalid)?;
        }
        weights::check(&self.exchanges, queues)?;
        cycle::check(&self.queues, queues)
    }

    /// Finds two descriptions of one entity. Those with the same properties have become one already.
    fn check_twins(&self) -> Result<(), TopologyError> {
        let mut exchanges = HashMap::with_capacity(self.exchanges.len());
        for exchange in &self.exchanges {
            if let Some(first) = exchanges.insert(exchange.name(), exchange) {
                let problem = contradiction(&first.properties(), &exchange.properties());
                return Err(TopologyError::invalid(exchange.entity(), problem));
            }
        }
        let mut queues = HashMap::with_capacity(self.queues.len());
        for queue in &self.queues {
            if let Some(first) = queues.insert(queue.name(), queue) {
                let problem = contradiction(&first.properties(), &queue.properties());
                return Err(TopologyError::invalid(queue.entity(), problem));
            }
        }
        Ok(())
    }
}

/// Words for the first property in which two descriptions of one entity differ.
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
        "it is described twice with different properties, once {once} and once {again}: keep one description, or make \
         them equal"
    )
}
