//! The broker's state at one moment.

use std::{fmt, ops::Range};

/// What the broker holds: for assertions in tests, and for watching.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Every queue, sorted by virtual host and name.
    pub queues: Vec<QueueSnapshot>,
    /// Every open connection, in no particular order.
    pub connections: Vec<ConnectionSnapshot>,
}

impl Snapshot {
    /// The queue of that name, in any virtual host.
    pub fn queue(&self, name: &str) -> Option<&QueueSnapshot> {
        self.queues.iter().find(|queue| queue.name == name)
    }

    /// The unsettled queues: those in which a message is unacked, or ready and not [at rest](QueueSnapshot::at_rest).
    pub fn unsettled(&self) -> impl Iterator<Item = &QueueSnapshot> {
        self.queues.iter().filter(|queue| queue.unacked > 0 || queue.ready > 0 && !queue.at_rest)
    }
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Messages ready for delivery. A stream: all messages that it keeps.
    pub ready: usize,
    /// Bytes in the bodies of the ready messages.
    pub ready_bytes: u64,
    /// Messages delivered and not yet acknowledged.
    pub unacked: usize,
    /// Consumers.
    pub consumers: usize,
    /// Whether its ready messages will stay as they are: the queue has never had a consumer, and no message at its head
    /// will expire. This is true for a dead-letter queue that nobody reads, but neither for a queue whose consumer is
    /// away, nor for a retry queue.
    ///
    /// A stream keeps what was read, so it is at rest if its present consumers have been given all of it. A consumer
    /// that is away does not count, because the broker does not know where it will read on.
    pub at_rest: bool,
    /// For a stream, its offsets, from the first that is kept to the next one: `x-stream-offset` of its messages. Each
    /// segment but the first begins with an offset that has no message.
    pub offsets: Option<Range<u64>>,
}

impl fmt::Display for QueueSnapshot {
    /// `orders: 3 ready, 1 unacked, 2 consumers`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.consumers == 1 { "" } else { "s" };
        write!(f, "{}: {} ready, {} unacked, {} consumer{s}", self.name, self.ready, self.unacked, self.consumers)
    }
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// Its virtual host.
    pub vhost: String,
    /// Its user.
    pub user: String,
    /// The `connection_name` that the client gave, or nothing.
    pub name: String,
    /// Open channels.
    pub channels: usize,
}
