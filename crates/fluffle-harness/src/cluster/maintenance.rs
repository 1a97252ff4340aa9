//! What an operator does to one node after the other.

use std::time::Duration;

use super::{Cluster, builder::at_once};
use crate::{HarnessError, remote};

/// A drain closes all connections and moves each queue's leader.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// How long the replicas on a node that was away may take to catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

impl Cluster {
    /// Puts the node into maintenance mode, as `rabbitmq-upgrade drain` does: it closes its listeners and its clients'
    /// connections (320 CONNECTION_FORCED), the leaders of its quorum queues move away, and its replicas stop.
    ///
    /// # Errors
    ///
    /// If the node does not run.
    pub fn drain(&self, node: usize) -> Result<(), HarnessError> {
        self.maintain(node, "drain", "rabbit_maintenance:drain()")
    }

    /// Ends the maintenance mode, as `rabbitmq-upgrade revive` does. Leaders do not move back.
    ///
    /// # Errors
    ///
    /// If the node does not run.
    pub fn revive(&self, node: usize) -> Result<(), HarnessError> {
        self.maintain(node, "revive", "rabbit_maintenance:revive()")
    }

    fn maintain(&self, node: usize, operation: &'static str, call: &str) -> Result<(), HarnessError> {
        let expression = format!("case {call} of ok -> <<>>; {{ok, _}} -> <<>> end");
        remote::eval_within(&self.node(node)?.layout, DRAIN_LIMIT, operation, &expression).map(drop)
    }

    /// Drains, stops and starts one node after the other, each when all queues have their replicas again, as in an
    /// upgrade. `begun` is told the number of each node before its turn.
    ///
    /// # Errors
    ///
    /// Those of [`drain`](Self::drain), [`RabbitMq::stop`](crate::RabbitMq::stop),
    /// [`RabbitMq::start_again`](crate::RabbitMq::start_again) and [`wait_healthy`](Self::wait_healthy).
    pub fn restart_one_by_one(&self, mut begun: impl FnMut(usize)) -> Result<(), HarnessError> {
        self.wait_healthy(CATCH_UP_LIMIT)?;
        for (number, node) in self.nodes.iter().enumerate() {
            begun(number);
            self.drain(number)?;
            node.stop()?;
            node.start_again()?;
            self.wait_healthy(CATCH_UP_LIMIT)?;
        }
        Ok(())
    }

    /// Starts all stopped and killed nodes at the same time. A node of RabbitMQ 3 waits in its boot for those that were
    /// stopped after it, so nodes that were all stopped must not be started one by one.
    ///
    /// # Errors
    ///
    /// Those of [`RabbitMq::start_again`](crate::RabbitMq::start_again).
    pub fn start_stopped(&self) -> Result<(), HarnessError> {
        at_once(&self.nodes, |node| match node.start_again() {
            Err(HarnessError::AlreadyRunning) => Ok(()),
            other => other,
        })
    }
}
