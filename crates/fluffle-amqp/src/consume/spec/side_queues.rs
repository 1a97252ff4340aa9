//! The queues that a consumer needs in addition to its own: retry queues, in which failed messages wait, and the
//! dead-letter queue.

use std::time::Duration;

use crate::{
    consume::spec::{consume::Consume, guarantee::Guarantee},
    topology::{Overflow, Queue, Topology},
};

/// The names of one consumer's side queues.
#[derive(Clone)]
pub(crate) struct SideQueues {
    pub(crate) dead_letter: String,
    retry_prefix: String,
}

impl SideQueues {
    /// The retry queue for `delay`: `<queue>.retry.<milliseconds>`. The delay is part of the name, so that a changed
    /// retry policy declares other queues and does not conflict with those that exist.
    pub(crate) fn retry(&self, delay: Duration) -> String {
        format!("{}.{}", self.retry_prefix, delay.as_millis())
    }
}

impl<T, R> Consume<T, R> {
    pub(crate) fn side_queues(&self, application: &Topology) -> SideQueues {
        // A retry returns to the queue it came from, so each queue has retry queues of its own.
        SideQueues { dead_letter: self.dead_letters(application), retry_prefix: format!("{}.retry", self.queue) }
    }

    /// The name of the dead-letter queue: the one that was set, or `<queue>.dead`. Temporary queues with the same name
    /// prefix share `<prefix>.dead`, because a dead-letter queue for each would remain when the queue is gone.
    fn dead_letters(&self, topology: &Topology) -> String {
        self.dead_letter_queue.clone().unwrap_or_else(|| format!("{}.dead", self.stem(topology)))
    }

    fn stem(&self, topology: &Topology) -> String {
        match self.queue.rsplit_once('.') {
            Some((prefix, _)) if self.is_temporary(topology) => prefix.to_owned(),
            _ => self.queue.clone(),
        }
    }

    /// The retry and dead-letter queues that this consumer needs in addition to the application's topology. With
    /// `AtMostOnce` there are none.
    pub(crate) fn topology(&self, application: &Topology) -> Topology {
        let mut topology = Topology::new();
        if self.guarantee == Guarantee::AtMostOnce {
            return topology;
        }
        let dead = self.dead_letters(application);
        // If the application declares the queue itself, or by `Queue::dead_letter`, its declaration counts.
        if application.find_queue(&dead).is_none() {
            topology = topology.queue(Queue::quorum(dead));
        }
        // Failed messages of a stream return to a queue beside it.
        if self.stream.is_some() && application.find_queue(&self.queue).is_none() {
            topology = topology.queue(Queue::quorum(self.queue.as_str()));
        }
        let temporary = self.is_temporary(application);
        for (name, delay) in self.retry_queues(application) {
            let queue = if temporary {
                // The retry queue ends with the connection, like the queue itself.
                Queue::classic(name).exclusive()
            } else {
                // The message leaves the retry queue only when its original queue has confirmed it (RabbitMQ,
                // "At-Least-Once Dead Lettering"). This requires a quorum queue with the overflow behaviour
                // `reject-publish`.
                Queue::quorum(name)
                    .overflow(Overflow::RejectPublish)
                    .argument("x-dead-letter-strategy", "at-least-once")
            };
            topology = topology.queue(queue.message_ttl(delay).dead_letter_to("", self.queue.as_str()));
        }
        topology
    }

    /// The exclusive queues, which belong to the connection that consumes. They are declared on it before the consumer
    /// starts.
    pub(crate) fn exclusive_queues(&self, application: &Topology) -> Vec<String> {
        if !self.is_temporary(application) {
            return Vec::new();
        }
        let retries = match self.guarantee {
            Guarantee::AtMostOnce => Vec::new(),
            Guarantee::AtLeastOnce => self.retry_queues(application),
        };
        std::iter::once(self.queue.clone()).chain(retries.into_iter().map(|(name, _)| name)).collect()
    }

    fn retry_queues(&self, application: &Topology) -> Vec<(String, Duration)> {
        let mut delays = self.retry.delays().to_vec();
        delays.retain(|delay| !self.retry.is_in_process(*delay));
        delays.sort_unstable();
        delays.dedup();
        let names = self.side_queues(application);
        delays.into_iter().map(|delay| (names.retry(delay), delay)).collect()
    }

    pub(crate) fn is_temporary(&self, application: &Topology) -> bool {
        application.find_queue(&self.queue).is_some_and(Queue::is_exclusive)
    }
}
