//! The supervision tree of a service, built in one place.
//!
//! ```text
//! app                              one-for-one; gives up → the service ends with the whole chain of causes
//! ├─ handlers                      one-for-one, a supervisor for each consumer
//! │  └─ alerts                     one-for-one over the handler actors
//! │     ├─ 0
//! │     └─ 1
//! ├─ publish                       one-for-one over connections
//! │  └─ publish-0                  rest-for-one: a lost socket takes its channels down
//! │     ├─ socket                  the connection actor
//! │     └─ channels                one-for-one: a closed channel is nobody else's business
//! │        └─ quakes               one-for-all: a channel and what lives on it
//! │           ├─ channel
//! │           └─ publisher
//! ├─ application                   one-for-one over the application's own actors, on a thread of their own
//! └─ consume
//!    └─ consume-0
//!       ├─ socket
//!       └─ channels
//!          └─ alerts
//!             ├─ channel
//!             └─ consumer
//! ```
//!
//! It stops from the end: consumers first, which need everything else to finish what is in flight; then the
//! application's own actors; then the publishers, which wait for their confirms; the handlers last. Handlers are not
//! children of their consumer: they live through every lost channel and connection, and finish the work they have
//! begun.

mod at_run_time;
pub(crate) mod claims;
pub(crate) mod consumer;
mod consumers;
pub(crate) mod error;
pub(crate) mod handles;
pub(crate) mod health;
mod isolation;
mod probe;
mod replay;
mod running;
pub(crate) mod signals;
pub(crate) mod status;
pub(crate) mod threads;
pub(crate) mod unstarted;

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use actix_rt::ArbiterHandle;
use fluffle_supervise::{
    ChildSpec, EventStream, Intensity, NodeSnapshot, StartChildError, State, Strategy, SupervisorHandle, SupervisorSpec,
};
use tokio::sync::watch;

use crate::{
    base::{
        drain::{Clock, Step},
        observer::{Observer, Observers},
        payload::Payload,
    },
    consume::{
        handler::adapter::{AllAtOnce, OneByOne},
        spec::{consume::Consume, middleware::Middleware},
    },
    link::{
        broker::Broker,
        channel::{self, ChannelShared, Mode},
        connection::{Learned, TopologyStore},
        pending_starts::{PendingStarts, Started},
        pool::{ConnectionSlot, Pool, Role},
    },
    publish::{self, publisher::Publisher, route::Route, send_queue::SendQueue},
    request::{actor as requester, requester::Requester},
    service::{
        claims::{Name, Names, Types},
        consumer::Consumer,
        error::ServiceError,
        handles::{Handles, HandlesBatches},
        threads::ServiceThreads,
        unstarted::{PublisherPart, RequesterPart},
    },
    topology::Topology,
};

/// How long a shutdown may take in all. Half a Kubernetes grace period.
pub const DRAIN: Duration = Duration::from_secs(15);

/// A running service: connections, publishers, consumers and handlers, in one supervision tree.
///
/// Clones are handles on the same service; dropping them stops nothing, [`shutdown`](Service::shutdown) does.
///
/// # Threads
/// A service runs on threads of its own, which belong to actix systems of its own. It can be started and awaited on any
/// executor, and beside anything else: when the application's actix system is stopped (actix-web's server stops it
/// after SIGTERM), the service runs on, until it is shut down or the process ends. A process that ends without a
/// shutdown is a process that was killed: what is unacked is delivered again, what was accepted and not confirmed is
/// lost, unless a journal has it.
///
/// For handlers, and for actors given to [`supervise`](Service::supervise), [`System::current`](actix::System::current)
/// is therefore the service's, not the application's. A `SystemService` has an instance of its own there, and an
/// [`Arbiter`](actix::Arbiter) made there ends with the service. `System::current().stop()` there is a failure: it ends
/// the service, with an error, and not the application. Give such code a handle on the application's system instead.
///
/// ```no_run
/// use fluffle_amqp::{Broker, Service, Topology, DRAIN};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let service = Service::start(Broker::from_env()?, Topology::new(), DRAIN)?;
/// service.ready().await?;
/// println!("{}", service.snapshot()); // the tree, a line for each node
/// service.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    topology: Arc<TopologyStore>,
    pub(crate) publish: Arc<Pool>,
    pub(crate) consume: Arc<Pool>,
    orders: PendingStarts,
    handlers: SupervisorHandle,
    application: SupervisorHandle,
    root: SupervisorHandle,
    threads: ServiceThreads,
    clock: Clock,
    pub(crate) observers: Observers,
    /// Its sender goes when the service has ended, and everything is handed back.
    closed: watch::Receiver<()>,
    parts: Mutex<Parts>,
    names: Names,
    types: Types,
}

/// What was added, to be looked at and closed.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) outboxes: Vec<Weak<SendQueue>>,
    requesters: Vec<Weak<requester::RequestTable>>,
    pub(crate) channels: Vec<Weak<ChannelShared>>,
    pub(crate) consumers: Vec<Arc<Consumer>>,
    /// For consumers that are added from now on, the outermost first.
    middleware: Vec<Arc<dyn Middleware>>,
    /// Names of the application's own actors that were ordered before their supervisor ran.
    ordered: HashSet<Arc<str>>,
    /// The service has ended: what is added now would be nobody's.
    over: bool,
}

impl Service {
    /// Starts the tree: connections first. Nothing here waits for the broker.
    ///
    /// It takes no actix system and no tokio runtime: the service has threads of its own. Connections, channels,
    /// consumers and publishers share one, so that no handler can keep them from answering heartbeats.
    ///
    /// # Errors
    /// When the topology is invalid, or no thread can be started.
    pub fn start(broker: Broker, topology: Topology, drain: Duration) -> Result<Self, ServiceError> {
        Self::start_observed(broker, topology, drain, Vec::new())
    }

    /// [`start`](Self::start), with observers, which see everything from the first connect on.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_observed(
        broker: Broker,
        topology: Topology,
        drain: Duration,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Self, ServiceError> {
        topology.validate()?;
        let threads = ServiceThreads::start().map_err(ServiceError::Thread)?;
        let io = threads.io();
        let broker = Arc::new(broker);
        let topology = TopologyStore::new(topology);
        let orders = PendingStarts::new(io.clone());
        let observers = Observers::from(observers);
        let learned = Learned::new(observers.clone());
        let (publish, publish_spec) = Pool::new(Role::Publish, &broker, &topology, &learned, io, &orders);
        let (consume, consume_spec) = Pool::new(Role::Consume, &broker, &topology, &learned, io, &orders);
        let apart = |name| SupervisorSpec::new(name).stops_together().intensity(Intensity::unlimited());
        let (handlers, application) = (apart("handlers"), apart("application").on(threads.application().clone()));
        let (handlers_handle, application_handle) = (handlers.handle(), application.handle());
        let clock = Clock::new(drain);
        let by = |step| {
            let clock = clock.clone();
            move || clock.left_of_shutdown(step)
        };
        let nodes = observers.nodes();
        let mut root = SupervisorSpec::new("app").strategy(Strategy::OneForOne);
        if nodes.is_heard() {
            root = root.observe(move |event| nodes.tell(event));
        }
        let root = root
            .shutdown_within(by(Step::All))
            .child(handlers.shutdown_within(by(Step::Handlers)))
            .child(publish_spec.shutdown_within(by(Step::Publishers)))
            .child(application.shutdown_within(by(Step::Application)))
            .child(consume_spec.shutdown_within(by(Step::Consumers)))
            .start_on(io);
        let (keep_open, closed) = watch::channel(());
        let inner = Inner {
            topology,
            publish,
            consume,
            orders,
            handlers: handlers_handle,
            application: application_handle,
            root,
            threads,
            clock,
            observers,
            closed,
            parts: Mutex::default(),
            names: Names::default(),
            types: Types::default(),
        };
        let service = Self { inner: Arc::new(inner) };
        service.close_at_the_end(keep_open);
        Ok(service)
    }

    /// Adds a publisher.
    ///
    /// # Errors
    /// When no channel is to be had in time.
    pub async fn publisher<T: 'static>(&self, route: Route<T>) -> Result<Publisher<T>, ServiceError> {
        let (publisher, part) = PublisherPart::new(route);
        self.add_publisher(part).await?;
        Ok(publisher)
    }

    /// Adds the publisher that `part` describes.
    ///
    /// # Errors
    /// When no channel is to be had in time, its journal is another publisher's, or its settings exclude one another.
    pub async fn add_publisher(&self, mut part: PublisherPart) -> Result<(), ServiceError> {
        if let Some(refused) = part.refused.take() {
            return Err(refused);
        }
        // All lanes, or none.
        let mut leases = Vec::with_capacity(part.outboxes.len());
        for _ in &part.outboxes {
            leases.push(self.inner.publish.lease().await?);
        }
        let outboxes = self.adopt(&mut part.outboxes, |parts| &mut parts.outboxes)?;
        for (send_queue, lease) in outboxes.into_iter().zip(leases) {
            let name = self.inner.names.take(Role::Publish, send_queue.name.wished());
            send_queue.name.give(name.to_string());
            send_queue.listen(self.inner.observers.publisher(&name));
            let mode = if part.confirms { Mode::Confirm } else { Mode::Plain };
            let shared = ChannelShared::new(name.to_string(), Arc::clone(&lease.place.shared), mode);
            let channel = channel::spec(&shared, &lease.place.connection).on(self.io());
            let actor = publish::actor::spec(&send_queue, &shared, &channel.addr(), part.confirms, &self.inner.clock);
            let started = self.add_channel(&shared, &lease, Step::PublisherChannels, channel, actor.on(self.io()));
            self.end_after(async move { send_queue.abandoned().await }, name, lease, started);
        }
        Ok(())
    }

    /// Adds a requester.
    ///
    /// # Errors
    /// When no channel is to be had in time.
    pub async fn requester<Q, R: Payload>(&self, route: Route<Q>) -> Result<Requester<Q, R>, ServiceError> {
        let (requester, part) = RequesterPart::new(route);
        self.add_requester(part).await?;
        Ok(requester)
    }

    /// Adds the requester that `part` describes.
    ///
    /// # Errors
    /// When no channel is to be had in time.
    pub async fn add_requester(&self, mut part: RequesterPart) -> Result<(), ServiceError> {
        let lease = self.inner.publish.lease().await?;
        let Some(exchange) = self.adopt(&mut part.exchanges, |parts| &mut parts.requesters)?.pop() else {
            return Ok(());
        };
        let name = self.inner.names.take(Role::Publish, exchange.name.wished());
        exchange.name.give(name.to_string());
        exchange.events.listen(self.inner.observers.requester(&name));
        let shared = ChannelShared::new(name.to_string(), Arc::clone(&lease.place.shared), Mode::Confirm);
        let channel = channel::spec(&shared, &lease.place.connection).on(self.io());
        let requester = requester::spec(&exchange, &channel.addr()).on(self.io());
        let started = self.add_channel(&shared, &lease, Step::PublisherChannels, channel, requester);
        self.end_after(async move { exchange.abandoned().await }, name, lease, started);
        Ok(())
    }

    /// Adds a consumer with its handlers, each made by `factory`, and again after each crash.
    ///
    /// # Errors
    /// When no channel is to be had in time, the retry and dead-letter queues contradict the topology, or this service
    /// consumes another type from the same queue.
    pub async fn consume<A, T, R, F>(&self, consume: Consume<T, R>, factory: F) -> Result<(), ServiceError>
    where
        A: Handles<T, R>,
        T: 'static,
        R: Payload,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (wire, reply) = (consume.wire.clone(), R::wire());
        self.add_consumer(consume, move || OneByOne { wire: wire.clone(), reply: reply.clone() }, factory).await
    }

    /// The same, with handlers that are given batches at once: `Handler<DeliveryBatch<T>>`.
    ///
    /// # Errors
    /// As [`consume`](Self::consume); and with [`Consume::ordered_by`].
    pub async fn consume_batches<A, T, F>(&self, consume: Consume<T>, factory: F) -> Result<(), ServiceError>
    where
        A: HandlesBatches<T>,
        T: 'static,
        F: Fn() -> A + Send + Sync + 'static,
    {
        consume.check_batches()?;
        let wire = consume.wire.clone();
        self.add_consumer(consume, move || AllAtOnce { wire: wire.clone() }, factory).await
    }

    /// Adds a [`Middleware`] that runs around each call of a handler of each consumer that is added to this service
    /// from now on, inside the middleware added before, and outside that of the [consumer itself](Consume::middleware).
    /// Consumers that this service already has do not change.
    pub fn middleware(&self, middleware: impl Middleware) {
        self.parts(|parts| parts.middleware.push(Arc::new(middleware)));
    }

    /// Adds an actor of the application's own, or a supervisor of several, below `app/application`. They share a
    /// thread, unless their specs name another; each is restarted for ever, after its own backoff. When the service
    /// shuts down they are stopped after the consumers and before the publishers, each within its own deadline and all
    /// within the drain's.
    ///
    /// They start after the publishers' connections are first up, which nobody here waits for: the broker may be away.
    ///
    /// # Errors
    /// When the service has ended, or supervises a child of that name already.
    pub async fn supervise(&self, child: impl Into<ChildSpec>) -> Result<(), ServiceError> {
        let child = child.into();
        let supervisor = self.snapshot();
        if supervisor.find("app/application").is_some_and(|node| node.state == State::Running) {
            return Ok(self.inner.application.start_child(child).await?);
        }
        let id: Arc<str> = child.id().into();
        self.parts(|parts| match parts.over {
            true => Err(StartChildError::SupervisorOver { id: Arc::clone(&id) }),
            false if !parts.ordered.insert(Arc::clone(&id)) => Err(StartChildError::Duplicate { id: Arc::clone(&id) }),
            false => Ok(()),
        })?;
        self.inner.orders.place(self.inner.application.clone(), child);
        Ok(())
    }

    /// Takes these from their part and remembers them, to be closed at the end; unless that has come.
    fn adopt<P>(
        &self,
        adopted: &mut Vec<Arc<P>>,
        beside: impl FnOnce(&mut Parts) -> &mut Vec<Weak<P>>,
    ) -> Result<Vec<Arc<P>>, ServiceError> {
        self.parts(|parts| {
            if parts.over {
                return Err(ServiceError::Ended("a publisher or requester".to_owned()));
            }
            let beside = beside(parts);
            adopted.iter().for_each(|part| remember(beside, part));
            Ok(std::mem::take(adopted))
        })
    }

    /// PendingStarts a channel and what lives on it. The order is taken up when the connection is first up, which
    /// nobody here waits for: the broker may be away.
    fn add_channel(
        &self,
        shared: &Arc<ChannelShared>,
        lease: &ConnectionSlot,
        closed_by: Step,
        channel: impl Into<ChildSpec>,
        resident: impl Into<ChildSpec>,
    ) -> Started {
        let clock = self.inner.clock.clone();
        self.parts(|parts| remember(&mut parts.channels, shared));
        let spec = SupervisorSpec::new(shared.name.as_str())
            .strategy(Strategy::OneForAll)
            .intensity(Intensity::unlimited())
            .shutdown_within(move || clock.left(closed_by))
            .child(channel)
            .child(resident);
        self.inner.orders.place(lease.place.channels.clone(), spec)
    }

    /// Closes the channel `name` and gives its place back once nobody can use it any more.
    fn end_after(
        &self,
        abandoned: impl Future<Output = ()> + Send + 'static,
        name: Name,
        lease: ConnectionSlot,
        started: Started,
    ) {
        self.io().spawn(async move {
            abandoned.await;
            started.wait().await;
            // Over already is just as well: the service is shutting down.
            let _ = lease.place.channels.stop_child(&name).await;
        });
    }

    /// The tree as it is now: cheap, from any thread.
    pub fn snapshot(&self) -> NodeSnapshot {
        self.inner.root.snapshot()
    }

    /// Every start, exit, restart, backoff and escalation from now on.
    pub fn events(&self) -> EventStream {
        self.inner.root.events()
    }

    fn io(&self) -> ArbiterHandle {
        self.inner.threads.io().clone()
    }

    pub(crate) fn parts<O>(&self, with: impl FnOnce(&mut Parts) -> O) -> O {
        with(&mut self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps no publisher or requester alive whose handles are gone, nor a growing list of those that were.
fn remember<P>(parts: &mut Vec<Weak<P>>, part: &Arc<P>) {
    parts.retain(|part| part.strong_count() > 0);
    parts.push(Arc::downgrade(part));
}
