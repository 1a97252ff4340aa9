//! What the connections of one service share.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use tokio::sync::Mutex;

use crate::{
    base::observer::Observers,
    link::{endpoint_order::Endpoints, outage::Away, unreached::UnreachedQueues},
};

/// What the connections of one service share: facts about the broker, the service's observers, and what the log says of
/// an outage.
#[derive(Default)]
pub(crate) struct Learned {
    /// The most channels on a connection, as negotiated last; 0 before the first connection.
    channel_max: AtomicU16,
    pub(crate) observers: Observers,
    pub(crate) away: Arc<Away>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) unreached: UnreachedQueues,
    /// Held by the connection that declares what consumers have added.
    pub(super) adding: Mutex<()>,
}

impl Learned {
    pub(crate) fn new(observers: Observers) -> Arc<Self> {
        Arc::new(Self { observers, ..Self::default() })
    }

    pub(crate) fn connected(&self, channel_max: u16) {
        // lapin reports "no limit" as the largest number.
        self.channel_max.store(channel_max.max(1), Ordering::SeqCst);
    }

    /// Whether any connection has been established.
    pub(crate) fn has_connected(&self) -> bool {
        self.channel_max.load(Ordering::SeqCst) > 0
    }

    /// The most slots on one connection; `None` before the first connection.
    pub(crate) fn most_slots(&self) -> Option<usize> {
        self.has_connected().then(|| most_slots(self.channel_max.load(Ordering::SeqCst)))
    }
}

/// The most slots on a connection with this `channel_max`. One channel is reserved for declaring the topology.
pub(crate) fn most_slots(channel_max: u16) -> usize {
    usize::from(channel_max).saturating_sub(1)
}
