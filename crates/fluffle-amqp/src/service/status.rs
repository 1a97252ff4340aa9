//! A running service at a glance: its consumers, publishers and connections.

use std::sync::Weak;

use crate::{
    consume::events::stats::ConsumerStats,
    publish::{backlog::BacklogError, stats::PublisherStats},
    service::Service,
};

impl Service {
    /// Running totals of the consumers, by name: the queue's, with a number when it has several.
    pub fn consumers(&self) -> Vec<(String, ConsumerStats)> {
        self.parts(|parts| {
            let each = parts.consumers.iter().map(|consumer| (consumer.name.to_string(), consumer.settings()));
            each.map(|(name, settings)| (name, settings.events.stats(settings.state()))).collect()
        })
    }

    /// Running totals of the publishers in use, by name; those of the consumers' copies among them.
    pub fn publishers(&self) -> Vec<(String, PublisherStats)> {
        self.parts(|parts| {
            let in_use = parts.send_queues.iter().filter_map(Weak::upgrade);
            in_use.map(|send_queue| (send_queue.name.to_string(), send_queue.stats())).collect()
        })
    }

    /// What waits in stores to be published, by publisher: in the journal of one, in the outbox table that feeds
    /// another. Whoever takes it out is woken, and a table is asked. Publishers without a store are left out.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) {
    /// for (publisher, waiting) in service.backlogs().await {
    ///     match waiting {
    ///         Ok(messages) => println!("{publisher}: {messages} wait"),
    ///         Err(error) => println!("{publisher}: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn backlogs(&self) -> Vec<(String, Result<u64, BacklogError>)> {
        let in_use: Vec<_> = self.parts(|parts| parts.send_queues.iter().filter_map(Weak::upgrade).collect());
        let mut backlogs = Vec::new();
        for send_queue in in_use {
            if let Some(waiting) = send_queue.backlog().await {
                backlogs.push((send_queue.name.to_string(), waiting));
            }
        }
        backlogs
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
