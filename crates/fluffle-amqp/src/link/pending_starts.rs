//! Parts of the supervision tree that are to be started and have not started yet.

use actix_rt::ArbiterHandle;
use fluffle_supervise::{ChildSpec, SupervisorHandle};
use tokio::sync::{oneshot, watch};

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

    /// Lets `supervisor` start `child` as soon as it can; returns at once. Whoever stops the child later must wait for
    /// its start first, because a supervisor does not know a child before.
    pub(crate) fn place(&self, supervisor: SupervisorHandle, child: impl Into<ChildSpec>) -> Started {
        let child = child.into();
        self.pending.send_modify(|pending| *pending += 1);
        let pending = self.pending.clone();
        let (started, was_started) = oneshot::channel();
        self.io.spawn(async move {
            if let Err(error) = supervisor.start_child(child).await {
                tracing::debug!(%error, "a part of the service was not started: the service ended first");
            }
            pending.send_modify(|pending| *pending -= 1);
            drop::<oneshot::Sender<()>>(started);
        });
        Started(was_started)
    }

    /// The number of pending starts, now and after each change.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.pending.subscribe()
    }
}

/// A start that is pending.
pub(crate) struct Started(oneshot::Receiver<()>);

impl Started {
    /// Waits until the supervisor has started the child, or has ended.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender is dropped when the start is done.
        let _ = self.0.await;
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context};
    use fluffle_supervise::{ActorSpec, SupervisorSpec};
    use futures_util::FutureExt;

    use super::*;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    #[actix::test]
    async fn a_child_has_started_when_its_supervisor_has_it_and_not_when_it_was_ordered() {
        let io = actix_rt::Arbiter::current();
        let (orders, spec) = (PendingStarts::new(io.clone()), SupervisorSpec::new("channels"));
        let supervisor = spec.handle();
        let mut started = Box::pin(orders.place(supervisor.clone(), ActorSpec::new("q", || Idle)).wait());
        tokio::task::yield_now().await;
        assert!(started.as_mut().now_or_never().is_none(), "the supervisor does not run yet");
        spec.start_on(&io);
        started.await;
        assert!(supervisor.snapshot().find("channels/q").is_some());
        assert_eq!(*orders.open().borrow(), 0);
    }
}
