//! One stream of messages over several queues, by key.

use crate::topology::Topology;
use crate::topology::error::TopologyError;
use crate::topology::exchange::{Exchange, ExchangeKind};
use crate::topology::queue::Queue;

impl Topology {
    /// Spreads a stream of messages over several queues, and with them over machines, so that messages of one routing key
    /// stay in order: adds the [consistent-hash exchange](Exchange::consistent_hash) `name` and the quorum queues `<name>.0`
    /// to `<name>.<partitions - 1>`, each bound with weight 1, with a [single active consumer](Queue::single_active_consumer)
    /// and a [dead-letter queue](Queue::dead_letter). Zero partitions count as one.
    ///
    /// Every process consumes from all of them ([`Topology::partitions`] names them); of those that do, the broker serves
    /// one a queue, and another when that one goes. So what is published with one routing key is handled by one process at
    /// a time, in order. Within that process [`ordered_by`](crate::Consume::ordered_by) keeps the order of each key over several
    /// handler instances; [`instances(1)`](crate::Consume::instances) and [`concurrency(1)`](crate::Consume::concurrency) that of all.
    ///
    /// ```
    /// use fluffle_amqp::{Consume, Queue, Topology};
    ///
    /// let topology = Topology::new().partitioned("orders", 8);
    /// topology.validate()?;
    /// let consumed: Vec<Consume<String>> = Topology::partitions("orders", 8).map(Consume::queue).collect();
    /// assert_eq!(consumed.len(), 8);
    /// assert!(topology.find_queue("orders.7").is_some());
    /// # Ok::<(), fluffle_amqp::TopologyError>(())
    /// ```
    ///
    /// | | |
    /// |---|---|
    /// | who is active | whoever consumed first: processes that start one after the other leave all queues to the first. From RabbitMQ 4 a quorum queue prefers the highest [`priority`](crate::Consume::priority): give each process its own queues to prefer |
    /// | a process goes | the broker makes another one active once the lost connection is noticed; what was in hand is delivered again, in order |
    /// | more partitions | one key in *n* moves to each new queue, and may overtake what it left in its old one: where that matters, let the queues run empty between stopping to publish and declaring |
    /// | fewer partitions | nothing is ever unbound or deleted by a declaration: unbind the last queues by hand, let them run empty, delete them. The keys of another than the last one are spread over all the rest, and others move too |
    /// | the broker restarts as a whole | its plugin may number the queues in another order (RabbitMQ 3.10 does): keys move as above |
    /// | retries | end the order of their key |
    ///
    /// The exchange takes the plugin `rabbitmq_consistent_hash_exchange`, which comes with RabbitMQ and is to be enabled.
    #[must_use]
    pub fn partitioned(self, name: impl Into<String>, partitions: u16) -> Self {
        let name = name.into();
        let topology = self.exchange(Exchange::consistent_hash(name.as_str()));
        let queue = |queue| Queue::quorum(queue).bind(name.as_str(), "1").single_active_consumer().dead_letter();
        Self::partitions(&name, partitions).map(queue).fold(topology, Self::queue)
    }

    /// The queues of a stream that is [`partitioned`](Self::partitioned): `<name>.0` and so on.
    pub fn partitions(name: &str, partitions: u16) -> impl ExactSizeIterator<Item = String> {
        (0..partitions.max(1)).map(move |number| format!("{name}.{number}"))
    }

    /// What RabbitMQ's plugin wants of the bindings to its exchanges: weights, and one a queue.
    pub(super) fn check_weights(&self) -> Result<(), TopologyError> {
        let exchanges = self.exchanges.iter().map(|it| (super::entity_of(it), it.bindings()));
        let queues = self.queues.iter().map(|it| (super::Entity::Queue(it.name().into()), it.bindings()));
        for (destination, bindings) in exchanges.chain(queues) {
            let mut weighed = Vec::new();
            for binding in bindings.iter().filter(|binding| self.is_consistent_hash(binding.exchange())) {
                let problem = if !binding.key().parse::<u32>().is_ok_and(|weight| weight > 0) {
                    "a consistent-hash exchange takes the binding key for the queue's weight: make it a number from 1, the \
                     same for equal shares"
                } else if weighed.contains(&binding.exchange()) {
                    "it is bound twice to one consistent-hash exchange, which counts only the first: bind it once, with \
                     the sum of the weights"
                } else {
                    weighed.push(binding.exchange());
                    continue;
                };
                return Err(TopologyError::invalid(binding.entity(destination), problem));
            }
        }
        Ok(())
    }

    fn is_consistent_hash(&self, exchange: &str) -> bool {
        self.exchanges.iter().any(|it| it.name() == exchange && *it.kind() == ExchangeKind::ConsistentHash)
    }
}
