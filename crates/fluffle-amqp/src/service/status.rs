//! The status of a running service: totals of its consumers and publishers, backlogs, and connections.

use std::sync::Weak;

use crate::{
    consume::events::stats::ConsumerStats,
    publish::{backlog::BacklogError, stats::PublisherStats},
    service::Service,
};

impl Service {
    /// The running totals of each consumer, with its name. The name is the queue's; if a queue has several consumers,
    /// `#2`, `#3` and so on are appended.
    pub fn consumers(&self) -> Vec<(String, ConsumerStats)> {
        self.parts(|parts| {
            let each = parts.consumers.iter().map(|consumer| (consumer.name.to_string(), consumer.settings()));
            each.map(|(name, settings)| (name, settings.events.stats(settings.state()))).collect()
        })
    }

    /// The running totals of each publisher in use, with its name. The publishers of the consumers' copies are
    /// included.
    pub fn publishers(&self) -> Vec<(String, PublisherStats)> {
        self.parts(|parts| {
            let in_use = parts.send_queues.iter().filter_map(Weak::upgrade);
            in_use.map(|send_queue| (send_queue.name.to_string(), send_queue.stats())).collect()
        })
    }

    /// The number of messages that wait in stores to be published, for each publisher with its name. A store is the
    /// publisher's journal or an outbox table that feeds it. The call queries each outbox table and wakes its relay, so
    /// that the relay takes the waiting messages now and not at its next poll. Publishers without a store are left out.
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

    /// The connections that the service has now, also those whose socket is down at the moment.
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

/// The status of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The connection's name. The broker shows it after the application's name.
    pub name: String,
    /// Whether the socket is up.
    pub connected: bool,
    /// How often the connection has been established.
    pub connects: u64,
    /// The broker's reason, while the broker blocks publishing on this connection; else `None`.
    pub blocked: Option<String>,
}
