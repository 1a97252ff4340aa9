//! The spec of a child: how its supervisor builds, places, restarts and stops it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Context};
use actix_rt::ArbiterHandle;

use crate::{
    addr::SupervisedAddr,
    backoff::Backoff,
    control::Report,
    event::Event,
    exit::{ExitReason, Panicked, Phase},
    incarnation::{self, Recipe},
    mailbox::{Mailbox, MailboxDepth},
    node::Node,
    policy::Restart,
    snapshot::NodeKind,
};

/// How long a child may take to stop if its spec sets no other deadline.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(5);

/// How a supervisor builds an actor, places it, restarts it and stops it.
///
/// | setting | default |
/// |---|---|
/// | [`restart`](Self::restart) | [`Restart::Permanent`] |
/// | [`backoff`](Self::backoff) | 100 ms to 30 s, doubling, full jitter |
/// | [`shutdown`](Self::shutdown) | 5 s |
/// | [`mailbox`](Self::mailbox) | 64 messages |
/// | [`on`](Self::on), [`on_each`](Self::on_each) | the supervisor's own arbiter |
/// | [`reports_ready`](Self::reports_ready) | no: ready as soon as it has started |
///
/// ```
/// use std::time::Duration;
/// use actix::prelude::*;
/// use fluffle_supervise::{ActorSpec, Backoff, Restart};
///
/// struct Journal { path: &'static str }
///
/// impl Actor for Journal {
///     type Context = Context<Self>;
/// }
///
/// let journal = ActorSpec::new("journal", || Journal { path: "journal.log" })
///     .restart(Restart::Transient)
///     .backoff(Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5))?)
///     .shutdown(Duration::from_secs(10))
///     .mailbox(1024);
/// let addr = journal.addr(); // valid before the start
/// # let _ = addr;
/// # Ok::<(), fluffle_supervise::PolicyError>(())
/// ```
#[must_use = "an actor starts when its spec is given to a supervisor"]
pub struct ActorSpec<A: Actor<Context = Context<A>>> {
    recipe: Recipe<A>,
    settings: Settings,
}

/// The settings that an actor and a supervisor have in common as children.
pub(crate) struct Settings {
    pub(crate) owner: Owner,
    pub(crate) place: Place,
    pub(crate) restart: Restart,
    pub(crate) backoff: Backoff,
    pub(crate) shutdown: Limit,
}

/// A time limit: fixed, or computed by a function each time it is needed.
#[derive(Clone)]
pub(crate) enum Limit {
    Fixed(Duration),
    Asked(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Limit {
    pub(crate) fn get(&self) -> Duration {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Asked(limit) => limit(),
        }
    }
}

/// Owns a node. Dropping the owner ends the node for good.
pub(crate) struct Owner(pub(crate) Arc<Node>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.finish(ExitReason::Stopped);
    }
}

/// The arbiter on which incarnations run.
pub(crate) enum Place {
    /// On the supervisor's own thread.
    Here,
    On(ArbiterHandle),
    Each(Box<dyn Fn() -> ArbiterHandle + Send + Sync>),
}

impl<A: Actor<Context = Context<A>>> ActorSpec<A> {
    /// A child named `id`. `factory` builds a new value for each incarnation, on the child's own arbiter, so a crash
    /// never leaves a broken value to the next incarnation. The actor need not be `Send`.
    ///
    /// `id` must be unique among its siblings. A panic in `factory` counts as a crash of the child.
    pub fn new(id: impl Into<Arc<str>>, factory: impl Fn() -> A + Send + Sync + 'static) -> Self {
        let mailbox = Mailbox::new();
        let node = Node::new(id.into(), NodeKind::Actor, mailbox.clone());
        Self::from_parts(node, mailbox, factory)
    }

    pub(crate) fn from_parts(
        node: Arc<Node>,
        mailbox: Arc<Mailbox<A>>,
        factory: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        Self {
            recipe: Recipe { factory: Box::new(factory), hooks: Vec::new(), mailbox, reports_ready: false },
            settings: Settings {
                owner: Owner(node),
                place: Place::Here,
                restart: Restart::default(),
                backoff: Backoff::default(),
                shutdown: Limit::Fixed(SHUTDOWN),
            },
        }
    }

    /// The child's address. It is valid before the start: messages then wait in the mailbox.
    #[must_use]
    pub fn addr(&self) -> SupervisedAddr<A> {
        SupervisedAddr::new(self.recipe.mailbox.clone())
    }

    /// Runs the child on this arbiter. Default: the supervisor's own.
    ///
    /// If the arbiter dies, the child cannot be restarted: its supervisor escalates (a [temporary](Restart::Temporary)
    /// child is just over). [`on_each`](Self::on_each) avoids that. An arbiter dies with the actix system of the thread
    /// that made it.
    pub fn on(mut self, arbiter: ArbiterHandle) -> Self {
        self.settings.place = Place::On(arbiter);
        self
    }

    /// Calls `arbiter` for the arbiter of each incarnation. Use it to spread children over threads, or to give a child
    /// a fresh thread when its arbiter died. `arbiter` is called on the supervisor's thread and must not block. A panic
    /// in it counts as a crash of the child.
    pub fn on_each(mut self, arbiter: impl Fn() -> ArbiterHandle + Send + Sync + 'static) -> Self {
        self.settings.place = Place::Each(Box::new(arbiter));
        self
    }

    /// Whether the child is started again after it ended. Default: [`Restart::Permanent`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.settings.restart = restart;
        self
    }

    /// How long the child waits before a restart. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How long the child may take to stop when asked. Past this deadline it is [killed](ExitReason::Killed). Default:
    /// 5 s.
    pub fn shutdown(mut self, deadline: Duration) -> Self {
        self.settings.shutdown = Limit::Fixed(deadline);
        self
    }

    /// Like [`shutdown`](Self::shutdown), but computed each time the child is asked to stop, for children that share
    /// the time of one shutdown. `deadline` is called on the supervisor's thread and must be quick.
    pub fn shutdown_within(mut self, deadline: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.settings.shutdown = Limit::Asked(Arc::new(deadline));
        self
    }

    /// How many messages may wait in the child's mailbox. 0 counts as 1. Default: 64.
    pub fn mailbox(self, capacity: usize) -> Self {
        self.recipe.mailbox.resize(capacity);
        self
    }

    /// The child is ready only when it calls [`ctx.ready()`](crate::SupervisedContext::ready); later siblings wait for
    /// that. Default: the child is ready when `started` has returned and the futures that `started` told the context to
    /// wait for are done.
    pub fn reports_ready(mut self) -> Self {
        self.recipe.reports_ready = true;
        self
    }

    /// Runs `hook` with the context of each incarnation, after the factory and before `started`, for example to spawn a
    /// future into the context. Several hooks run in the order given. A panic in a hook counts as a panic of the
    /// factory.
    pub fn in_context(mut self, hook: impl Fn(&mut Context<A>) + Send + Sync + 'static) -> Self {
        self.recipe.hooks.push(Box::new(hook));
        self
    }

    /// Snapshots show the depth that `gauge` returns instead of the mailbox's. Use it for an actor that takes its work
    /// from a queue of its own. `gauge` is called by the thread that takes the snapshot and must be quick.
    pub fn mailbox_gauge(self, gauge: impl Fn() -> MailboxDepth + Send + Sync + 'static) -> Self {
        self.settings.owner.0.set_gauge(Box::new(gauge));
        self
    }

    /// Snapshots show the text that `note` returns after the actor's state. Use it for a condition that the state does
    /// not tell, such as "paused". If `note` returns `None`, snapshots show nothing. `note` is called by the thread
    /// that takes the snapshot and must be quick.
    pub fn note(self, note: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.settings.owner.0.set_note(Box::new(note));
        self
    }

    /// Calls `observer` for each event of this actor, where and when it happens: see
    /// [`SupervisorSpec::observe`](crate::SupervisorSpec::observe), which has the same conditions.
    pub fn observe(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.settings.owner.0.observe(observer);
        self
    }

    /// For an actor that writes log lines of its own about some of its exits: if `logs` returns true for an exit, the
    /// supervisor logs that exit and the restart after it at `debug`. By default it logs them at `warn`, except
    /// [normal](ExitReason::is_normal) exits after which the actor is not started again. Permanent exits are logged at
    /// `error` in any case.
    ///
    /// `logs` is called once for each exit, after the actor was dropped, on the supervisor's thread. It must be quick
    /// and must not panic. The first call of this method counts.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// use actix::prelude::*;
    /// use fluffle_supervise::ActorSpec;
    ///
    /// struct Link { is_logged: Arc<AtomicBool> }
    ///
    /// impl Actor for Link {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Drop for Link {
    ///     fn drop(&mut self) {
    ///         eprintln!("the link is lost");
    ///         self.is_logged.store(true, Ordering::SeqCst);
    ///     }
    /// }
    ///
    /// let is_logged = Arc::new(AtomicBool::new(false));
    /// let each = Arc::clone(&is_logged);
    /// let link = ActorSpec::new("link", move || Link { is_logged: Arc::clone(&each) })
    ///     .logs_exits(move |_| is_logged.swap(false, Ordering::SeqCst));
    /// # let _ = link;
    /// ```
    pub fn logs_exits(self, logs: impl Fn(&ExitReason) -> bool + Send + Sync + 'static) -> Self {
        self.settings.owner.0.set_logs(Box::new(logs));
        self
    }

    pub(crate) fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.settings.owner.0
    }

    /// Converts to a [`ChildSpec`]. `deadline` gets the child's own shutdown limit and returns the one that applies; it
    /// is called each time the limit is needed.
    pub(crate) fn with_deadline(self, deadline: impl Fn(Duration) -> Duration + Send + Sync + 'static) -> ChildSpec {
        let recipe = Arc::new(self.recipe);
        ChildSpec {
            settings: self.settings,
            deadline: Box::new(deadline),
            spawn: Box::new(move |report| {
                let recipe = recipe.clone();
                Box::new(move || incarnation::spawn(recipe, report))
            }),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for ActorSpec<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSpec").field("id", self.node().id()).finish_non_exhaustive()
    }
}

/// A child of any kind, made from an [`ActorSpec`] or a [`SupervisorSpec`](crate::SupervisorSpec) by `into()`.
pub struct ChildSpec {
    pub(crate) settings: Settings,
    deadline: Box<dyn Fn(Duration) -> Duration + Send + Sync>,
    spawn: Box<dyn Fn(Report) -> Spawn + Send + Sync>,
}

/// Starts one incarnation on the thread that runs it.
type Spawn = Box<dyn FnOnce() + Send>;

impl<A: Actor<Context = Context<A>>> From<ActorSpec<A>> for ChildSpec {
    fn from(spec: ActorSpec<A>) -> Self {
        spec.with_deadline(|own| own)
    }
}

impl ChildSpec {
    /// The child's name, unique among its siblings.
    #[must_use]
    pub fn id(&self) -> &str {
        self.node().id()
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.settings.owner.0
    }

    /// How long the child may take to stop.
    pub(crate) fn deadline(&self) -> Duration {
        (self.deadline)(self.settings.shutdown.get())
    }

    /// Starts an incarnation on its arbiter. `report` tells the supervisor how it ends, even if it cannot start.
    pub(crate) fn spawn(&self, mut report: Report) {
        let arbiter = match &self.settings.place {
            Place::Here => return (self.spawn)(report)(),
            Place::On(arbiter) => arbiter.clone(),
            Place::Each(source) => match catch_unwind(AssertUnwindSafe(source)) {
                Ok(arbiter) => arbiter,
                Err(payload) => {
                    return report.exited(ExitReason::Panicked(Panicked::new(&*payload, Phase::Factory)));
                }
            },
        };
        // A dead arbiter drops the function and with it the report, which then reports `ArbiterDied`.
        arbiter.spawn_fn((self.spawn)(report));
    }

    /// Whether the child can be restarted although the arbiter of its last incarnation died.
    pub(crate) fn survives_its_arbiter(&self) -> bool {
        matches!(self.settings.place, Place::Each(_))
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("id", &self.id()).finish_non_exhaustive()
    }
}
