//! Whether the nodes see one another, and whether each queue has the replicas that it needs.

use std::time::Duration;

use super::Cluster;
use crate::{HarnessError, wait::poll_until};

/// The number of running members that a node sees, without those that it considers as partitioned from it, and the
/// names of its quorum queues that would lose their majority with one more node. RabbitMQ 3.11 renamed a function.
const HEALTH: &str = "Running = case erlang:function_exported(rabbit_nodes, list_running, 0) of \
                        true -> rabbit_nodes:list_running(); \
                        false -> rabbit_nodes:all_running() \
                      end, \
                      Parted = case catch rabbit_node_monitor:partitions() of L when is_list(L) -> L; _ -> [] end, \
                      Critical = [element(4, amqqueue:get_name(Q)) || Q <- \
                        rabbit_quorum_queue:list_with_minimum_quorum()], \
                      [integer_to_binary(length(Running -- Parted)), $ , lists:join($ , Critical)]";

impl Cluster {
    /// Waits until every node runs and sees all others, and no quorum queue would lose its majority with one more node:
    /// then the next node may be stopped (<https://www.rabbitmq.com/docs/upgrade#maintaining-quorum>).
    ///
    /// # Errors
    ///
    /// [`HarnessError::Timeout`] with what was last seen.
    pub fn wait_healthy(&self, limit: Duration) -> Result<(), HarnessError> {
        let mut last = String::new();
        let healthy = poll_until(limit, "the cluster's health", || {
            let seen: Vec<_> = self.nodes.iter().map(|node| node.admin("health", HEALTH)).collect();
            last = format!("{seen:?}");
            Ok(seen.iter().all(|seen| seen.as_ref().is_ok_and(|seen| self.is_healthy(seen))).then_some(()))
        });
        healthy.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => HarnessError::Timeout {
                what: format!("the cluster's health (last seen, running members and critical queues: {last})"),
                limit,
            },
            other => other,
        })
    }

    fn is_healthy(&self, seen: &str) -> bool {
        let (running, critical) = seen.split_once(' ').unwrap_or((seen, ""));
        // Each queue of two nodes needs both.
        running.parse() == Ok(self.nodes.len()) && (self.nodes.len() < 3 || critical.is_empty())
    }

    /// The numbers of the nodes to which this node is connected, without itself. Also answers while the node has paused
    /// itself, and fails while it is stopped.
    pub fn peers(&self, node: usize) -> Result<Vec<usize>, HarnessError> {
        let seen = self.node(node)?.admin("peers", "lists:join($ , [atom_to_binary(N) || N <- nodes()])")?;
        let number = |name: &str| self.nodes.iter().position(|node| node.layout.name == name);
        Ok(seen.split(' ').filter_map(number).collect())
    }

    /// Whether RabbitMQ runs on the node. False on a node that has paused itself, and on one that is stopped.
    #[must_use]
    pub fn is_running(&self, node: usize) -> bool {
        let running = |node: &crate::RabbitMq| node.admin("is_running", "atom_to_binary(rabbit:is_running())");
        self.node(node).and_then(running).is_ok_and(|running| running == "true")
    }
}
