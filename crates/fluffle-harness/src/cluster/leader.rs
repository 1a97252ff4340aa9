//! Who leads a queue.

use std::{collections::HashMap, time::Duration};

use super::Cluster;
use crate::{HarnessError, QueueDepth, remote::binary, wait::poll_until};

/// How long an election may take on a busy machine.
const MOVE_LIMIT: Duration = Duration::from_secs(30);

impl Cluster {
    /// The number of the node that leads a queue, or `None` during an election, and for a queue that does not exist.
    ///
    /// For a quorum queue all its members are asked, and the one with the highest term is believed: a leader that a
    /// partition has cut off from the majority goes on to call itself one. For a stream it is the node of the writer,
    /// and for a classic queue its only node, as the definitions say: also if that node is down.
    ///
    /// # Errors
    ///
    /// If no node runs.
    pub fn leader(&self, vhost: &str, queue: &str) -> Result<Option<usize>, HarnessError> {
        let expression = format!(
            "case rabbit_amqqueue:lookup(rabbit_misc:r({}, queue, {})) of \
               {{ok, Queue}} -> case amqqueue:get_pid(Queue) of \
                 {{Name, _}} -> \
                   #{{names := #{{log_meta := Meta}}}} = ra_system:fetch(quorum_queues), \
                   Term = ra_log_meta:fetch(Meta, ra_directory:uid_of(quorum_queues, Name), current_term, 0), \
                   Leader = case catch ra:members({{Name, node()}}, 1000) of {{ok, _, {{_, L}}}} -> L; _ -> none end, \
                   [integer_to_binary(Term), $ , atom_to_binary(Leader)]; \
                 Pid when is_pid(Pid) -> [$0, $ , atom_to_binary(node(Pid))]; \
                 _ -> <<>> end; \
               _ -> <<>> end",
            binary(vhost),
            binary(queue)
        );
        let answers: Vec<_> = self.nodes.iter().map(|node| node.admin("leader", &expression)).collect();
        if answers.iter().all(Result::is_err) {
            return answers.into_iter().collect::<Result<Vec<_>, _>>().map(|_| None);
        }
        let claims = answers.iter().flatten().filter_map(|answer| {
            let (term, leader) = answer.split_once(' ')?;
            let number = self.nodes.iter().position(|node| node.layout.name == leader);
            Some((term.parse::<u64>().ok()?, number))
        });
        Ok(claims.max_by_key(|(term, _)| *term).and_then(|(_, leader)| leader))
    }

    /// The queues of a vhost by name, each as the node that leads it knows it; see
    /// [`RabbitMq::queue_depths`](crate::RabbitMq::queue_depths). A queue whose leader is away is missing.
    ///
    /// # Errors
    ///
    /// If a node does not run.
    pub fn queue_depths(&self, vhost: &str) -> Result<HashMap<String, QueueDepth>, HarnessError> {
        let led = self.nodes.iter().map(|node| node.led_queue_depths(vhost));
        Ok(led.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Waits until `expected` returns true for the number of the node that leads the queue, and returns that number.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Timeout`] with the last leader.
    pub fn wait_leader(
        &self,
        vhost: &str,
        queue: &str,
        limit: Duration,
        expected: impl Fn(usize) -> bool,
    ) -> Result<usize, HarnessError> {
        let mut last = None;
        let reached = poll_until(limit, "a queue's leader", || {
            last = self.leader(vhost, queue).ok().flatten();
            Ok(last.filter(|leader| expected(*leader)))
        });
        reached.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => HarnessError::Timeout {
                what: format!("queue {queue:?} getting the expected leader (last seen: node {last:?})"),
                limit,
            },
            other => other,
        })
    }

    /// Makes a node the leader of a quorum queue, and returns when it is.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Refused`] if the queue is no quorum queue or the node has no running replica of it;
    /// [`HarnessError::Timeout`] if another node still leads after 30 s.
    pub fn move_leader(&self, vhost: &str, queue: &str, node: usize) -> Result<(), HarnessError> {
        let target = &self.node(node)?.layout.name;
        let from = self.wait_leader(vhost, queue, MOVE_LIMIT, |_| true)?;
        let expression = format!(
            "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({}, queue, {})), \
             {{Name, _}} = amqqueue:get_pid(Queue), \
             case ra:transfer_leadership({{Name, node()}}, {{Name, binary_to_atom({})}}) of \
               ok -> <<>>; already_leader -> <<>> end",
            binary(vhost),
            binary(queue),
            binary(target)
        );
        self.node(from)?.admin("move_leader", &expression)?;
        self.wait_leader(vhost, queue, MOVE_LIMIT, |leader| leader == node).map(drop)
    }
}
