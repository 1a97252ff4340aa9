//! The kinds of queues that are compared.

use crate::wire::Value;

/// A kind of queue, with a number of replicas, and the node that its clients are connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// `x-queue-type`.
    pub(crate) of: &'static str,
    pub(crate) replicas: u8,
    /// Whether its clients are on another node than its leader.
    pub(crate) is_remote: bool,
}

/// The first one is what the others are compared with.
pub(crate) const ALL: [Kind; 7] = [
    Kind { name: "classic", of: "classic", replicas: 1, is_remote: false },
    Kind { name: "quorum x1", of: "quorum", replicas: 1, is_remote: false },
    Kind { name: "quorum x3", of: "quorum", replicas: 3, is_remote: false },
    Kind { name: "stream x1", of: "stream", replicas: 1, is_remote: false },
    Kind { name: "stream x3", of: "stream", replicas: 3, is_remote: false },
    Kind { name: "classic, clients at another node", of: "classic", replicas: 1, is_remote: true },
    Kind { name: "quorum x3, clients at a follower", of: "quorum", replicas: 3, is_remote: true },
];

impl Kind {
    /// The arguments of the queue. Its leader is on the node at which it is declared, which is RabbitMQ's default.
    pub(crate) fn arguments(self) -> Vec<(&'static str, Value)> {
        let replicas = i64::from(self.replicas);
        let mut arguments = vec![("x-queue-type", Value::Text(self.of))];
        match self.of {
            "quorum" => arguments.push(("x-quorum-initial-group-size", Value::Int(replicas))),
            "stream" => arguments.push(("x-initial-cluster-size", Value::Int(replicas))),
            _ => {}
        }
        arguments
    }

    /// The arguments of a consumer: a stream is read from its beginning.
    pub(crate) fn consumer(self) -> Vec<(&'static str, Value)> {
        match self.of {
            "stream" => vec![("x-stream-offset", Value::Text("first"))],
            _ => Vec::new(),
        }
    }
}
