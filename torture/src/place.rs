//! The broker that is tortured.

use std::sync::Arc;

use fluffle::{
    Error,
    broker::{Faults, Proxy},
    testing::TestBroker,
};
use fluffle_harness::RabbitMq;

use crate::args::Kind;

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

    /// What can be made to go wrong by storm.
    pub fn faults(&self) -> &Faults {
        match self {
            Self::Embedded(broker) => broker.faults(),
            Self::RabbitMq { proxy, .. } => proxy.faults(),
        }
    }

    /// Queues that hold anything, in words. RabbitMQ counts a quorum queue's messages every five seconds.
    ///
    /// # Errors
    /// When the broker cannot be asked.
    pub fn not_empty(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::Embedded(broker) => {
                let queues = broker.snapshot()?.queues;
                Ok(queues.iter().filter(|q| q.ready + q.unacked > 0).map(ToString::to_string).collect())
            }
            Self::RabbitMq { node, .. } => {
                let depths = node.queue_depths("/").map_err(Error::other)?;
                let full = depths.into_iter().filter(|(_, depth)| depth.ready + depth.unacked > 0);
                Ok(full
                    .map(|(name, depth)| format!("{name}: {} ready, {} unacked", depth.ready, depth.unacked))
                    .collect())
            }
        }
    }
}
