//! A cluster of private RabbitMQ nodes on one machine.

mod builder;
mod epmd;
mod health;
mod leader;
mod links;
mod maintenance;
mod partition;
mod proxy;

pub use builder::{ClusterBuilder, PartitionHandling};
pub use proxy::TcpProxy;

use links::Links;

use crate::{HarnessError, RabbitMq};

/// Several RabbitMQ nodes on loopback, joined to a cluster. Nodes have numbers, from 0.
///
/// Each node is a [`RabbitMq`], which can be killed, stopped and started again by itself. In front of each is a
/// [`TcpProxy`] for its clients, and between each two of them another one, which
/// [`partition`](Self::partition) cuts: no rights and no network namespaces are needed.
///
/// Dropping the value kills all nodes and removes their folders. If the process dies without dropping it, even by
/// SIGKILL, watcher processes do the same. Any number of clusters can run side by side.
///
/// All calls block, as those of [`RabbitMq`].
///
/// ```no_run
/// use fluffle_harness::Cluster;
///
/// let cluster = Cluster::start()?;
/// println!("{}", cluster.url()); // amqp://guest:guest@127.0.0.1:21504/%2f,amqp://…,amqp://…
/// let leader = cluster.leader("/", "orders")?.unwrap_or(0);
/// cluster.node(leader)?.kill()?;
/// cluster.node(leader)?.start_again()?;
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
///
/// # Traps of nodes on one machine
///
/// - **epmd.** Nodes of one machine usually share an epmd, where their names must be unique, and killing it cuts off
///   all of them. Here each node has its own, in which the names of its peers lead to the proxies.
/// - **Host names.** All nodes are `rabbitN@localhost`, so that no name is resolved beyond loopback.
/// - **Ticks.** A silent peer is noticed after `net_ticktime`, 60 s by default; here [10 s](ClusterBuilder::tick). A
///   killed node's sockets close, so it is noticed at once.
/// - **Elections.** A quorum queue elects a new leader as soon as its members see the old one's connection close:
///   within a second. If it fell silent instead, after `net_ticktime`, or as soon as Ra's own detector suspects it.
/// - **Memory.** Each node would take 40% of the machine's memory before it blocks publishers. Here it is 1 GB for
///   each, and one scheduler. An alarm on one node blocks publishers on all.
/// - **Disk.** All nodes share one disk, so they would raise their alarm together. The limit is 1 MB.
/// - **Feature flags.** All nodes are of one version and start with all stable flags enabled. Mixed versions are not
///   possible here.
/// - **Boot order.** A node of RabbitMQ 3 that was not stopped last waits in its boot for one that was; see
///   [`start_stopped`](Self::start_stopped).
/// - **Overlapping partitions.** RabbitMQ's script disables OTP's own handling of partitions
///   (`prevent_overlapping_partitions`), as in production.
#[derive(Debug)]
pub struct Cluster {
    // Dropped first: a node writes no error about a peer when its links end.
    nodes: Vec<RabbitMq>,
    proxies: Vec<TcpProxy>,
    links: Links,
}

impl Cluster {
    /// Starts three nodes with default settings. See [`ClusterBuilder::start`] for the errors and the time it takes.
    pub fn start() -> Result<Self, HarnessError> {
        Self::builder().start()
    }

    /// A builder, to configure the cluster before it starts.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The URLs of all nodes through their proxies, separated by commas, as Fluffle and its tools take them.
    #[must_use]
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// The URL of each node through its proxy, for the vhost `/` and the user `guest`.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let proxied = self.nodes.iter().zip(&self.proxies);
        proxied.map(|(node, proxy)| node.layout.url_at(proxy.port(), "/")).collect()
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A node, to kill, stop, start or ask it. Its own [`url`](RabbitMq::url) leads around its proxy.
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] if there is no such node.
    pub fn node(&self, number: usize) -> Result<&RabbitMq, HarnessError> {
        self.nodes.get(number).ok_or_else(|| self.no_such_node(number))
    }

    /// The proxy between a node and its clients.
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] if there is no such node.
    pub fn proxy(&self, number: usize) -> Result<&TcpProxy, HarnessError> {
        self.proxies.get(number).ok_or_else(|| self.no_such_node(number))
    }

    fn no_such_node(&self, number: usize) -> HarnessError {
        let why = format!("there is no node {number}: the last is {}", self.nodes.len().saturating_sub(1));
        HarnessError::BadSetting { name: "node", why }
    }
}
