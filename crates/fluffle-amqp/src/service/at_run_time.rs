//! Consumers of a running service: paused, resumed and removed by the name of their queue. Adding one takes the same
//! call as before the start.

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

/// How often the removal of a consumer looks whether its connection was lost meanwhile.
const LOOK: Duration = Duration::from_millis(50);

impl Service {
    /// Pauses the consumers of `queue`, all their lanes: they take nothing more until
    /// [`resume_consumer`](Self::resume_consumer). Handlers finish what they have begun, and it is settled. Then the
    /// channel is closed, and with it the subscription: what no handler has begun is in its queue again, in its place,
    /// and other processes may take it. The consumers keep their place in the tree, each with a channel that is idle.
    ///
    /// Resolves when that is done, as stopping a listener container does in Spring AMQP: no subscription, no delivery
    /// of this consumer unacked at the broker, no handler of it at work. A handler that was given up
    /// ([`handler_timeout`](crate::Consume::handler_timeout)), or whose connection was lost, is at work until it
    /// answers. It takes no longer than handlers have in a shutdown: of the drain's limit all but a quarter, at most 4
    /// s (11 s of [`DRAIN`](crate::DRAIN)).
    ///
    /// A consumer stays paused over a lost connection and over its own restarts; one that is added to the same queue
    /// later is not. With [`AtMostOnce`](crate::AtMostOnce) what was delivered is handled first: it is acked, and
    /// nobody else would handle it. With [`Retry::in_process_below`](crate::Retry::in_process_below), a message that
    /// waits here for its next attempt goes back as well, and that attempt is not counted.
    ///
    /// Who calls it in a handler of that very consumer, and waits for it there, waits for itself.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) -> Result<(), fluffle_amqp::ServiceError> {
    /// service.pause_consumer("orders").await?;
    /// // No handler of `orders` is at work: migrate what they write to.
    /// service.resume_consumer("orders")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer), with the queues there are.
    /// [`StillInHand`](ServiceError::StillInHand) when the time is over: the consumer is paused all the same, and what
    /// is in hand goes on. Call it again to wait once more.
    ///
    /// # Cancellation
    /// Dropped, the consumer stays paused, and finishes what it has in hand. What is dropped is the wait.
    pub async fn pause_consumer(&self, queue: &str) -> Result<(), ServiceError> {
        let consumers = self.of_queue(queue)?;
        for consumer in &consumers {
            let settings = consumer.settings();
            if settings.guard.pause.set(true) {
                settings.note_state();
                tracing::info!(consumer = %consumer.name, "to be paused: the application asks for it");
            }
        }
        let waited = self.inner.clock.left(Step::Work);
        at_rest(&consumers, waited).await.map_err(|left| ServiceError::StillInHand {
            queue: queue.to_owned(),
            left,
            waited,
        })
    }

    /// Has the consumers of `queue` take deliveries again, whatever had stopped them: a [pause](Self::pause_consumer),
    /// a kill switch, or a circuit breaker, the last two with a fresh window. `false` when nothing had. In effect at
    /// once, or with the next connection; a pause that has messages in hand still ends first. Messages of one key
    /// ([`ordered_by`](crate::Consume::ordered_by)) go on in their order.
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
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer), with the queues there are.
    pub fn resume_consumer(&self, queue: &str) -> Result<bool, ServiceError> {
        let consumers = self.of_queue(queue)?;
        // Each of them: lanes share their switches.
        let resumed = consumers.iter().filter(|consumer| consumer.settings().guard.resume()).count() > 0;
        consumers.iter().for_each(|consumer| consumer.settings().note_state());
        if resumed {
            tracing::info!(queue, consumers = consumers.len(), "resumed: the application asks for it");
        }
        Ok(resumed)
    }

    /// Removes the consumers of `queue`, all their lanes: pauses them, and takes them out of the tree when nothing is
    /// in hand: consumer, channel, handlers, the handlers' threads and the publisher of their copies. Their places on
    /// connections go back to the pool, which closes an extra connection that has no channel for its idle time
    /// ([`PoolConfig::idle_timeout`](crate::PoolConfig::idle_timeout)).
    ///
    /// What it declared stays, at the broker and in this service's topology: retry queues and dead letter queues hold
    /// messages. What waits in a retry queue comes back to `queue`, and waits there. Delete queues that nobody needs
    /// any more by hand.
    ///
    /// Resolves when handlers and threads are gone, and the channel is closed; if the broker is away, the rest of it is
    /// removed from the tree when the connection is back. Then a consumer of the same queue may be added again, with
    /// another type and other settings.
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
    /// [`UnknownConsumer`](ServiceError::UnknownConsumer), with the queues there are, and then nothing was removed.
    /// [`CutOff`](ServiceError::CutOff) when handlers did not finish in the time they have in a shutdown: the consumer
    /// is removed, and the broker delivers again what it had in hand. [`Ended`](ServiceError::Ended) when the service
    /// ends meanwhile.
    ///
    /// # Cancellation
    /// Dropped, the removal goes on: the service's own threads do it.
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
            // Fails if nobody waits for it any more.
            let _ = tell.send(service.remove_all(&of, consumers).await);
        });
        removed.await.unwrap_or(Err(ServiceError::Ended(queue)))
    }

    /// On `io`.
    async fn remove_all(&self, queue: &str, consumers: Vec<Arc<Consumer>>) -> Result<(), ServiceError> {
        // They are in no list any more: nobody resumes them.
        for consumer in &consumers {
            consumer.settings().guard.pause.set(true);
        }
        tracing::info!(queue, consumers = consumers.len(), "to be removed: the application asks for it");
        let waited = self.inner.clock.left(Step::Work);
        let rested = at_rest(&consumers, waited).await;
        if rested.is_err() {
            consumers.iter().for_each(|consumer| consumer.settings().guard.pause.cut_off());
        }
        join_all(consumers.into_iter().map(|consumer| self.take_down(consumer))).await;
        match rested {
            Ok(()) => {
                tracing::info!(queue, in_hand = 0, "removed: everything that was in hand is settled");
                Ok(())
            }
            Err(left) => {
                tracing::warn!(
                    queue,
                    left,
                    ?waited,
                    "removed with messages in hand, which had no more time: the broker delivers them again"
                );
                Err(ServiceError::CutOff { queue: queue.to_owned(), left, waited })
            }
        }
    }

    /// Consumer and channel first: whatever handlers have in hand then must not count as crashed when they stop.
    async fn take_down(&self, consumer: Arc<Consumer>) {
        let (tell, mut removed) = oneshot::channel();
        let remove = consumer.remove.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(remove) = remove
            && remove.send(tell).is_ok()
        {
            // Without a connection there is no channel to wait for. With one, each step has its limit in the tree.
            while timeout(LOOK, &mut removed).await.is_err() && consumer.is_connected() {}
        }
        match self.inner.handlers.stop_child(&consumer.name).await {
            // The service ends, and everything with it.
            Ok(()) | Err(StopChildError::Unknown { .. } | StopChildError::SupervisorOver { .. }) => {}
            Err(error) => tracing::warn!(consumer = %consumer.name, %error, "its handlers were not stopped"),
        }
        // Threads, name, type and copies are given back.
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

    /// A temporary queue may go by its prefix.
    pub(super) fn full_name(&self, queue: &str) -> String {
        self.inner.topology.get().find_queue(queue).map_or_else(|| queue.to_owned(), |queue| queue.name().to_owned())
    }

    fn unknown(&self, queue: &str) -> ServiceError {
        let mut known: Vec<String> =
            self.parts(|parts| parts.consumers.iter().map(|one| one.settings().queue.to_string()).collect());
        known.sort_unstable();
        known.dedup();
        ServiceError::UnknownConsumer { queue: queue.to_owned(), known }
    }
}
