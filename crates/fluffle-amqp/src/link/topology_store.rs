//! The topology that every connection of a service declares.

use std::sync::{Arc, Mutex, PoisonError};

use crate::topology::{Destination, Topology, TopologyError};

/// The application's topology, and the queues that consumers and requesters add.
#[derive(Default)]
pub(crate) struct TopologyStore(Mutex<Topology>);

impl TopologyStore {
    pub(crate) fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self(Mutex::new(topology)))
    }

    pub(crate) fn get(&self) -> Topology {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where messages with this routing key go.
    pub(crate) fn destination(&self, exchange: &str, key: &str) -> Destination {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).destination(exchange, key)
    }

    /// Adds the entities of `other`. An entity that is in both must have the same properties.
    pub(crate) fn add(&self, other: Topology) -> Result<(), TopologyError> {
        let mut topology = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *topology = topology.clone().merge(other)?;
        Ok(())
    }
}
