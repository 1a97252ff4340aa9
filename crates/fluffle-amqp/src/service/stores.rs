//! What waits in stores and dead-letter queues. Each look asks a database or the broker.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    link::depth::{DepthError, depths},
    publish::backlog::{BacklogError, StoreDepth},
    service::{Service, status::living},
};

impl Service {
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
        let in_use = self.parts(|parts| living(&parts.send_queues));
        let mut backlogs = Vec::new();
        for send_queue in in_use {
            if let Some(waiting) = send_queue.backlog().await {
                backlogs.push((send_queue.name.to_string(), waiting));
            }
        }
        backlogs
    }

    /// The messages that wait in outbox tables, for each publisher that a table feeds, with the publisher's name.
    /// Unlike [`backlogs`](Self::backlogs) it wakes no relay and does not count the journals: see
    /// [`PublisherStatus::journal`](crate::PublisherStatus::journal) for these. Each table is asked on the service's
    /// own I/O thread, so the call may be made from any thread and any executor.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) {
    /// for (publisher, depth) in service.outboxes().await {
    ///     match depth {
    ///         Ok(depth) => println!("{publisher}: {} wait, the oldest for {:?}", depth.messages, depth.oldest),
    ///         Err(error) => println!("{publisher}: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// Dropped, the tables are asked all the same, and the answers are thrown away.
    pub async fn outboxes(&self) -> Vec<(String, Result<StoreDepth, BacklogError>)> {
        let in_use = self.parts(|parts| living(&parts.send_queues));
        self.on_io(async move {
            let mut outboxes = Vec::new();
            for send_queue in in_use {
                match send_queue.stored().await {
                    Ok(None) => {}
                    Ok(Some(depth)) => outboxes.push((send_queue.name.to_string(), Ok(depth))),
                    Err(error) => outboxes.push((send_queue.name.to_string(), Err(error))),
                }
            }
            outboxes
        })
        .await
        .unwrap_or_default()
    }

    /// The number of messages that are ready in the dead-letter queue of each consumed queue. Consumers with
    /// [`AtMostOnce`](crate::AtMostOnce) have none and are left out, and so is a dead-letter queue that was deleted.
    /// RabbitMQ counts the messages of a quorum queue with a delay of some seconds.
    ///
    /// The broker is asked by a passive `queue.declare` on a channel that is opened for it on a connection of the
    /// consumers, each answer within 10 s.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) -> Result<(), fluffle_amqp::DepthError> {
    /// for letters in service.dead_letters().await? {
    ///     println!("{}: {} in {}", letters.queue, letters.ready, letters.dead_letter_queue);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If no connection of the consumers is up, or has room for one more channel, or the broker does not answer.
    ///
    /// # Cancellation
    /// Dropped, the broker is asked all the same, and the answers are thrown away.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetters>, DepthError> {
        let mut names: Vec<(String, String)> = self.parts(|parts| {
            let settings = parts.consumers.iter().map(|consumer| consumer.settings());
            // A question about a queue that does not exist is an error in the broker's log each time.
            let have_letters = settings.filter(|own| !own.rules.acks_on_arrival());
            have_letters.map(|own| (own.queue.to_string(), own.side_queues.dead_letter.clone())).collect()
        });
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let pool = Arc::clone(&self.inner.consume);
        let queues = names.iter().map(|(_, letters)| letters.clone()).collect();
        let asked = self.on_io(async move { depths(&pool, queues).await }).await;
        let counted = asked.unwrap_or(Err(DepthError::NoConnection))?;
        let each = names.into_iter().zip(counted);
        let letters = each.filter_map(|((queue, dead_letter_queue), ready)| {
            ready.map(|ready| DeadLetters { queue, dead_letter_queue, ready })
        });
        Ok(letters.collect())
    }

    /// Runs `look` on the I/O thread. `None` if the service has ended.
    async fn on_io<T: Send + 'static>(&self, look: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        // Fails if nobody waits for the answer any more.
        self.io().spawn(async move { drop(tell.send(look.await)) });
        told.await.ok()
    }
}

/// The dead letters of one queue: see [`Service::dead_letters`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetters {
    /// The consumed queue.
    pub queue: String,
    /// Its dead-letter queue.
    pub dead_letter_queue: String,
    /// The messages in the dead-letter queue that are ready to be delivered.
    pub ready: u64,
}
