//! Partitions of the network between the nodes.

use std::time::Duration;

use super::Cluster;
use crate::{HarnessError, wait::poll_until};

impl Cluster {
    /// Cuts the network between groups of nodes: `partition(&[&[0], &[1, 2]])`. Each node must be in one group. Nodes
    /// of one group reach one another, also if an earlier partition kept them apart.
    ///
    /// All bytes between the groups are held back in both directions, and no connection is closed, as when a switch
    /// drops packets. Nodes notice after their [tick](super::ClusterBuilder::tick); see
    /// [`wait_noticed`](Self::wait_noticed). Clients reach all nodes; to cut them off, silence a node's
    /// [proxy](Self::proxy).
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] if a node is in no group or in two.
    pub fn partition(&self, groups: &[&[usize]]) -> Result<(), HarnessError> {
        let mut members: Vec<usize> = groups.iter().copied().flatten().copied().collect();
        members.sort_unstable();
        if members.iter().copied().ne(0..self.nodes.len()) {
            let why = format!("{groups:?} must contain each node from 0 to {} once", self.nodes.len() - 1);
            return Err(HarnessError::BadSetting { name: "groups", why });
        }
        self.links.part(groups);
        Ok(())
    }

    /// Waits until no running node is connected to a node outside of its group.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Timeout`] after `limit`, which should be more than twice the tick.
    pub fn wait_noticed(&self, groups: &[&[usize]], limit: Duration) -> Result<(), HarnessError> {
        poll_until(limit, "the nodes noticing the partition", || {
            let noticed = groups.iter().all(|group| {
                group.iter().all(|node| match self.peers(*node) {
                    Ok(peers) => peers.iter().all(|peer| group.contains(peer)),
                    // A stopped node is connected to nobody.
                    Err(_) => true,
                })
            });
            Ok(noticed.then_some(()))
        })
    }

    /// Ends all partitions. Bytes that were held back arrive. What the nodes do then is their
    /// [`PartitionHandling`](super::PartitionHandling); [`wait_healthy`](Self::wait_healthy) waits for it.
    ///
    /// With [`PartitionHandling::Ignore`](super::PartitionHandling::Ignore) they stay apart until all nodes of one side
    /// are restarted.
    pub fn heal(&self) {
        self.links.heal();
    }
}
