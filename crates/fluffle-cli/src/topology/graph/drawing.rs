//! What a drawing shows, whatever the format.

/// What the drawing shows.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

#[derive(Debug)]
pub(super) struct Node {
    /// The first line is the name.
    pub(super) lines: Vec<String>,
    pub(super) look: NodeLook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeLook {
    Exchange,
    Queue,
    /// A queue in which messages wait until they go back.
    Retry,
    /// A queue that takes dead letters of others.
    DeadLetters,
    /// Named, but not in the topology.
    Elsewhere,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: String,
    pub(super) look: EdgeLook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgeLook {
    Binding,
    /// What a queue rejects, drops or expires.
    DeadLetter,
    /// What has waited in a retry queue.
    Retry,
    /// What an exchange cannot route.
    Alternate,
}
