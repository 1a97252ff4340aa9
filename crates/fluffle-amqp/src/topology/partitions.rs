//! One stream of messages, spread over several queues by key.

use crate::topology::{exchange::Exchange, queue::Queue, topology::Topology};

impl Topology {
    /// Spreads a stream of messages over several queues, and so over several machines, and keeps the messages of one
    /// routing key in order. This adds the [consistent-hash exchange](Exchange::consistent_hash) `name` and the quorum
    /// queues `<name>.0` to `<name>.<partitions - 1>`, each bound with weight 1, with a [single active
    /// consumer](Queue::single_active_consumer) and a [dead-letter queue](Queue::dead_letter). If `partitions` is 0,
    /// there is one queue.
    ///
    /// Every process consumes from all queues ([`Topology::partitions`] names them). For each queue the broker delivers
    /// to one of these consumers, and to another one when that consumer is gone. So one process at a time handles the
    /// messages of a routing key, in order. Within that process [`ordered_by`](crate::Consume::ordered_by) keeps the
    /// order of each key over several handler instances; [`instances(1)`](crate::Consume::instances) with
    /// [`concurrency(1)`](crate::Consume::concurrency) keeps the order of all messages.
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
    /// - If several processes start, the first consumer of a queue is the active one: the process that starts first has
    ///   all queues. From RabbitMQ 4 a quorum queue prefers the consumer with the highest
    ///   [`priority`](crate::Consume::priority): let each process prefer other queues.
    /// - If a process ends, the broker activates another consumer once it has noticed the lost connection. Unsettled
    ///   messages are delivered again, in order.
    /// - If `partitions` grows, one key in *n* moves to each new queue, and its messages there may overtake those left
    ///   in the old queue. If that matters, grow [by a generation](#to-grow-and-keep-the-order).
    /// - If `partitions` shrinks, a declaration does not unbind or delete anything: unbind the last queues by hand, let
    ///   them run empty, delete them. If another queue than the last is removed, its keys are spread over all the
    ///   others, and other keys move too.
    /// - If the whole broker restarts, its plugin may number the queues in another order (RabbitMQ 3.10 does): keys
    ///   then move as above.
    /// - A message that is retried loses its place in the order of its key.
    ///
    /// # To grow and keep the order
    ///
    /// The new number of partitions gets a new name, here `orders.2` beside `orders.1`. Nothing stops meanwhile:
    ///
    /// 1. Deploy both in the topology, `partitioned("orders.1", 4).partitioned("orders.2", 8)`, and consume the old
    ///    queues as before.
    /// 2. Deploy the publishers with [`Route::exchange("orders.2")`](crate::Route::exchange). What they publish waits.
    /// 3. When the last publisher has changed over, wait until no old queue has a message, ready or unacked:
    ///    `rabbitmqctl list_queues name messages`.
    /// 4. Deploy the consumers with the new queues in place of the old ones.
    /// 5. Delete the old exchange and its queues, and take them out of the topology.
    ///
    /// Messages that are published to the new exchange before step 4 are handled only after it. If two publishers
    /// publish the same key, let them change over at the same time, because only the order of one publisher's messages
    /// is kept.
    ///
    /// The exchange needs the plugin `rabbitmq_consistent_hash_exchange`, which comes with RabbitMQ and must be
    /// enabled.
    #[must_use]
    pub fn partitioned(self, name: impl Into<String>, partitions: u16) -> Self {
        let name = name.into();
        let topology = self.exchange(Exchange::consistent_hash(name.as_str()));
        let queue = |queue| Queue::quorum(queue).bind(name.as_str(), "1").single_active_consumer().dead_letter();
        Self::partitions(&name, partitions).map(queue).fold(topology, Self::queue)
    }

    /// The names of the queues of a [`partitioned`](Self::partitioned) stream: `<name>.0`, `<name>.1` and so on.
    pub fn partitions(name: &str, partitions: u16) -> impl ExactSizeIterator<Item = String> {
        (0..partitions.max(1)).map(move |number| format!("{name}.{number}"))
    }
}
