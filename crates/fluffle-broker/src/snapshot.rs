//! The broker's state at one moment.

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
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Messages ready for delivery.
    pub ready: usize,
    /// Bytes in the bodies of the ready messages.
    pub ready_bytes: u64,
    /// Messages delivered and not yet acknowledged.
    pub unacked: usize,
    /// Consumers.
    pub consumers: usize,
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
