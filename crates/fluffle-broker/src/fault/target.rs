//! What a fault by hand strikes.

/// What a fault by hand strikes: connections, and the channels and consumers on them.
///
/// [`Fault::CloseChannel`](super::Fault::CloseChannel) strikes channels,
/// [`Fault::CancelConsumer`](super::Fault::CancelConsumer) strikes consumers, and every other fault strikes
/// connections.
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
    /// All current ones.
    pub fn all() -> Self {
        Self(Chosen::All)
    }

    /// The `count` oldest connections, and everything on them.
    pub fn first(count: usize) -> Self {
        Self(Chosen::First(count))
    }

    /// Every connection to which its client gave this `connection_name`, and everything on it.
    pub fn connection(name: impl Into<String>) -> Self {
        Self(Chosen::Connection(name.into()))
    }

    /// The consumers of the queues of this name, in any virtual host, with their channels and connections.
    pub fn queue(name: impl Into<String>) -> Self {
        Self(Chosen::Queue(name.into()))
    }
}
