//! The broker under torture.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use fluffle::{
    Error,
    broker::{Faults, Proxy},
    testing::TestBroker,
};
use fluffle_harness::{QueueDepth, RabbitMq};

use crate::{args::Kind, id::Lane};

/// A broker, and the source of its faults.
pub enum Place {
    /// The embedded broker.
    Embedded(TestBroker),
    /// A private node behind a proxy.
    RabbitMq {
        /// The node.
        node: Arc<RabbitMq>,
        /// The proxy in front of it.
        proxy: Proxy,
    },
}

impl Place {
    /// Starts a broker.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(kind: Kind, seed: u64) -> Result<Self, Error> {
        match kind {
            Kind::Embedded => Ok(Self::Embedded(fluffle::broker::Broker::builder().fault_seed(seed).start()?.into())),
            Kind::Rabbitmq => {
                let node = Arc::new(RabbitMq::start().map_err(Error::other)?);
                let proxy = Proxy::with_seed(([127, 0, 0, 1], node.port()).into(), seed)?;
                Ok(Self::RabbitMq { node, proxy })
            }
        }
    }

    /// The URL for the services under torture.
    pub fn url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, proxy } => proxy.url_for(&node.url()),
        }
    }

    /// The URL for observers, without network faults.
    pub fn quiet_url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, .. } => node.url(),
        }
    }

    /// The address for strangers, without network faults.
    pub fn quiet_address(&self) -> SocketAddr {
        match self {
            Self::Embedded(broker) => broker.address(),
            Self::RabbitMq { node, .. } => ([127, 0, 0, 1], node.port()).into(),
        }
    }

    /// The faults that the storm uses.
    pub fn faults(&self) -> &Faults {
        match self {
            Self::Embedded(broker) => broker.faults(),
            Self::RabbitMq { proxy, .. } => proxy.faults(),
        }
    }

    /// Describes what is still unsettled: queues that are not empty, and lanes whose queue has no consumer. RabbitMQ
    /// counts the messages of a quorum queue every five seconds.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub fn unsettled(&self) -> Result<Vec<String>, Error> {
        let queues = self.queues()?;
        // A stream keeps its messages. Whether they were read is known from what handlers tell.
        let kept = |name: &str| name == Lane::Story.queue();
        let full = queues.iter().filter(|(name, depth)| !kept(name) && depth.ready + depth.unacked > 0);
        let full = full.map(|(name, depth)| format!("{name}: {} ready, {} unacked", depth.ready, depth.unacked));
        let consumed = |lane: &Lane| queues.get(lane.queue()).is_some_and(|depth| depth.consumers > 0);
        let deserted = Lane::ALL.into_iter().filter(|lane| !consumed(lane));
        Ok(full.chain(deserted.map(|lane| format!("{}: no consumer", lane.queue()))).collect())
    }

    fn queues(&self) -> Result<HashMap<String, QueueDepth>, Error> {
        match self {
            Self::Embedded(broker) => {
                let queues = broker.snapshot()?.queues.into_iter();
                Ok(queues
                    .map(|queue| {
                        let (ready, unacked, consumers) =
                            (queue.ready as u64, queue.unacked as u64, queue.consumers as u64);
                        (queue.name, QueueDepth { ready, unacked, consumers })
                    })
                    .collect())
            }
            Self::RabbitMq { node, .. } => node.queue_depths("/").map_err(Error::other),
        }
    }
}
