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
