//! The topology that every connection of a service declares.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::topology::{Destination, Queue, Topology, TopologyError};

/// The application's topology, and the queues that consumers and requesters add.
#[derive(Default)]
pub(crate) struct TopologyStore {
    topology: Mutex<Arc<Topology>>,
    /// The queues that were added, until a connection has declared them.
    undeclared: Mutex<BTreeSet<String>>,
    /// Whether something of it seems to be missing on the broker.
    wanted: AtomicBool,
}

impl TopologyStore {
    pub(crate) fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self { topology: Mutex::new(Arc::new(topology)), ..Self::default() })
    }

    pub(crate) fn get(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where messages with this routing key go.
    pub(crate) fn destination(&self, exchange: &str, key: &str) -> Destination {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner).destination(exchange, key)
    }

    /// Whether the queue has a single active consumer.
    pub(crate) fn has_single_active_consumer(&self, queue: &str) -> bool {
        let topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        topology.find_queue(queue).is_some_and(Queue::is_single_active_consumer)
    }

    /// Something of it seems to be missing: one of the connections is to declare it again soon.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be declared again. Of several connections that ask, one is told.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Adds the entities of `other`. An entity that is in both must have the same properties.
    pub(crate) fn add(&self, other: Topology) -> Result<(), TopologyError> {
        let queues: Vec<String> = other.queues().filter(|queue| !queue.is_exclusive()).map(name).collect();
        let mut topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        *topology = Arc::new(Topology::clone(&topology).merge(other)?);
        self.undeclared().extend(queues);
        Ok(())
    }

    /// At most `most` of the queues that were added and that no connection has declared.
    pub(super) fn added(&self, most: usize) -> Vec<String> {
        self.undeclared().iter().take(most).cloned().collect()
    }

    /// A connection has declared these queues, or found that they cannot be reached.
    pub(super) fn declared(&self, queues: &[String]) {
        let mut undeclared = self.undeclared();
        for queue in queues {
            undeclared.remove(queue);
        }
    }

    fn undeclared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.undeclared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(queue: &Queue) -> String {
    queue.name().to_owned()
}
