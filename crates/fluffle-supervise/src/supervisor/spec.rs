//! The spec of a supervisor.

use std::{fmt, sync::Arc, time::Duration};

use actix_rt::ArbiterHandle;

use crate::{
    backoff::Backoff,
    event::Event,
    intensity::Intensity,
    mailbox::Mailbox,
    node::Node,
    policy::{Restart, Strategy},
    snapshot::NodeKind,
    spec::{ActorSpec, ChildSpec, Limit, Place},
    supervisor::{actor::Supervisor, core::Core, handle::SupervisorHandle, orders::StopChild, root::Root},
};

/// A supervisor and its children, as the root of a tree ([`start`](Self::start)) or as a child of another supervisor.
///
/// | setting | default |
/// |---|---|
/// | [`strategy`](Self::strategy) | [`Strategy::OneForOne`] |
/// | [`intensity`](Self::intensity) | 3 restarts in 5 s |
/// | [`restart`](Self::restart) (as a child) | [`Restart::Permanent`] |
/// | [`backoff`](Self::backoff) (as a child) | 100 ms to 30 s, doubling, full jitter |
/// | [`shutdown`](Self::shutdown) | the sum of its children's deadlines, plus 5 s |
/// | [`on`](Self::on), [`on_each`](Self::on_each) | the arbiter of the supervisor above |
///
/// ```
/// use std::time::Duration;
/// use actix::prelude::*;
/// use fluffle_supervise::{ActorSpec, Intensity, Strategy, SupervisorSpec};
/// # struct Socket; impl Actor for Socket { type Context = Context<Self>; }
/// # struct Consumer; impl Actor for Consumer { type Context = Context<Self>; }
///
/// let consume = SupervisorSpec::new("consume")
///     .strategy(Strategy::RestForOne) // a consumer cannot work without its socket
///     .intensity(Intensity::new(5, Duration::from_secs(60))?)
///     .child(ActorSpec::new("socket", || Socket))
///     .child(ActorSpec::new("consumer", || Consumer));
/// let app = SupervisorSpec::new("app").child(consume);
/// # let _ = app;
/// # Ok::<(), fluffle_supervise::PolicyError>(())
/// ```
#[must_use = "a supervisor does nothing until it is started or given to another one"]
pub struct SupervisorSpec {
    actor: ActorSpec<Supervisor>,
    core: Arc<Core>,
}

impl SupervisorSpec {
    /// A supervisor named `id`, without children. `id` must be unique among its siblings.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        let mailbox = Mailbox::new();
        let kind = NodeKind::Supervisor(Strategy::default());
        let node = Node::new(id.into(), kind, mailbox.clone());
        let core = Core::new(node.clone());
        let actor = ActorSpec::from_parts(node, mailbox, {
            let core = core.clone();
            move || Supervisor::new(core.clone())
        });
        let orders = actor.addr();
        core.node().set_stop_child(move |id| {
            let order = orders.send(StopChild(id));
            Box::pin(async move {
                // An error means that this supervisor or the child is already over. In both cases the child is over.
                let _ = order.await;
            })
        });
        Self {
            // The supervisor is ready when its children are.
            actor: actor.reports_ready(),
            core,
        }
    }

    /// Which children are restarted together with a child that failed. Default: [`Strategy::OneForOne`].
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.core.policy().strategy = strategy;
        self.core.node().set_kind(NodeKind::Supervisor(strategy));
        self
    }

    /// How many restarts the supervisor allows before it gives up. Default: 3 in 5 s.
    pub fn intensity(self, intensity: Intensity) -> Self {
        self.core.policy().intensity = intensity;
        self
    }

    /// Whether the supervisor, as a child, is started again after it ended. Default: [`Restart::Permanent`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.actor = self.actor.restart(restart);
        self
    }

    /// How long the supervisor, as a child, waits before a restart. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.actor = self.actor.backoff(backoff);
        self
    }

    /// How long the supervisor may take to stop with all its children. Past this deadline they are all
    /// [killed](crate::ExitReason::Killed). Default: the sum of the children's deadlines, plus 5 s.
    pub fn shutdown(self, deadline: Duration) -> Self {
        self.core.policy().shutdown = Some(Limit::Fixed(deadline));
        self
    }

    /// Like [`shutdown`](Self::shutdown), but computed each time the supervisor is asked to stop. See
    /// [`ActorSpec::shutdown_within`].
    pub fn shutdown_within(self, deadline: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.core.policy().shutdown = Some(Limit::Asked(Arc::new(deadline)));
        self
    }

    /// When the supervisor stops, it stops its children all at once, each within its own deadline, instead of one after
    /// the other in reverse order. For children that do not depend on one another: stopping many then takes only as
    /// long as the slowest.
    pub fn stops_together(self) -> Self {
        self.core.policy().together = true;
        self
    }

    /// Calls `observer` for each event of this supervisor and of everything below it, where and when it happens. Unlike
    /// a reader of [`events`](crate::SupervisorHandle::events), it misses none. It runs on the thread of whichever
    /// supervisor decides the event: it must be quick, must not block, and must not panic. The first observer counts.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use fluffle_supervise::{SupervisorSpec, What};
    ///
    /// let restarts = Arc::new(AtomicU64::new(0));
    /// let counted = Arc::clone(&restarts);
    /// let app = SupervisorSpec::new("app").observe(move |event| {
    ///     if let What::Restarting = event.what {
    ///         counted.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// });
    /// # let _ = app;
    /// ```
    pub fn observe(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.core.node().observe(observer);
        self
    }

    /// Runs the supervisor on this arbiter, and with it those of its children that name no other. Default: the arbiter
    /// of the supervisor above. See [`ActorSpec::on`].
    pub fn on(mut self, arbiter: ArbiterHandle) -> Self {
        self.actor = self.actor.on(arbiter);
        self
    }

    /// Calls `arbiter` for the arbiter of each incarnation. See [`ActorSpec::on_each`].
    pub fn on_each(mut self, arbiter: impl Fn() -> ArbiterHandle + Send + Sync + 'static) -> Self {
        self.actor = self.actor.on_each(arbiter);
        self
    }

    /// Adds a child after the others. Children start in this order, each when the one before it is ready, and stop in
    /// reverse.
    ///
    /// If two children have the same id, the supervisor fails permanently when it starts.
    pub fn child(self, child: impl Into<ChildSpec>) -> Self {
        self.core.add(child.into(), false);
        self
    }

    /// The supervisor's handle. It is valid before the start: orders then wait.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        SupervisorHandle::new(&self.core, self.actor.addr())
    }

    /// Starts the supervisor as the root of a tree on the current thread's arbiter. Nothing restarts a root:
    /// [`wait`](SupervisorHandle::wait) tells when and why it ended.
    ///
    /// # Panics
    /// Outside an actix system (`#[actix::main]`) or tokio `LocalSet`, as `Actor::start` does.
    pub fn start(self) -> SupervisorHandle {
        let handle = self.handle();
        Root::start(self.into());
        handle
    }

    /// Starts the supervisor as the root of a tree on this arbiter. If the arbiter is dead,
    /// [`wait`](SupervisorHandle::wait) returns that as the reason.
    pub fn start_on(mut self, arbiter: &ArbiterHandle) -> SupervisorHandle {
        self.actor.settings().place = Place::On(arbiter.clone());
        self.start()
    }
}

impl From<SupervisorSpec> for ChildSpec {
    fn from(SupervisorSpec { actor, core }: SupervisorSpec) -> Self {
        actor.with_deadline(move |_| core.deadline())
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSpec").field("id", self.core.node().id()).finish_non_exhaustive()
    }
}
