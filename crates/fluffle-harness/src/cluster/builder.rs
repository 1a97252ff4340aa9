//! The builder of a cluster.

// One thought with mod.rs: `Cluster::builder` gives a `ClusterBuilder`, and `ClusterBuilder::start` gives a `Cluster`.

use std::{thread, time::Duration};

use super::{Cluster, links::Links, proxy::TcpProxy};
use crate::{
    Builder, HarnessError, RabbitMq,
    builder::{Member, PORT_ATTEMPTS, fresh_cookie, lost_a_port},
    install::Installation,
    ports::free_port,
};

/// How the nodes of a minority behave (`cluster_partition_handling`,
/// <https://www.rabbitmq.com/docs/partitions#automatic-handling>). From RabbitMQ 4.3 on it has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionHandling {
    /// Both sides go on. Classic queues and definitions may differ afterwards until nodes are restarted.
    Ignore,
    /// Nodes that see no majority stop RabbitMQ, with their listeners, until they see one again.
    PauseMinority,
    /// Both sides go on. When the network is healed, all sides but one are restarted and take over its state.
    Autoheal,
}

impl PartitionHandling {
    fn setting(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::PauseMinority => "pause_minority",
            Self::Autoheal => "autoheal",
        }
    }
}

/// Builds a cluster; see [`Cluster::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until start() is called"]
pub struct ClusterBuilder {
    node: Builder,
    nodes: usize,
    handling: PartitionHandling,
    tick: Duration,
    erlang: String,
}

/// The most nodes: each boots a virtual machine of about 130 MB.
const MOST: usize = 9;

/// Below this, Erlang's kernel refuses to start in a shorter time than its four ticks need.
const SHORTEST_TICK: Duration = Duration::from_secs(4);

/// A boot on a machine whose cores are shared by all nodes of the cluster.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// How long nodes that run may take to join one another.
const JOIN_LIMIT: Duration = Duration::from_secs(120);

/// Settings of every node. All nodes share one machine, so none may take 40% of its memory; and the write-ahead log of
/// the quorum queues is held in memory, up to three times of its size.
const CONFIG: &str = "vm_memory_high_watermark.absolute = 1GB\nraft.wal_max_size_bytes = 64000000\n";

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            node: RabbitMq::builder().config(CONFIG).boot_limit(BOOT_LIMIT),
            nodes: 3,
            handling: PartitionHandling::PauseMinority,
            tick: Duration::from_secs(10),
            erlang: String::new(),
        }
    }
}

impl ClusterBuilder {
    /// The number of nodes, from 1 to 9. Default: 3.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// What nodes without a majority do. Default: [`PartitionHandling::PauseMinority`]; RabbitMQ's own is
    /// [`PartitionHandling::Ignore`].
    pub fn partition_handling(mut self, handling: PartitionHandling) -> Self {
        self.handling = handling;
        self
    }

    /// After how long a silent peer is considered to be away, give or take a quarter (`net_ticktime`). At least 4 s, in
    /// whole seconds. Default: 10 s; RabbitMQ's own is 60 s.
    ///
    /// A shorter time makes a test of partitions shorter. On a busy machine it also makes partitions that nobody asked
    /// for.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Adds lines to the `rabbitmq.conf` of all nodes, as [`Builder::config`].
    pub fn config(mut self, lines: &str) -> Self {
        self.node = self.node.config(lines);
        self
    }

    /// Adds arguments of all nodes' virtual machines, for settings without a key in `rabbitmq.conf`:
    /// `-rabbit dead_letter_worker_publisher_confirm_timeout 20000`. Default: none.
    pub fn erlang_arguments(mut self, arguments: &str) -> Self {
        self.erlang.push(' ');
        self.erlang.push_str(arguments);
        self
    }

    /// Enables a plugin on all nodes, as [`Builder::plugin`].
    pub fn plugin(mut self, name: &str) -> Self {
        self.node = self.node.plugin(name);
        self
    }

    /// Enables the management plugin on all nodes, as [`Builder::management`].
    pub fn management(mut self) -> Self {
        self.node = self.node.management();
        self
    }

    /// Starts all nodes at the same time and waits until each has joined and sees all others.
    ///
    /// Blocks for 10 to 20 s on two idle cores.
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] for a number of nodes or a tick that is out of range; else those of
    /// [`Builder::start`], and [`HarnessError::Timeout`] if the nodes do not join one another.
    pub fn start(self) -> Result<Cluster, HarnessError> {
        self.check()?;
        let installation = Installation::find()?;
        let mut attempt = 1;
        loop {
            match self.start_once(&installation) {
                Err(HarnessError::BootFailed { why, log, .. })
                    if attempt < PORT_ATTEMPTS && lost_a_port(&why, &log) =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn check(&self) -> Result<(), HarnessError> {
        self.node.check_plugin_names()?;
        if !(1..=MOST).contains(&self.nodes) {
            let why = format!("{} nodes are not possible: choose 1 to {MOST}", self.nodes);
            return Err(HarnessError::BadSetting { name: "nodes", why });
        }
        if self.tick < SHORTEST_TICK {
            let why = format!("{:?} is too short: at least {SHORTEST_TICK:?}", self.tick);
            return Err(HarnessError::BadSetting { name: "tick", why });
        }
        Ok(())
    }

    fn start_once(&self, installation: &Installation) -> Result<Cluster, HarnessError> {
        let names: Vec<String> = (1..=self.nodes).map(|number| format!("rabbit{number}@localhost")).collect();
        let ports = names.iter().map(|_| free_port()).collect::<Result<Vec<_>, _>>()?;
        let (node, cookie) = (self.node.clone().config(&self.cluster_config(&names)), fresh_cookie());
        let stopped = names.iter().zip(&ports).map(|(name, port)| {
            let member = Member { name: name.clone(), cookie: cookie.clone(), arguments: self.arguments(*port) };
            node.clone().member(member).stopped(installation.clone())
        });
        let nodes = stopped.collect::<Result<Vec<_>, _>>()?;
        let links = Links::between(&nodes, &ports)?;
        let proxies = nodes.iter().map(|node| TcpProxy::start(node.port())).collect::<Result<_, _>>()?;
        let cluster = Cluster { nodes, proxies, links };
        at_once(&cluster.nodes, RabbitMq::start_again)?;
        cluster.wait_healthy(JOIN_LIMIT)?;
        Ok(cluster)
    }

    fn cluster_config(&self, names: &[String]) -> String {
        let nodes = names.iter().zip(1..);
        let nodes: String =
            nodes.map(|(name, number)| format!("cluster_formation.classic_config.nodes.{number} = {name}\n")).collect();
        format!(
            "cluster_partition_handling = {}\ncluster_formation.peer_discovery_backend = classic_config\n{nodes}",
            self.handling.setting()
        )
    }

    /// One scheduler for each node, because the nodes share the cores; and no other way to a node than its port.
    fn arguments(&self, port: u16) -> String {
        format!(
            "+S 1:1 -kernel inet_dist_listen_min {port} -kernel inet_dist_listen_max {port} -kernel net_ticktime {}{}",
            self.tick.as_secs(),
            self.erlang
        )
    }
}

/// Does something to all nodes at the same time. Returns the first error, after the last of them is done.
pub(crate) fn at_once(
    nodes: &[RabbitMq],
    deed: impl Fn(&RabbitMq) -> Result<(), HarnessError> + Sync,
) -> Result<(), HarnessError> {
    let deed = &deed;
    thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(move || deed(node))).collect();
        let ended = running.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
