//! A handle through which the rest of the program controls and observes a supervisor.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::time::timeout;

use crate::{
    addr::SupervisedAddr,
    event::EventStream,
    exit::ExitReason,
    node::Node,
    snapshot::NodeSnapshot,
    spec::ChildSpec,
    supervisor::{
        actor::Supervisor,
        core::Core,
        error::{StartChildError, StopChildError},
        orders::{StartChild, StopChild},
    },
};

/// Controls a supervisor and observes its tree, from any thread. Cheap to clone. Valid before the start and after the
/// end; dropping it stops nothing.
#[derive(Clone)]
pub struct SupervisorHandle {
    node: Arc<Node>,
    core: Weak<Core>,
    orders: SupervisedAddr<Supervisor>,
}

impl SupervisorHandle {
    pub(crate) fn new(core: &Arc<Core>, orders: SupervisedAddr<Supervisor>) -> Self {
        Self { node: core.node().clone(), core: Arc::downgrade(core), orders }
    }

    /// Adds a child after the others. The child stays: if the supervisor is restarted, it is started again. Resolves
    /// when the child is added, not when it is ready. If the supervisor is starting or backing off, the order waits.
    ///
    /// Under one-for-one the child starts at once; under the other strategies it starts when those before it are ready.
    /// When the child is over by itself ([temporary](crate::Restart::Temporary) or
    /// [transient](crate::Restart::Transient)), or is stopped, it is removed.
    ///
    /// # Cancellation
    /// Dropping the future withdraws the order if the supervisor has not taken it yet.
    ///
    /// # Errors
    /// [`StartChildError`]; the child is dropped and its mailbox closed.
    pub async fn start_child(&self, child: impl Into<ChildSpec>) -> Result<(), StartChildError> {
        let spec = child.into();
        let id = spec.node().id().clone();
        let order = self.orders.send(StartChild(spec));
        order.await.unwrap_or(Err(StartChildError::SupervisorOver { id }))
    }

    /// Stops a child and removes it. Resolves when the child is down, at the latest after its shutdown deadline.
    ///
    /// # Cancellation
    /// Dropping the future withdraws the order if the supervisor has not taken it yet. After that, the child stops all
    /// the same.
    ///
    /// # Errors
    /// [`StopChildError`].
    pub async fn stop_child(&self, id: &str) -> Result<(), StopChildError> {
        let id = Arc::from(id);
        let order = self.orders.send(StopChild(Arc::clone(&id)));
        order.await.unwrap_or(Err(StopChildError::SupervisorOver { id }))
    }

    /// Stops the supervisor and everything below it, in reverse start order and each child with its own deadline, and
    /// returns how the supervisor ended. A supervisor that is a child is stopped and removed by the supervisor above
    /// it.
    ///
    /// Whatever has not stopped by the supervisor's own deadline is killed. If the supervisor has not started yet, it
    /// never starts.
    ///
    /// # Cancellation
    /// Dropping the future does not undo the order. But a root then has no deadline any more, because this future
    /// enforces it.
    pub async fn shutdown(&self) -> ExitReason {
        match self.node.order_stop_from_above() {
            Some(stopped) => stopped.await,
            None => self.stop_root().await,
        }
        self.node.wait().await
    }

    async fn stop_root(&self) {
        // None: the spec was dropped, so the supervisor is over.
        let Some(deadline) = self.core.upgrade().map(|core| core.deadline()) else {
            return;
        };
        if !self.node.request_stop() {
            self.node.finish(ExitReason::Stopped);
        } else if timeout(deadline, self.node.wait()).await.is_err() {
            self.node.kill_current();
            self.node.finish(ExitReason::Killed);
        }
    }

    /// Resolves to the exit reason when the supervisor is over for good.
    ///
    /// Cancel-safe, and may be called any number of times.
    pub async fn wait(&self) -> ExitReason {
        self.node.wait().await
    }

    /// The state of the tree from this supervisor down. Takes a few short locks and asks no actor.
    #[must_use]
    pub fn snapshot(&self) -> NodeSnapshot {
        self.node.snapshot()
    }

    /// Whether this supervisor and everything below it are [running](crate::State::Running). Cheaper than a
    /// [`snapshot`](Self::snapshot), and asks no actor either.
    #[must_use]
    pub fn all_running(&self) -> bool {
        self.node.all_running()
    }

    /// Has an actor end as if it had crashed, so that its supervision can be watched at work: for demonstrations and
    /// tests. `path` is the actor's name in the tree, as in [`snapshot`](Self::snapshot). The actor's value is dropped
    /// as soon as its thread is free, and its supervisor does what it does after any failure.
    ///
    /// False if nothing has this path below this supervisor, if it is a supervisor, or if it does not run now.
    pub fn kill(&self, path: &str) -> bool {
        self.node.find(path).is_some_and(|node| node.doom())
    }

    /// The events of this supervisor and of everything below it, from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.node.events()
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle").field("path", &self.node.path()).finish_non_exhaustive()
    }
}
