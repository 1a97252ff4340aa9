//! Parts of the tree that were ordered and are not there yet.

use actix_rt::ArbiterHandle;
use fluffle_supervise::{ChildSpec, SupervisorHandle};
use tokio::sync::{oneshot, watch};

/// PendingStarts children of supervisors that may not run yet: a connection's channels start when the connection is up. Nobody
/// waits for that to happen, but who asks whether everything runs must know what is still to come.
#[derive(Clone)]
pub(crate) struct PendingStarts {
    io: ArbiterHandle,
    open: watch::Sender<usize>,
}

impl PendingStarts {
    pub(crate) fn new(io: ArbiterHandle) -> Self {
        Self { io, open: watch::Sender::new(0) }
    }

    /// Has `supervisor` start `child` as soon as it can. Nobody needs to wait for that, but whoever stops the child
    /// later must: a supervisor does not know a child before.
    pub(crate) fn place(&self, supervisor: SupervisorHandle, child: impl Into<ChildSpec>) -> Started {
        let child = child.into();
        self.open.send_modify(|open| *open += 1);
        let open = self.open.clone();
        let (started, was_started) = oneshot::channel();
        self.io.spawn(async move {
            if let Err(error) = supervisor.start_child(child).await {
                tracing::debug!(%error, "the service ended before this part of it was started");
            }
            open.send_modify(|open| *open -= 1);
            drop::<oneshot::Sender<()>>(started);
        });
        Started(was_started)
    }

    /// How many orders are open, now and whenever that changes.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }
}

/// A child that was ordered.
pub(crate) struct Started(oneshot::Receiver<()>);

impl Started {
    /// Waits until its supervisor has it, or has ended.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender goes when the order has been carried out.
        let _ = self.0.await;
    }
}
