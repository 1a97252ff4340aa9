//! The broker under torture.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use fluffle::{
    Error,
    broker::{Faults, Proxy},
    testing::TestBroker,
};
use fluffle_harness::{Cluster, PartitionHandling, QueueDepth, RabbitMq};

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
    /// Private nodes, each behind a proxy.
    Cluster {
        /// The nodes.
        cluster: Arc<Cluster>,
        /// The proxy in front of each.
        proxies: Vec<Proxy>,
    },
}

/// After how long a silent node is considered to be away. Short, so that a run sees partitions and their ends.
const TICK: Duration = Duration::from_secs(5);

/// When a retry queue's worker moves a message whose wait is over, and the confirm gets lost in an election, it tries
/// again after three minutes. A run has less time, so here after twenty seconds.
const SETTLE: &str = "-rabbit dead_letter_worker_publisher_confirm_timeout 20000";

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
            Kind::Cluster => {
                let builder = Cluster::builder().tick(TICK).partition_handling(handling(seed));
                let cluster = Arc::new(builder.erlang_arguments(SETTLE).start().map_err(Error::other)?);
                let proxy = |number: usize| {
                    let node = cluster.node(number).map_err(Error::other)?;
                    Ok(Proxy::with_seed(([127, 0, 0, 1], node.port()).into(), seed ^ number as u64)?)
                };
                let proxies = (0..cluster.size()).map(proxy).collect::<Result<_, Error>>()?;
                Ok(Self::Cluster { cluster, proxies })
            }
        }
    }

    /// The URL for the services under torture.
    pub fn url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, proxy } => proxy.url_for(&node.url()),
            Self::Cluster { cluster, proxies } => {
                let urls = cluster.urls();
                let proxied = urls.iter().zip(proxies).map(|(url, proxy)| proxy.url_for(url));
                proxied.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// The URL for observers, without network faults.
    pub fn quiet_url(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq { node, .. } => node.url(),
            Self::Cluster { cluster, .. } => cluster.url(),
        }
    }

    /// The addresses for strangers, without network faults.
    pub fn quiet_addresses(&self) -> Vec<SocketAddr> {
        let local = |node: &RabbitMq| ([127, 0, 0, 1], node.port()).into();
        match self {
            Self::Embedded(broker) => vec![broker.address()],
            Self::RabbitMq { node, .. } => vec![local(node)],
            Self::Cluster { cluster, .. } => {
                (0..cluster.size()).filter_map(|number| cluster.node(number).ok()).map(local).collect()
            }
        }
    }

    /// The faults that the storm uses: of each way to the broker.
    pub fn faults(&self) -> Vec<&Faults> {
        match self {
            Self::Embedded(broker) => vec![broker.faults()],
            Self::RabbitMq { proxy, .. } => vec![proxy.faults()],
            Self::Cluster { proxies, .. } => proxies.iter().map(Proxy::faults).collect(),
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

    /// The channels that have deliveries without an ack, as RabbitMQ's channels know it, to be compared with what its
    /// queues know. Nothing on the embedded broker.
    pub fn holders(&self) -> Vec<String> {
        let nodes = match self {
            Self::Embedded(_) => Vec::new(),
            Self::RabbitMq { node, .. } => vec![&**node],
            Self::Cluster { cluster, .. } => {
                (0..cluster.size()).filter_map(|number| cluster.node(number).ok()).collect()
            }
        };
        let expression = "[io_lib:format(\"~s: ~p~n\", [proplists:get_value(name, I), Count]) || \
                          I <- rabbit_channel:info_all([name, messages_unacknowledged]), \
                          Count <- [proplists:get_value(messages_unacknowledged, I, 0)], Count > 0]";
        let told = nodes.into_iter().find_map(|node| node.eval(expression).ok());
        told.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
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
            Self::Cluster { cluster, .. } => cluster.queue_depths("/").map_err(Error::other),
        }
    }
}

/// How nodes without a majority behave in the run with this seed: both ways take turns.
fn handling(seed: u64) -> PartitionHandling {
    if seed.is_multiple_of(2) { PartitionHandling::PauseMinority } else { PartitionHandling::Autoheal }
}
