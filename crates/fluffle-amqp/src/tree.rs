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
//! It stops from the end: consumers first, which need everything else to finish what is in flight; then the application's own
//! actors; then the publishers, which wait for their confirms; the handlers last. Handlers are not children of their consumer: they
//! live through every lost channel and connection, and finish the work they have begun.

mod consumers;
mod isolation;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use actix_rt::{Arbiter, ArbiterHandle};
use fluffle_supervise::{
    ChildSpec, EventStream, ExitReason, Intensity, NodeSnapshot, State, Strategy, SupervisorHandle, SupervisorSpec,
};
use fluffle_wire::Wire;
use futures_util::FutureExt;

use crate::{
    broker::Broker,
    channel::{self, ChannelShared, Mode},
    connection::TopologyStore,
    consume::{
        self,
        feed::{AllAtOnce, OneByOne},
        spec::Consume,
    },
    drain,
    orders::Orders,
    part::{PublisherPart, RequesterPart},
    payload::{Handles, HandlesBatches, Payload},
    pool::{Lease, Pool, Role},
    publish::{self, outbox::Outbox, publisher::Publisher, route::Route},
    request::{actor as requester, requester::Requester},
    service_error::{ServiceEnd, ServiceError},
    topology::Topology,
};

/// How long work in flight may take to finish when the service shuts down. Half a Kubernetes grace period.
pub const DRAIN: Duration = Duration::from_secs(15);

/// A running service: connections, publishers, consumers and handlers, in one supervision tree.
///
/// Clones are handles on the same service; dropping them stops nothing, [`shutdown`](Service::shutdown) does.
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
    orders: Orders,
    handlers: SupervisorHandle,
    application: SupervisorHandle,
    root: SupervisorHandle,
    io: Arbiter,
    /// Of handlers and of the application's own actors.
    arbiters: Mutex<Vec<Arbiter>>,
    drain: Duration,
    parts: Mutex<Parts>,
    names: Mutex<HashMap<String, usize>>,
}

/// What was added, to be looked at and closed.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) outboxes: Vec<Weak<Outbox>>,
    requesters: Vec<Weak<requester::Exchange>>,
    pub(crate) consumers: Vec<(String, Arc<consume::actor::Plan>)>,
}

impl Service {
    /// Starts the tree: connections first. Nothing here waits for the broker.
    ///
    /// Must be called within an actix system. Connections, channels, consumers and publishers run on an arbiter of
    /// their own, so that no handler can keep them from answering heartbeats.
    ///
    /// # Errors
    /// When the topology is invalid, or no thread can be started.
    pub fn start(broker: Broker, topology: Topology, drain: Duration) -> Result<Self, ServiceError> {
        topology.validate()?;
        let io = Arbiter::try_new().map_err(ServiceError::Thread)?;
        let broker = Arc::new(broker);
        let topology = TopologyStore::new(topology);
        let orders = Orders::new(io.handle());
        let learned = Arc::default();
        let (publish, publish_spec) = Pool::new(Role::Publish, &broker, &topology, &learned, &io.handle(), &orders);
        let (consume, consume_spec) = Pool::new(Role::Consume, &broker, &topology, &learned, &io.handle(), &orders);
        let arbiter = Arbiter::try_new().map_err(ServiceError::Thread)?;
        let apart = |name| SupervisorSpec::new(name).stops_together().intensity(Intensity::unlimited());
        let (handlers, application) = (apart("handlers"), apart("application").on(arbiter.handle()));
        let (handlers_handle, application_handle) = (handlers.handle(), application.handle());
        let root = SupervisorSpec::new("app")
            .strategy(Strategy::OneForOne)
            .child(handlers.shutdown(drain))
            .child(publish_spec.shutdown(drain + Duration::from_secs(5)))
            .child(application.shutdown(drain))
            .child(consume_spec.shutdown(drain + Duration::from_secs(5)))
            .start_on(&io.handle());
        let inner = Inner {
            topology,
            publish,
            consume,
            orders,
            handlers: handlers_handle,
            application: application_handle,
            root,
            io,
            arbiters: Mutex::new(vec![arbiter]),
            drain,
            parts: Mutex::default(),
            names: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
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
    pub async fn add_publisher(&self, part: PublisherPart) -> Result<(), ServiceError> {
        if let Some(refused) = part.refused {
            return Err(refused);
        }
        // All lanes, or none.
        let mut leases = Vec::with_capacity(part.outboxes.len());
        for _ in &part.outboxes {
            leases.push(self.inner.publish.lease().await?);
        }
        for (outbox, lease) in part.outboxes.into_iter().zip(leases) {
            let name = self.unique(Role::Publish, &outbox.name);
            let mode = if part.confirms { Mode::Confirm } else { Mode::Plain };
            let shared = ChannelShared::new(name.clone(), Arc::clone(&lease.place.shared), mode);
            let channel = channel::spec(&shared, &lease.place.connection).on(self.io());
            let actor = publish::actor::spec(&outbox, &shared, &channel.addr(), part.confirms, self.inner.drain);
            self.parts(|parts| remember(&mut parts.outboxes, &outbox));
            self.add_channel(&name, &lease, channel, actor.on(self.io()));
            self.end_after(async move { outbox.abandoned().await }, name, lease);
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
    pub async fn add_requester(&self, part: RequesterPart) -> Result<(), ServiceError> {
        let name = self.unique(Role::Publish, &part.0.name);
        let lease = self.inner.publish.lease().await?;
        let shared = ChannelShared::new(name.clone(), Arc::clone(&lease.place.shared), Mode::Confirm);
        let channel = channel::spec(&shared, &lease.place.connection).on(self.io());
        self.parts(|parts| remember(&mut parts.requesters, &part.0));
        let requester = requester::spec(&part.0, &channel.addr()).on(self.io());
        self.add_channel(&name, &lease, channel, requester);
        self.end_after(async move { part.0.abandoned().await }, name, lease);
        Ok(())
    }

    /// Adds a consumer with its handlers, each made by `factory`, and again after each crash.
    ///
    /// # Errors
    /// When no channel is to be had in time, or the retry and dead-letter queues contradict the topology.
    pub async fn consume<A, T, R, F>(&self, consume: Consume<T, R>, factory: F) -> Result<(), ServiceError>
    where
        A: Handles<T, R>,
        T: 'static,
        R: Payload,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (wire, reply) = (consume.wire.clone(), Wire::protobuf());
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

    /// Adds an actor of the application's own, or a supervisor of several, below `app/application`. They share a thread,
    /// unless their specs name another; each is restarted for ever, after its own backoff. When the service shuts down they
    /// are stopped after the consumers and before the publishers, each within its own deadline and all within the drain's.
    ///
    /// # Errors
    /// When the service has ended, or supervises a child of that name already.
    pub async fn supervise(&self, child: impl Into<ChildSpec>) -> Result<(), ServiceError> {
        Ok(self.inner.application.start_child(child).await?)
    }

    /// Orders a channel and what lives on it. The order is taken up when the connection is first up, which nobody
    /// here waits for: the broker may be away.
    fn add_channel(&self, name: &str, lease: &Lease, channel: impl Into<ChildSpec>, resident: impl Into<ChildSpec>) {
        let spec = SupervisorSpec::new(name)
            .strategy(Strategy::OneForAll)
            .intensity(Intensity::unlimited())
            .shutdown(self.inner.drain + Duration::from_secs(3))
            .child(channel)
            .child(resident);
        self.inner.orders.place(lease.place.channels.clone(), spec);
    }

    /// Closes the channel `name` and gives its place back once nobody can use it any more.
    fn end_after(&self, abandoned: impl Future<Output = ()> + Send + 'static, name: String, lease: Lease) {
        self.inner.io.spawn(async move {
            abandoned.await;
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

    /// Waits until every part of the service is running: connected, topology declared, consuming.
    ///
    /// # Errors
    /// When the service ends first.
    ///
    /// # Cancellation
    /// Safe: it only looks.
    pub async fn ready(&self) -> Result<(), ServiceEnd> {
        let mut events = self.events();
        let mut orders = self.inner.orders.open();
        loop {
            let nothing_to_come = *orders.borrow_and_update() == 0;
            if nothing_to_come && all_running(&self.snapshot()) {
                return Ok(());
            }
            tokio::select! {
                // Missed events are as good as seen ones: the snapshot is looked at either way.
                _ = events.next() => {}
                _ = orders.changed() => {}
                ended = self.wait() => return ended,
            }
        }
    }

    /// Waits until the service ends by itself (`Err`), or after [`shutdown`](Self::shutdown) (`Ok`).
    ///
    /// # Errors
    /// When the root gave up, with the chain of causes.
    pub async fn wait(&self) -> Result<(), ServiceEnd> {
        match self.inner.root.wait().await {
            ExitReason::Stopped | ExitReason::Finished => Ok(()),
            reason => Err(ServiceEnd(reason)),
        }
    }

    /// Stops taking deliveries, lets what is in flight finish and settles it, waits for confirms, closes the
    /// connections; each within the drain deadline. What did not finish is the broker's again.
    ///
    /// # Errors
    /// When the root had given up before.
    pub async fn shutdown(&self) -> Result<(), ServiceEnd> {
        if self.wait().now_or_never().is_none() {
            let mut stopping = std::pin::pin!(self.inner.root.shutdown());
            tokio::select! {
                biased;
                () = drain::tell(self.events()) => { stopping.await; }
                _ = &mut stopping => {}
            }
        }
        let ended = self.wait().await;
        self.close().await;
        ended
    }

    /// After the end: hands every unpublished message back to its caller, and lets the threads go.
    pub(crate) async fn close(&self) {
        for outbox in self.parts(|parts| std::mem::take(&mut parts.outboxes)).iter().filter_map(Weak::upgrade) {
            outbox.close().await;
        }
        for requester in self.parts(|parts| std::mem::take(&mut parts.requesters)).iter().filter_map(Weak::upgrade) {
            requester.close().await;
        }
        for arbiter in self.inner.arbiters.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            arbiter.stop();
        }
        self.inner.io.stop();
    }

    fn io(&self) -> ArbiterHandle {
        self.inner.io.handle()
    }

    pub(crate) fn parts<O>(&self, with: impl FnOnce(&mut Parts) -> O) -> O {
        with(&mut self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `name`, with a number when this role has it already: siblings in the tree need ids of their own.
    fn unique(&self, role: Role, name: &str) -> String {
        let mut names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let used = names.entry(format!("{role} {name}")).or_insert(0);
        *used += 1;
        if *used == 1 { name.to_owned() } else { format!("{name}#{used}") }
    }
}

/// Keeps no publisher or requester alive whose handles are gone, nor a growing list of those that were.
fn remember<P>(parts: &mut Vec<Weak<P>>, part: &Arc<P>) {
    parts.retain(|part| part.strong_count() > 0);
    parts.push(Arc::downgrade(part));
}

fn all_running(node: &NodeSnapshot) -> bool {
    node.state == State::Running && node.children.iter().all(all_running)
}
