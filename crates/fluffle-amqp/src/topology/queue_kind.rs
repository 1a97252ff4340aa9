//! The kinds of queues, what a full queue does, and on which node a queue begins.

use std::fmt;

/// The kind of a queue (`x-queue-type`).
///
/// See [queue types](https://www.rabbitmq.com/docs/queues#optional-arguments).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// A queue on one node: the only kind that may be exclusive, temporary or transient, or have priorities. The broker
    /// moves its dead letters without confirms.
    Classic,
    /// A queue replicated by Raft: the kind for messages that must not be lost.
    Quorum,
    /// A replicated log; reading does not remove messages. [`Consume::stream`](crate::Consume::stream) reads it.
    Stream,
}

impl QueueKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a full queue does (`x-overflow`).
///
/// See [queue length limits](https://www.rabbitmq.com/docs/maxlength#overflow-behaviour).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Drops or dead-letters the oldest message. RabbitMQ's default.
    DropHead,
    /// Refuses the new message: a publisher with confirms receives a nack.
    RejectPublish,
    /// Refuses the new message and dead-letters it. Classic queues only.
    RejectPublishDlx,
}

impl Overflow {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// On which node of a cluster a new queue begins (`x-queue-leader-locator`). Of a queue that exists nothing changes.
///
/// See [leader placement](https://www.rabbitmq.com/docs/quorum-queues#leader-placement).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderLocator {
    /// On the node to which the declaring client is connected. RabbitMQ's default.
    ClientLocal,
    /// Spread over the nodes. Since RabbitMQ 3.10.
    Balanced,
}

impl LeaderLocator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ClientLocal => "client-local",
            Self::Balanced => "balanced",
        }
    }
}
