//! The broker that is tortured.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use fluffle::{
    Error,
    broker::{Faults, Proxy},
    testing::TestBroker,
};
use fluffle_harness::{QueueDepth, RabbitMq};

use crate::{args::Kind, id::Lane};

/// A broker, and where its faults come from.
pub enum Place {
    /// The broker inside this process.
    Embedded(TestBroker),
    /// A node of our own behind a proxy.
    RabbitMq {
        /// The node.
        node: Arc<RabbitMq>,
        /// What stands before it.
        proxy: Proxy,
    },
}

impl Place {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be had.
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

    /// Where the tortured connect to.
    pub fn url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, proxy } => proxy.url_for(&node.url()),
        }
    }

    /// Where those connect to who only look.
    pub fn quiet_url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, .. } => node.url(),
        }
    }

    /// Where a stranger connects to.
    pub fn quiet_address(&self) -> SocketAddr {
        match self {
            Self::Embedded(broker) => broker.address(),
            Self::RabbitMq { node, .. } => ([127, 0, 0, 1], node.port()).into(),
        }
    }

    /// What can be made to go wrong by storm.
    pub fn faults(&self) -> &Faults {
        match self {
            Self::Embedded(broker) => broker.faults(),
            Self::RabbitMq { proxy, .. } => proxy.faults(),
        }
    }

    /// What is not as it is when nothing is left to do, in words: queues that hold anything, and those of a lane without a
    /// consumer. RabbitMQ counts a quorum queue's messages every five seconds.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub fn unsettled(&self) -> Result<Vec<String>, Error> {
        let queues = self.queues()?;
        let full = queues.iter().filter(|(_, depth)| depth.ready + depth.unacked > 0);
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
