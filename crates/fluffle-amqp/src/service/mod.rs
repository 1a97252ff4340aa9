//! Builds the supervision tree of a service.
//!
//! ```text
//! app                              one-for-one; if it gives up, the service ends with the chain of causes
//! ├─ handlers                      one-for-one, a supervisor for each consumer
//! │  └─ alerts                     one-for-one over the handler actors
//! │     ├─ 0
//! │     └─ 1
//! ├─ publish                       one-for-one over connections
//! │  └─ publish-0                  rest-for-one: a lost socket takes its channels down
//! │     ├─ socket                  the connection actor
//! │     └─ channels                one-for-one: a closed channel does not affect the others
//! │        └─ quakes               one-for-all: a channel and the actor that uses it
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
//! A shutdown stops the branches in reverse order. Consumers stop first, because they need all other parts to finish
//! the deliveries in hand. Then the application's own actors stop, then the publishers, which wait for their confirms,
//! and the handlers last. Handlers are not children of their consumer, so they outlive lost channels and connections
//! and finish the work that they have begun.

mod at_run_time;
pub(crate) mod claims;
pub(crate) mod consumer;
mod consumers;
pub(crate) mod error;
pub(crate) mod handler_place;
mod handler_specs;
pub(crate) mod health;
mod io_watch;
mod isolation;
mod off_io;
mod probe;
mod replay;
mod running;
pub(crate) mod signals;
pub(crate) mod status;
pub(crate) mod stores;
pub(crate) mod threads;
pub(crate) mod unstarted;

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use actix::{Actor, Context};
use actix_rt::ArbiterHandle;
use fluffle_supervise::{
    ChildSpec, EventStream, Intensity, NodeSnapshot, StartChildError, State, Strategy, SupervisorHandle, SupervisorSpec,
};
use tokio::sync::watch;

use crate::{
    base::{
        drain::{Clock, Step},
        observer::{Observer, Observers},
        one_of::OneOf,
        payload::Payload,
    },
    consume::{
        handler::{
            adapter::{AllAtOnce, OneByOne, OneOfEach},
            handles::{HandledBy, Handles, HandlesBatches},
        },
        spec::{consume::Consume, middleware::Middleware},
    },
    link::{
        broker::Broker,
        channel::{self, ChannelShared, Mode},
        learned::Learned,
        pending_starts::{PendingStarts, Started},
        pool::{ConnectionSlot, Pool, Role},
        topology_store::TopologyStore,
    },
    publish::{self, publisher::Publisher, route::Route, send_queue::SendQueue},
    request::{actor as requester, requester::Requester},
    service::{
        claims::{Name, Names, TypeClaims},
        consumer::Consumer,
        error::ServiceError,
        threads::ServiceThreads,
        unstarted::{PublisherPart, RequesterPart},
    },
    topology::Topology,
};

/// The default time limit for a whole shutdown: 15 s, half of Kubernetes' default grace period.
pub const DRAIN: Duration = Duration::from_secs(15);

/// A running service: connections, publishers, consumers and handlers, in one supervision tree.
///
/// Clones are handles on the same service. Dropping a handle, even the last one, does not stop the service;
/// [`shutdown`](Service::shutdown) does.
///
/// # Threads
/// A service runs on threads of its own, which belong to actix systems of its own. So it can be started and awaited on
/// any executor. When the application's actix system is stopped (actix-web's server stops it after SIGTERM), the
/// service runs on until it is shut down or the process ends. If the process ends without a shutdown, the effect is the
/// same as if it was killed: the broker delivers unacked messages again, and messages that were accepted and not
/// confirmed are lost, unless they are in a journal.
///
/// For handlers, and for actors given to [`supervise`](Service::supervise), [`System::current`](actix::System::current)
/// is therefore the service's, not the application's. A `SystemService` has a separate instance there, and an
/// [`Arbiter`](actix::Arbiter) made there ends with the service. If such an actor calls `System::current().stop()`, the
/// service ends with an error, and the application runs on. To stop the application, give the actor a handle on the
/// application's system.
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
    name: Box<str>,
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
    /// Closes when the service has ended and every unpublished message is returned to its caller. Nothing is ever sent.
    closed: watch::Receiver<()>,
    parts: Mutex<Parts>,
    names: Names,
    types: TypeClaims,
}

/// The parts that were added to the service, for status calls and for the end of the service.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) send_queues: Vec<Weak<SendQueue>>,
    requesters: Vec<Weak<requester::RequestTable>>,
    pub(crate) channels: Vec<Weak<ChannelShared>>,
    pub(crate) consumers: Vec<Arc<Consumer>>,
    /// The middleware for consumers that are added from now on, the outermost first.
    middleware: Vec<Arc<dyn Middleware>>,
    /// The ids of the application's own actors that were passed to `supervise` before their supervisor ran.
    ordered: HashSet<Arc<str>>,
    /// Whether the service has ended. Nothing may be added then, because nothing would close it.
    over: bool,
}

impl Service {
    /// Starts the supervision tree and returns at once, without waiting for the broker.
    ///
    /// The caller needs no actix system and no tokio runtime, because the service has threads of its own. Connections,
    /// channels, consumers and publishers share one thread that runs no handler, unless a consumer asks for it
    /// ([`Consume::on_io`]), so a handler that blocks its thread cannot keep them from answering heartbeats.
    ///
    /// # Errors
    /// If the topology is invalid, or the operating system cannot start a thread.
    pub fn start(broker: Broker, topology: Topology, drain: Duration) -> Result<Self, ServiceError> {
        Self::start_observed(broker, topology, drain, Vec::new())
    }

    /// Like [`start`](Self::start), with `observers`, which see every event from the first connect on.
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
            name: broker.name.as_str().into(),
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
            types: TypeClaims::default(),
        };
        let service = Self { inner: Arc::new(inner) };
        service.close_at_the_end(keep_open);
        Ok(service)
    }

    /// Adds a publisher.
    ///
    /// # Errors
    /// If no channel becomes free in time, and as [`add_publisher`](Self::add_publisher).
    pub async fn publisher<T: 'static>(&self, route: Route<T>) -> Result<Publisher<T>, ServiceError> {
        let (publisher, part) = PublisherPart::new(route);
        self.add_publisher(part).await?;
        Ok(publisher)
    }

    /// Adds the publisher that `part` describes.
    ///
    /// # Errors
    /// If no channel becomes free in time, another publisher uses the journal, two settings exclude one another, or the
    /// service has ended.
    pub async fn add_publisher(&self, mut part: PublisherPart) -> Result<(), ServiceError> {
        if let Some(refused) = part.refused.take() {
            return Err(refused);
        }
        // Acquire the slots of all lanes first, so that either all lanes are added or none.
        let mut slots = Vec::with_capacity(part.send_queues.len());
        for _ in &part.send_queues {
            slots.push(self.inner.publish.lease().await?);
        }
        let send_queues = self.adopt(&mut part.send_queues, |parts| &mut parts.send_queues)?;
        for (send_queue, slot) in send_queues.into_iter().zip(slots) {
            let name = self.inner.names.take(Role::Publish, send_queue.name.wished());
            send_queue.name.give(name.to_string());
            send_queue.tracer.set(self.inner.observers.publish_tracer(&name));
            send_queue.listen(self.inner.observers.publisher(&name));
            let mode = if part.confirms { Mode::Confirm } else { Mode::Plain };
            let traffic: Weak<SendQueue> = Arc::downgrade(&send_queue);
            let shared = ChannelShared::new(name.to_string(), Arc::clone(&slot.place.shared), mode, Some(traffic));
            let channel = channel::spec(&shared, &slot.place.connection).on(self.io());
            let actor = publish::actor::spec(&send_queue, &shared, &channel.addr(), part.confirms, &self.inner.clock);
            let started = self.add_channel(&shared, &slot, Step::PublisherChannels, channel, actor.on(self.io()));
            self.end_after(async move { send_queue.abandoned().await }, name, slot, started);
        }
        Ok(())
    }

    /// Adds a requester.
    ///
    /// # Errors
    /// As [`add_requester`](Self::add_requester).
    pub async fn requester<Q, R: Payload>(&self, route: Route<Q>) -> Result<Requester<Q, R>, ServiceError> {
        let (requester, part) = RequesterPart::new(route);
        self.add_requester(part).await?;
        Ok(requester)
    }

    /// Adds the requester that `part` describes.
    ///
    /// # Errors
    /// If no channel becomes free in time, or the service has ended.
    pub async fn add_requester(&self, mut part: RequesterPart) -> Result<(), ServiceError> {
        let slot = self.inner.publish.lease().await?;
        let Some(table) = self.adopt(&mut part.request_tables, |parts| &mut parts.requesters)?.pop() else {
            return Ok(());
        };
        let name = self.inner.names.take(Role::Publish, table.name.wished());
        table.name.give(name.to_string());
        table.tracer.set(self.inner.observers.publish_tracer(&name));
        table.events.listen(self.inner.observers.requester(&name));
        let shared = ChannelShared::new(name.to_string(), Arc::clone(&slot.place.shared), Mode::Confirm, None);
        let channel = channel::spec(&shared, &slot.place.connection).on(self.io());
        let requester = requester::spec(&table, &shared, &channel.addr()).on(self.io());
        let started = self.add_channel(&shared, &slot, Step::PublisherChannels, channel, requester);
        self.end_after(async move { table.abandoned().await }, name, slot, started);
        Ok(())
    }

    /// Adds a consumer and its handlers. `factory` makes each handler, and makes a new one after each crash.
    ///
    /// # Errors
    /// If no channel becomes free in time, the retry and dead-letter queues contradict the topology, settings exclude
    /// one another, this service consumes another type from the same queue, no thread can be started, or the service
    /// has ended.
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

    /// Like [`consume`](Self::consume), for a queue that carries several types: each message goes to the handler of its
    /// type.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    pub async fn consume_types<A, L, R, F>(&self, consume: Consume<OneOf<L>, R>, factory: F) -> Result<(), ServiceError>
    where
        A: Actor<Context = Context<A>>,
        L: HandledBy<A, R>,
        R: Payload,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (wire, reply) = (consume.wire.clone(), R::wire());
        let each = move || OneOfEach(OneByOne { wire: wire.clone(), reply: reply.clone() });
        self.add_consumer(consume, each, factory).await
    }

    /// Like [`consume`](Self::consume), but a handler gets a whole batch in one call: `Handler<DeliveryBatch<T>>`.
    ///
    /// # Errors
    /// As [`consume`](Self::consume); also if [`Consume::ordered_by`] is set.
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

    /// Adds an actor of the application's own, or a supervisor of several such actors, below `app/application`. All
    /// these children share a thread, unless their specs name another one. Each is restarted without limit, after its
    /// own backoff. A shutdown stops them after the consumers and before the publishers, each within its own deadline
    /// and all within the drain's.
    ///
    /// The children start after the publishers' connections are up for the first time. This call does not wait for
    /// that, because the broker may be away.
    ///
    /// # Errors
    /// If the service has ended, or has a child of that name below `app/application` already.
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

    /// Moves `adopted` out of its part and remembers it in `beside`, so that the end of the service closes it. Fails if
    /// the service has ended.
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

    /// Requests the start of a channel and of `resident`, the actor that uses it. The connection's supervisor starts
    /// both once the connection is up for the first time. This call does not wait for that, because the broker may be
    /// away.
    fn add_channel(
        &self,
        shared: &Arc<ChannelShared>,
        slot: &ConnectionSlot,
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
        self.inner.orders.place(slot.place.channels.clone(), spec)
    }

    /// Starts a task that waits for `abandoned`, then closes the channel `name` and frees its slot.
    fn end_after(
        &self,
        abandoned: impl Future<Output = ()> + Send + 'static,
        name: Name,
        slot: ConnectionSlot,
        started: Started,
    ) {
        self.io().spawn(async move {
            abandoned.await;
            started.wait().await;
            // An error means that the channel is gone already, because the service is shutting down.
            let _ = slot.place.channels.stop_child(&name).await;
        });
    }

    /// Ends an actor of the tree as if it had crashed, for demonstrations and tests: see [`SupervisorHandle::kill`].
    /// `path` is the actor's path in the tree, as [`snapshot`](Self::snapshot) shows it. Returns `false` if no such
    /// actor runs.
    pub fn kill_node(&self, path: &str) -> bool {
        self.inner.root.kill(path)
    }

    /// The application's name, as [`Broker::name`] set it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Takes a snapshot of the supervision tree. The call is cheap and works on any thread.
    pub fn snapshot(&self) -> NodeSnapshot {
        self.inner.root.snapshot()
    }

    /// The events of the supervision tree from now on: every start, exit, restart, backoff and escalation.
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

/// Adds `part` to `parts`. The list holds weak references, so it does not keep a part alive whose handles are gone, and
/// entries of dropped parts are removed here, so it does not grow without limit.
fn remember<P>(parts: &mut Vec<Weak<P>>, part: &Arc<P>) {
    parts.retain(|part| part.strong_count() > 0);
    parts.push(Arc::downgrade(part));
}
