//! Whom a fault by hand strikes.

/// Whom a fault by hand strikes: connections, and the channels and consumers on them.
///
/// A channel is struck by [`Fault::CloseChannel`](super::Fault::CloseChannel), a consumer by
/// [`Fault::CancelConsumer`](super::Fault::CancelConsumer), a connection by the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub(crate) Chosen);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    All,
    First(usize),
    Connection(String),
    Queue(String),
}

impl Target {
    /// All there are now.
    pub fn all() -> Self {
        Self(Chosen::All)
    }

    /// The `count` oldest connections, and what is on them.
    pub fn first(count: usize) -> Self {
        Self(Chosen::First(count))
    }

    /// Every connection whose client gave it this `connection_name`, and what is on it.
    pub fn connection(name: impl Into<String>) -> Self {
        Self(Chosen::Connection(name.into()))
    }

    /// The consumers of the queues of this name, in any virtual host, with their channels and connections.
    pub fn queue(name: impl Into<String>) -> Self {
        Self(Chosen::Queue(name.into()))
    }
}
