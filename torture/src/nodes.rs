//! What happens to the nodes of RabbitMQ in a run, and when, drawn from the seed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fluffle::Error;
use fluffle_harness::{Cluster, HarnessError, RabbitMq};
use tokio::time::{sleep, sleep_until};

use crate::{
    damage::Damage,
    fact::{Fact, Facts},
    id::Lane,
};

/// The average time between two faults of a node, not counting its boot.
const NODE: Duration = Duration::from_secs(3);

/// How long a cluster may take to have all its nodes and replicas again.
const HEALTHY: Duration = Duration::from_secs(120);

/// How long a cluster may take to heal by itself when its network does.
const HEALED: Duration = Duration::from_secs(30);

/// How long the services may take to declare their queues, and how often that is looked for.
const DECLARED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// What an operator or a power failure does to a node. No queue is deleted: if a quorum queue is declared again and its
/// node is killed then, RabbitMQ 3.10 may know the queue without finding it, and closes every connection that consumes
/// from it (541).
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// SIGKILL, and a boot on the same data.
    Kill,
    /// An orderly stop, and a boot.
    Restart,
    /// The memory alarm, for a second.
    Block,
    /// All connections closed with 320.
    CloseConnections,
}

impl Deed {
    fn draw(random: &mut Rng) -> Self {
        match random.u8(0..10) {
            0..3 => Self::Kill,
            3..4 => Self::Restart,
            4..6 => Self::Block,
            _ => Self::CloseConnections,
        }
    }

    /// Carries out the fault, and blocks until it is done. A busy node may refuse some of these commands, which is then
    /// another fault, or none.
    fn do_to(self, node: &RabbitMq) -> Result<(), HarnessError> {
        match self {
            Self::Kill => node.kill().and_then(|()| node.start_again()),
            Self::Restart => {
                // A node that does not stop in time is killed.
                let _ = node.stop();
                node.start_again()
            }
            Self::Block => {
                let _ = node.block_publishers();
                std::thread::sleep(Duration::from_secs(1));
                node.unblock_publishers()
            }
            Self::CloseConnections => {
                let _ = node.close_all_connections("by the torture");
                Ok(())
            }
        }
    }
}

/// Harms a node again and again.
///
/// # Errors
/// If a node does not start again.
pub(crate) async fn operate(
    node: &Arc<RabbitMq>,
    mut random: Rng,
    until: Instant,
    facts: &Facts,
) -> Result<Damage, Error> {
    let mut damage = Damage::default();
    loop {
        let next = Instant::now() + NODE.mul_f64(2.0 * random.f64());
        if next >= until {
            return Ok(damage);
        }
        sleep_until(next.into()).await;
        let (deed, node) = (Deed::draw(&mut random), Arc::clone(node));
        facts.tell(&Fact::Fault(format!("{deed:?} of the node")));
        let done = tokio::task::spawn_blocking(move || deed.do_to(&node)).await;
        done.map_err(Error::other)?.map_err(Error::other)?;
        facts.tell(&Fact::Fault(format!("{deed:?} of the node is over")));
        damage.faults += 1;
        damage.restarts += u64::from(matches!(deed, Deed::Kill | Deed::Restart));
    }
}

/// What happens to a cluster: to one node at a time, because two of three are a majority that its queues need.
#[derive(Clone, Copy, Debug)]
enum ClusterDeed {
    /// SIGKILL of the node that leads a queue, and a boot after so many seconds.
    KillLeader(Lane, u64),
    /// An orderly stop of a node, and a boot after so many seconds.
    Stop(usize, u64),
    /// A node becomes a queue's leader.
    MoveLeader(Lane, usize),
    /// All nodes are drained, stopped and started, one after the other.
    RestartAll,
    /// A node is in maintenance mode for so many seconds.
    Drain(usize, u64),
    /// A node is cut off from the others for so many seconds.
    Part(usize, u64),
    /// All connections to a node are closed with 320.
    CloseConnections(usize),
    /// The memory alarm of a node, which blocks publishers on all, for a second.
    Block(usize),
}

impl ClusterDeed {
    fn draw(random: &mut Rng, nodes: usize) -> Self {
        let (node, seconds) = (random.usize(..nodes), random.u64(0..4));
        let lane = Lane::ALL[random.usize(..Lane::ALL.len())];
        match random.u8(0..20) {
            0..5 => Self::KillLeader(lane, seconds),
            5..6 => Self::Stop(node, seconds),
            6..12 => Self::MoveLeader(lane, node),
            12..13 => Self::RestartAll,
            13..14 => Self::Drain(node, seconds),
            // Longer than the nodes take to notice it, and also shorter.
            14..17 => Self::Part(node, random.u64(2..15)),
            17..19 => Self::CloseConnections(node),
            _ => Self::Block(node),
        }
    }

    /// How many nodes it starts again.
    fn restarts(self, nodes: usize) -> u64 {
        match self {
            Self::KillLeader(..) | Self::Stop(..) => 1,
            Self::RestartAll => nodes as u64,
            _ => 0,
        }
    }

    /// Carries out the fault, and blocks until it is over and the cluster is healthy. A busy node may refuse some of
    /// these commands, which is then another fault, or none.
    fn do_to(self, cluster: &Cluster, facts: &Facts) -> Result<(), HarnessError> {
        let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
        match self {
            Self::KillLeader(lane, seconds) => {
                let leader = cluster.leader("/", lane.queue())?.unwrap_or_default();
                facts.tell(&Fact::Fault(format!("node {leader} is killed")));
                cluster.node(leader)?.kill()?;
                pause(seconds);
                cluster.node(leader)?.start_again()?;
            }
            Self::Stop(node, seconds) => {
                // A node that does not stop in time is killed.
                let _ = cluster.node(node)?.stop();
                pause(seconds);
                cluster.node(node)?.start_again()?;
            }
            Self::MoveLeader(lane, node) => {
                if let Err(error) = cluster.move_leader("/", lane.queue(), node) {
                    facts.tell(&Fact::Fault(format!("no move: {error}")));
                }
            }
            Self::RestartAll => {
                cluster.restart_one_by_one(|node| facts.tell(&Fact::Fault(format!("node {node} is restarted"))))?;
            }
            Self::Drain(node, seconds) => {
                cluster.drain(node)?;
                pause(seconds);
                cluster.revive(node)?;
                repair(cluster, node, facts)?;
            }
            Self::Part(node, seconds) => {
                let others: Vec<usize> = (0..cluster.size()).filter(|other| *other != node).collect();
                cluster.partition(&[&[node], &others])?;
                pause(seconds);
                cluster.heal();
                repair(cluster, node, facts)?;
            }
            Self::CloseConnections(node) => drop(cluster.node(node)?.close_all_connections("by the torture")),
            Self::Block(node) => {
                let _ = cluster.node(node)?.block_publishers();
                pause(1);
                cluster.node(node)?.unblock_publishers()?;
            }
        }
        cluster.wait_healthy(HEALTHY)
    }
}

/// Restarts a node that does not become healthy by itself, as an operator has to. A partition that ends in the moment
/// in which it is noticed pauses nobody, and is not healed
/// (<https://www.rabbitmq.com/docs/partitions#recovering>). A revived node may lack replicas, which its boot starts.
fn repair(cluster: &Cluster, node: usize, facts: &Facts) -> Result<(), HarnessError> {
    let Err(error) = cluster.wait_healthy(HEALED) else { return Ok(()) };
    facts.tell(&Fact::Fault(format!("node {node} is restarted, because of {error}")));
    // A node that does not stop in time is killed.
    let _ = cluster.node(node)?.stop();
    cluster.node(node)?.start_again()
}

/// Whether every lane's queue has a consumer: then its side queues are declared, too.
fn has_consumers(cluster: &Cluster) -> bool {
    let Ok(queues) = cluster.queue_depths("/") else { return false };
    Lane::ALL.iter().all(|lane| queues.get(lane.queue()).is_some_and(|depth| depth.consumers > 0))
}

/// Harms the nodes of a cluster again and again.
///
/// # Errors
/// If a node does not start again, or the cluster does not become healthy.
pub(crate) async fn operate_cluster(
    cluster: &Arc<Cluster>,
    mut random: Rng,
    until: Instant,
    facts: &Facts,
) -> Result<Damage, Error> {
    let mut damage = Damage::default();
    // A queue that is declared while a node is away never gets a replica there, until an operator adds one.
    let deadline = Instant::now() + DECLARED;
    while !has_consumers(cluster) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    loop {
        let next = Instant::now() + NODE.mul_f64(2.0 * random.f64());
        if next >= until {
            return Ok(damage);
        }
        sleep_until(next.into()).await;
        let deed = ClusterDeed::draw(&mut random, cluster.size());
        facts.tell(&Fact::Fault(format!("{deed:?}")));
        let done = {
            let (cluster, facts) = (Arc::clone(cluster), facts.clone());
            tokio::task::spawn_blocking(move || deed.do_to(&cluster, &facts)).await
        };
        let failed = |error: HarnessError| Error::other(format!("{deed:?}: {error}"));
        done.map_err(Error::other)?.map_err(failed)?;
        facts.tell(&Fact::Fault(format!("{deed:?} is over")));
        damage.faults += 1;
        damage.restarts += deed.restarts(cluster.size());
    }
}
