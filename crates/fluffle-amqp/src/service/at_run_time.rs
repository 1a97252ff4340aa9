//! Pauses, resumes and removes consumers of a running service, by the name of their queue.
//! [`Service::consume`] adds consumers to a running service as well.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use fluffle_supervise::StopChildError;
use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    base::drain::Step,
    service::{
        Service,
        consumer::{Consumer, at_rest},
        error::ServiceError,
    },
};

/// How often the removal of a consumer checks whether its connection was lost.
const LOOK: Duration = Duration::from_millis(50);

impl Service {
    /// Pauses the consumers of `queue`, with all their lanes. They take no more messages until
    /// [`resume_consumer`](Self::resume_consumer). Handlers finish the deliveries that they have begun, and these are
    /// settled. Then each consumer closes its channel, and with it the subscription. The broker puts the deliveries
    /// that no handler has begun back into their places in the queue, and other processes may take them. The consumers
    /// stay in the supervision tree, each with an idle channel.
    ///
    /// Resolves when all of that is done, as stopping a listener container does in Spring AMQP: the consumers have no
    /// subscription, no unacked delivery at the broker, and no handler at work. A handler that was given up after
    /// [`handler_timeout`](crate::Consume::handler_timeout), or whose connection was lost, counts as at work until it
    /// answers. The call waits at most as long as handlers have in a shutdown: the drain's limit, minus a quarter of it
    /// or 4 s, whichever is less (so 11.25 s with [`DRAIN`](crate::DRAIN)).
    ///
    /// A consumer stays paused when its connection is lost and when it restarts. A consumer that is added to the same
    /// queue later is not paused. With [`AtMostOnce`](crate::AtMostOnce), everything that was delivered is handled
    /// first, because it is acked already and the broker would not deliver it again. With
    /// [`Retry::in_process_below`](crate::Retry::in_process_below), a message that waits in this process for its next
    /// attempt goes back to the queue as well, and that attempt is not counted.
    ///
    /// A handler of this consumer must not wait for this call: the call waits until that handler has answered, so it
    /// would only end with the time limit.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) -> Result<(), fluffle_amqp::ServiceError> {
    /// service.pause_consumer("orders").await?;
    /// // No handler of `orders` is at work: migrate the database that they write to.
    /// service.resume_consumer("orders")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer) if the service has no consumer of `queue`; the error names
    /// the queues that it consumes. [`StillInHand`](ServiceError::StillInHand) if the time limit is over: the consumer
    /// is paused nevertheless, and its handlers go on with the messages in hand. Call this again to wait for them.
    ///
    /// # Cancellation
    /// If the future is dropped, only the wait ends: the consumer stays paused and finishes the messages in hand. A
    /// future that is never polled pauses nothing.
    pub async fn pause_consumer(&self, queue: &str) -> Result<(), ServiceError> {
        let consumers = self.of_queue(queue)?;
        for consumer in &consumers {
            let settings = consumer.settings();
            if settings.guard.pause.set(true) {
                settings.note_state();
                tracing::info!(consumer = %consumer.name, "pausing: the application called `pause_consumer`");
            }
        }
        let waited = self.inner.clock.left(Step::Work);
        at_rest(&consumers, waited).await.map_err(|left| ServiceError::StillInHand {
            queue: queue.to_owned(),
            left,
            waited,
        })
    }

    /// Lets the consumers of `queue` take deliveries again, whether a [pause](Self::pause_consumer), a kill switch or a
    /// circuit breaker had stopped them. A kill switch or circuit breaker starts again with an empty window. Returns
    /// `false` if nothing had stopped them. Takes effect at once, or, if the connection is lost, with the next
    /// connection. If a pause still has messages in hand, the pause completes first. Messages of one key
    /// ([`ordered_by`](crate::Consume::ordered_by)) stay in order.
    ///
    /// ```no_run
    /// # fn example(service: fluffle_amqp::Service) -> Result<(), fluffle_amqp::ServiceError> {
    /// if !service.resume_consumer("orders")? {
    ///     println!("nothing had stopped the consumers of `orders`");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer) if the service has no consumer of `queue`; the error names
    /// the queues that it consumes.
    pub fn resume_consumer(&self, queue: &str) -> Result<bool, ServiceError> {
        let consumers = self.of_queue(queue)?;
        // `count` and not `any`, so that every consumer is resumed. Only the lanes of one consumer share a guard.
        let resumed = consumers.iter().filter(|consumer| consumer.settings().guard.resume()).count() > 0;
        consumers.iter().for_each(|consumer| consumer.settings().note_state());
        if resumed {
            tracing::info!(queue, consumers = consumers.len(), "resumed: the application called `resume_consumer`");
        }
        Ok(resumed)
    }

    /// Removes the consumers of `queue`, with all their lanes. It pauses them and, when they have no messages in hand,
    /// takes them out of the supervision tree: consumer, channel, handlers, the handlers' threads (unless other
    /// consumers share them) and the publisher of their copies. Their slots on connections go back to the pool, which
    /// closes an extra connection after it has had no channel for
    /// [`PoolConfig::idle_timeout`](crate::PoolConfig::idle_timeout).
    ///
    /// The queues that the consumer declared stay at the broker and in this service's topology, because retry queues
    /// and dead-letter queues may hold messages. A message in a retry queue returns to `queue` after its delay and
    /// stays there. Delete queues that are no longer needed by hand.
    ///
    /// Resolves when the handlers and their threads are gone and the channel is closed. If the broker is away, it does
    /// not wait for the channel, which is removed from the tree when the connection is back. After that, a consumer of
    /// the same queue can be added again, also with another type and other settings.
    ///
    /// ```no_run
    /// # use fluffle_amqp::{Consume, Handles, Service, ServiceError};
    /// # async fn example<A: Handles<String>>(service: Service, make: impl Fn() -> A + Send + Sync + 'static)
    /// # -> Result<(), ServiceError> {
    /// service.consume(Consume::<String>::queue("tenant-7"), make).await?;
    /// // Later:
    /// service.remove_consumer("tenant-7").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer) if the service has no consumer of `queue`; nothing is
    /// removed, and the error names the queues that the service consumes. [`CutOff`](ServiceError::CutOff) if handlers
    /// do not finish in the time that they have in a shutdown: the consumer is removed, and the broker delivers the
    /// messages that it had in hand again. [`Ended`](ServiceError::Ended) if the service ends during the removal.
    ///
    /// # Cancellation
    /// If the future is dropped after its first poll, the removal goes on, on the service's own threads.
    pub async fn remove_consumer(&self, queue: &str) -> Result<(), ServiceError> {
        let queue = self.full_name(queue);
        let consumers = self.parts(|parts| {
            let (removed, kept) = parts.consumers.drain(..).partition(|one| *one.settings().queue == *queue);
            parts.consumers = kept;
            removed
        });
        if Vec::is_empty(&consumers) {
            return Err(self.unknown(&queue));
        }
        let (tell, removed) = oneshot::channel();
        let (service, of) = (self.clone(), queue.clone());
        self.io().spawn(async move {
            // Fails if the caller no longer waits.
            let _ = tell.send(service.remove_all(&of, consumers).await);
        });
        removed.await.unwrap_or(Err(ServiceError::Ended(queue)))
    }

    /// Pauses `consumers`, waits until they are at rest, and takes them down. Runs on `io`.
    async fn remove_all(&self, queue: &str, consumers: Vec<Arc<Consumer>>) -> Result<(), ServiceError> {
        // `parts.consumers` no longer has these consumers, so `resume_consumer` cannot resume them.
        for consumer in &consumers {
            consumer.settings().guard.pause.set(true);
        }
        tracing::info!(queue, consumers = consumers.len(), "removing: the application called `remove_consumer`");
        let waited = self.inner.clock.left(Step::Work);
        let rested = at_rest(&consumers, waited).await;
        if rested.is_err() {
            consumers.iter().for_each(|consumer| consumer.settings().guard.pause.cut_off());
        }
        join_all(consumers.into_iter().map(|consumer| self.take_down(consumer))).await;
        match rested {
            Ok(()) => {
                tracing::info!(queue, in_hand = 0, "removed: all messages that were in hand are settled");
                Ok(())
            }
            Err(left) => {
                tracing::warn!(
                    queue,
                    left,
                    ?waited,
                    "removed with messages in hand, because their time limit is over: the broker delivers them again"
                );
                Err(ServiceError::CutOff { queue: queue.to_owned(), left, waited })
            }
        }
    }

    /// Stops the consumer and its channel first and the handlers after them. Otherwise the messages that the handlers
    /// have in hand would count as crashed when the handlers stop.
    async fn take_down(&self, consumer: Arc<Consumer>) {
        let (tell, mut removed) = oneshot::channel();
        let remove = consumer.remove.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(remove) = remove
            && remove.send(tell).is_ok()
        {
            // If the connection is lost, there is no open channel to wait for. Else the wait ends, because each step of
            // the removal has a time limit in the tree.
            while timeout(LOOK, &mut removed).await.is_err() && consumer.is_connected() {}
        }
        match self.inner.handlers.stop_child(&consumer.name).await {
            // `Unknown` and `SupervisorOver` mean that the handlers are gone already, because the service ends.
            Ok(()) | Err(StopChildError::Unknown { .. } | StopChildError::SupervisorOver { .. }) => {}
            Err(error) => tracing::warn!(consumer = %consumer.name, %error, "the consumer's handlers were not stopped"),
        }
        // Frees the threads, the name and the type claim, and closes the publisher of the copies.
        drop(consumer);
    }

    /// The consumers of `queue`, one for each lane.
    fn of_queue(&self, queue: &str) -> Result<Vec<Arc<Consumer>>, ServiceError> {
        let queue = self.full_name(queue);
        let found: Vec<_> = self.parts(|parts| {
            parts.consumers.iter().filter(|consumer| *consumer.settings().queue == *queue).cloned().collect()
        });
        if found.is_empty() { Err(self.unknown(&queue)) } else { Ok(found) }
    }

    /// The full name of `queue`. It differs from `queue` only for a temporary queue that is named by its prefix.
    pub(super) fn full_name(&self, queue: &str) -> String {
        self.inner.topology.get().find_queue(queue).map_or_else(|| queue.to_owned(), |queue| queue.name().to_owned())
    }

    /// The error for a queue without consumers; it lists the queues that have some.
    fn unknown(&self, queue: &str) -> ServiceError {
        let mut known: Vec<String> =
            self.parts(|parts| parts.consumers.iter().map(|one| one.settings().queue.to_string()).collect());
        known.sort_unstable();
        known.dedup();
        ServiceError::UnknownConsumer { queue: queue.to_owned(), known }
    }
}
