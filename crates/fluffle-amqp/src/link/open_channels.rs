//! The channels that are open on a connection, whose states the connection's actor checks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::ChannelStatus;

/// The channels that are open on a connection.
#[derive(Clone, Default)]
pub(super) struct OpenChannels(Arc<Mutex<Vec<(u64, ChannelStatus)>>>);

impl OpenChannels {
    /// The channel is checked until the value that this returns is dropped.
    pub(super) fn add(&self, status: ChannelStatus) -> Checked {
        let mut open = self.open();
        let number = open.last().map_or(0, |(last, _)| last + 1);
        open.push((number, status));
        Checked { open: self.clone(), number }
    }

    /// Whether one of them is closed, though its actor believes that it is open.
    pub(super) fn has_closed(&self) -> bool {
        self.open().iter().any(|(_, status)| !status.connected())
    }

    fn open(&self) -> MutexGuard<'_, Vec<(u64, ChannelStatus)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the channels of [`OpenChannels`].
pub(super) struct Checked {
    open: OpenChannels,
    number: u64,
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.open.open().retain(|(number, _)| *number != self.number);
    }
}
