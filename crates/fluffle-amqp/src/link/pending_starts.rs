//! Parts of the supervision tree that are to be started and have not started yet.

use actix_rt::ArbiterHandle;
use fluffle_supervise::{ChildSpec, SupervisorHandle};
use tokio::sync::watch;

/// Counts the children that supervisors are still to start. A supervisor may not run yet: a connection's channels start
/// when the connection is up. No caller waits for such a start, but whether the service is ready depends on the starts
/// that are pending.
#[derive(Clone)]
pub(crate) struct PendingStarts {
    io: ArbiterHandle,
    pending: watch::Sender<usize>,
}

impl PendingStarts {
    pub(crate) fn new(io: ArbiterHandle) -> Self {
        Self { io, pending: watch::Sender::new(0) }
    }

    /// Lets `supervisor` start `child` as soon as it can; returns at once.
    pub(crate) fn place(&self, supervisor: SupervisorHandle, child: impl Into<ChildSpec>) {
        let child = child.into();
        self.pending.send_modify(|pending| *pending += 1);
        let pending = self.pending.clone();
        self.io.spawn(async move {
            if let Err(error) = supervisor.start_child(child).await {
                tracing::debug!(%error, "a part of the service was not started: the service ended first");
            }
            pending.send_modify(|pending| *pending -= 1);
        });
    }

    /// The number of pending starts, now and after each change.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.pending.subscribe()
    }
}
