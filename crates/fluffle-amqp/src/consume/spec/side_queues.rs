//! The queues a consumer needs beside its own: where failed messages wait, and where dead ones stay.

use std::time::Duration;

use crate::{
    consume::spec::consume::{Consume, Guarantee},
    topology::{Overflow, Queue, Topology},
};

/// The names of one consumer's side queues.
#[derive(Clone)]
pub(crate) struct SideQueues {
    pub(crate) dead_letter: String,
    retry_prefix: String,
}

impl SideQueues {
    /// `<queue>.retry.<milliseconds>`: the delay is part of the name, so another policy makes other queues and no
    /// conflict.
    pub(crate) fn retry(&self, delay: Duration) -> String {
        format!("{}.{}", self.retry_prefix, delay.as_millis())
    }
}

impl<T, R> Consume<T, R> {
    pub(crate) fn side_queues(&self, application: &Topology) -> SideQueues {
        // Retries come back to this very queue, so each queue has its own.
        SideQueues { dead_letter: self.dead_letters(application), retry_prefix: format!("{}.retry", self.queue) }
    }

    /// `<queue>.dead`, or the name chosen. Temporary queues share one, under the prefix they were named with, because
    /// a queue for each would outlive it.
    fn dead_letters(&self, topology: &Topology) -> String {
        self.dead_letter_queue.clone().unwrap_or_else(|| format!("{}.dead", self.stem(topology)))
    }

    fn stem(&self, topology: &Topology) -> String {
        match self.queue.rsplit_once('.') {
            Some((prefix, _)) if self.is_temporary(topology) => prefix.to_owned(),
            _ => self.queue.clone(),
        }
    }

    /// The retry and dead-letter queues this consumer needs beside the application's own topology. `AtMostOnce` needs
    /// none.
    pub(crate) fn topology(&self, application: &Topology) -> Topology {
        let mut topology = Topology::new();
        if self.guarantee == Guarantee::AtMostOnce {
            return topology;
        }
        let dead = self.dead_letters(application);
        // The application declares it already, itself or by `Queue::dead_letter`: its declaration holds.
        if application.find_queue(&dead).is_none() {
            topology = topology.queue(Queue::quorum(dead));
        }
        let temporary = self.is_temporary(application);
        for (name, delay) in self.retry_queues(application) {
            let queue = if temporary {
                // It ends with its connection, like the queue itself.
                Queue::classic(name).exclusive()
            } else {
                // The way back is confirmed too: a message leaves only when its queue has it (RabbitMQ, "At-Least-Once
                // Dead Lettering"), which takes a quorum queue that refuses rather than drops.
                Queue::quorum(name)
                    .overflow(Overflow::RejectPublish)
                    .argument("x-dead-letter-strategy", "at-least-once")
            };
            topology = topology.queue(queue.message_ttl(delay).dead_letter_to("", self.queue.as_str()));
        }
        topology
    }

    /// The queues that belong to the connection that consumes: declared there, before the consumer starts.
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
