//! Parts of the tree that were ordered and are not there yet.

use actix_rt::ArbiterHandle;
use fluffle_supervise::{ChildSpec, SupervisorHandle};
use tokio::sync::watch;

/// PendingStarts children of supervisors that may not run yet: a connection's channels start when the connection is up.
/// Nobody waits for that to happen, but who asks whether everything runs must know what is still to come.
#[derive(Clone)]
pub(crate) struct PendingStarts {
    io: ArbiterHandle,
    open: watch::Sender<usize>,
}

impl PendingStarts {
    pub(crate) fn new(io: ArbiterHandle) -> Self {
        Self { io, open: watch::Sender::new(0) }
    }

    /// Has `supervisor` start `child` as soon as it can.
    pub(crate) fn place(&self, supervisor: SupervisorHandle, child: impl Into<ChildSpec>) {
        let child = child.into();
        self.open.send_modify(|open| *open += 1);
        let open = self.open.clone();
        self.io.spawn(async move {
            if let Err(error) = supervisor.start_child(child).await {
                tracing::debug!(%error, "the service ended before this part of it was started");
            }
            open.send_modify(|open| *open -= 1);
        });
    }

    /// How many orders are open, now and whenever that changes.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }
}
