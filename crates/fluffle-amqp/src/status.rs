//! A running service at a glance: its consumers, publishers and connections.

use std::sync::Weak;

use crate::{consume::stats::ConsumerStats, publish::stats::PublisherStats, tree::Service};

impl Service {
    /// Running totals of the consumers, by name: the queue's, with a number when it has several.
    pub fn consumers(&self) -> Vec<(String, ConsumerStats)> {
        self.parts(|parts| {
            parts.consumers.iter().map(|(name, plan)| (name.clone(), plan.counters.read(plan.state()))).collect()
        })
    }

    /// Running totals of the publishers in use, by name; those of the consumers' copies among them.
    pub fn publishers(&self) -> Vec<(String, PublisherStats)> {
        self.parts(|parts| {
            let in_use = parts.outboxes.iter().filter_map(Weak::upgrade);
            in_use.map(|outbox| (outbox.name.to_string(), outbox.stats())).collect()
        })
    }

    /// The connections open now.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        let pools = [&self.inner.publish, &self.inner.consume];
        let shared = pools.into_iter().flat_map(|pool| pool.connections());
        shared
            .map(|shared| ConnectionStatus {
                name: shared.name.clone(),
                connected: shared.connected(),
                connects: shared.connects(),
                blocked: shared.blocked.borrow().clone(),
            })
            .collect()
    }

    /// Has the consumers of `queue` take deliveries again that their kill switch or circuit breaker had stopped, with a
    /// fresh window; false when none of them was. In effect at once, or with the next connection.
    ///
    /// ```no_run
    /// # fn example(service: fluffle_amqp::Service) {
    /// if !service.resume("orders") {
    ///     println!("nothing had stopped the consumers of `orders`");
    /// }
    /// # }
    /// ```
    pub fn resume(&self, queue: &str) -> bool {
        self.parts(|parts| {
            let stopped = parts.consumers.iter().filter(|(_, plan)| *plan.queue == *queue && plan.guard.resume());
            stopped.count() > 0
        })
    }
}

/// One connection at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Its name, as the broker shows it after the application's.
    pub name: String,
    /// Whether the socket is up.
    pub connected: bool,
    /// How often it has been established.
    pub connects: u64,
    /// The broker's reason while it blocks publishing on it.
    pub blocked: Option<String>,
}
