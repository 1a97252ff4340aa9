//! What a service is made of, and how it runs.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fluffle_amqp::{
    Broker, Consume, DRAIN, Forwarder, Handles, HandlesBatches, Payload, Publisher, PublisherPart, Requester,
    RequesterPart, Route, Service, ServiceError, Topology,
};
use fluffle_supervise::ChildSpec;

use crate::error::Error;

type Adding<'a> = Pin<Box<dyn Future<Output = Result<(), ServiceError>> + 'a>>;
type Part = Box<dyn for<'a> FnOnce(&'a Service) -> Adding<'a>>;

/// What a service is made of. Building one does no I/O; [`start`](App::start) and
/// [`run_until_signal`](App::run_until_signal) do.
///
/// The service runs on threads of its own: any executor will do, `#[actix::main]`, `#[actix_web::main]` or
/// `#[tokio::main]`. What that means for handlers, and for a system that ends before its service, is told of [`Service`].
pub struct App {
    broker: Broker,
    topology: Topology,
    drain: Duration,
    parts: Mutex<Vec<Part>>,
}

impl App {
    /// A service on `broker`.
    pub fn new(broker: Broker) -> Self {
        Self { broker, topology: Topology::new(), drain: DRAIN, parts: Mutex::default() }
    }

    /// The exchanges, queues and bindings to declare after every connect.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// How long a shutdown may take in all. Default 15 s, at most a day; less than 1 s leaves 1 s, for closing connections.
    ///
    /// Handlers may go on with what they have in hand for all of it but a quarter, at most 4 s, which is for confirms, for
    /// what the application's own actors do at the end, and for good-byes to the broker.
    #[must_use]
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain = limit.min(Duration::from_secs(24 * 3600));
        self
    }

    /// A publisher. Its handle takes messages at once; they leave when the service runs.
    pub fn publisher<T: 'static>(&self, route: Route<T>) -> Publisher<T> {
        let (publisher, part) = PublisherPart::new(route);
        self.add(Box::new(move |service| Box::pin(service.add_publisher(part))));
        publisher
    }

    /// A forwarder of prepared messages; in the tree it goes by `name`. Its handle takes messages at once; they leave when
    /// the service runs.
    pub fn forwarder(&self, name: impl Into<String>) -> Forwarder {
        let (forwarder, part) = PublisherPart::forwarder(name);
        self.add(Box::new(move |service| Box::pin(service.add_publisher(part))));
        forwarder
    }

    /// A requester. Its handle takes requests at once; they leave when the service runs.
    pub fn requester<Q, R: Payload>(&self, route: Route<Q>) -> Requester<Q, R> {
        let (requester, part) = RequesterPart::new(route);
        self.add(Box::new(move |service| Box::pin(service.add_requester(part))));
        requester
    }

    /// A consumer, whose handler actors `factory` makes: one for each instance, and a fresh one after each crash.
    ///
    /// A queue has messages of one type: a second consumer of it with another type is refused at the start.
    #[must_use]
    pub fn consume<A, T, R, F>(self, consume: Consume<T, R>, factory: F) -> Self
    where
        A: Handles<T, R>,
        T: 'static,
        R: Payload,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.add(Box::new(move |service| Box::pin(service.consume(consume, factory))));
        self
    }

    /// A consumer whose handler actors are given batches at once, see [`DeliveryBatch`](fluffle_amqp::DeliveryBatch); a message
    /// that came by itself is a batch of one. With [`consume`](Self::consume) handlers are given the messages of a batch one
    /// after the other.
    ///
    /// ```
    /// use fluffle::prelude::*;
    ///
    /// struct Archive;
    ///
    /// impl Actor for Archive { type Context = Context<Self>; }
    ///
    /// impl Handler<DeliveryBatch<String>> for Archive {
    ///     type Result = ResponseFuture<Result<ItemFailures, Failure>>;
    ///     fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
    ///         Box::pin(async move {
    ///             let lines: Vec<String> = batch.iter().flatten().collect();
    ///             append(lines).await?;                // all of them failed, or
    ///             Ok(ItemFailures::none())             // all are handled
    ///         })
    ///     }
    /// }
    /// # async fn append(_: Vec<String>) -> Result<(), Failure> { Ok(()) }
    ///
    /// # fn app(broker: Broker) -> App {
    /// App::new(broker).consume_batches(Consume::queue("lines").prefetch(8), || Archive)
    /// # }
    /// ```
    #[must_use]
    pub fn consume_batches<A, T, F>(self, consume: Consume<T>, factory: F) -> Self
    where
        A: HandlesBatches<T>,
        T: 'static,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.add(Box::new(move |service| Box::pin(service.consume_batches(consume, factory))));
        self
    }

    /// An actor of the application's own, or a supervisor of several, in the service's tree (`app/application`): started with
    /// the service, restarted for ever when it fails (after its own backoff; with an
    /// [`ExitError::permanent`](fluffle_supervise::ExitError::permanent) the service ends), shown in snapshots.
    ///
    /// These actors share a thread, apart from the broker's connections and from handlers, unless their specs name another
    /// ([`ActorSpec::on`](fluffle_supervise::ActorSpec::on)). When the service shuts down they are stopped after the
    /// consumers, whose handlers may need them, and before the publishers, which they may need themselves: all at once, each within its
    /// own deadline ([`ActorSpec::shutdown`](fluffle_supervise::ActorSpec::shutdown)) and within
    /// [`drain_within`](Self::drain_within).
    ///
    /// ```
    /// use fluffle::{prelude::*, supervise::ActorSpec};
    ///
    /// struct Thermometer { out: Publisher<String> }
    ///
    /// impl Actor for Thermometer { type Context = Context<Self>; }
    ///
    /// # fn app(broker: Broker) -> App {
    /// let app = App::new(broker);
    /// let out = app.publisher(Route::exchange("temperatures"));
    /// app.supervise(ActorSpec::new("thermometer", move || Thermometer { out: out.clone() }))
    /// # }
    /// ```
    #[must_use]
    pub fn supervise(self, child: impl Into<ChildSpec>) -> Self {
        let child = child.into();
        self.add(Box::new(move |service| Box::pin(service.supervise(child))));
        self
    }

    /// Starts the service. It runs until its [`Service::shutdown`], or until it gives up ([`Service::wait`]).
    ///
    /// It does not wait for the broker: each part starts when the connection it lives on is up. Handles work before;
    /// [`Service::ready`] waits until everything runs.
    ///
    /// The [`Service`] is also how a running application is changed: publishers and consumers are added to it, and
    /// consumers are paused, resumed and removed by the name of their queue. Clones of it may go to handlers, or to an
    /// HTTP server for operators.
    ///
    /// ```no_run
    /// use fluffle::prelude::*;
    ///
    /// # async fn run<A: fluffle::amqp::Handles<String>>(app: App, make: impl Fn() -> A + Send + Sync + 'static)
    /// # -> Result<(), fluffle::Error> {
    /// let service = app.start().await?;
    /// let admin = service.clone();
    /// actix::spawn(async move {
    ///     admin.pause_consumer("orders").await?;       // no handler of `orders` is at work from here on
    ///     admin.resume_consumer("orders")?;
    ///     admin.consume(Consume::queue("tenant-7"), make).await?;
    ///     admin.remove_consumer("tenant-7").await      // what it has in hand is finished first
    /// });
    /// service.run_until_signal().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the topology is wrong, or a part cannot be added.
    ///
    /// # Cancellation
    /// Dropped before it is ready, what was started runs on, with nobody to stop it.
    pub async fn start(self) -> Result<Service, Error> {
        let (service, parts) = self.begin()?;
        if let Err(error) = add(&service, parts).await {
            // The tree may have given up meanwhile: then its reason is the one to tell.
            service.shutdown().await?;
            return Err(error);
        }
        Ok(service)
    }

    /// Starts the service and runs it until SIGTERM or Ctrl-C, then drains: stops taking, lets what is in flight
    /// finish, waits for confirms, closes. A second signal ends the process at once, with exit code 130.
    ///
    /// # Errors
    /// When it cannot start, or gives up before a signal comes; with one line that says why.
    pub async fn run_until_signal(self) -> Result<(), Error> {
        let (service, parts) = self.begin()?;
        // A signal counts from the start: with the broker away, assembling may take for ever.
        service.run_until_signal_with(add(&service, parts)).await
    }

    fn begin(self) -> Result<(Service, Vec<Part>), Error> {
        let service = Service::start(self.broker, self.topology, self.drain)?;
        Ok((service, self.parts.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    fn add(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }
}

async fn add(service: &Service, parts: Vec<Part>) -> Result<(), Error> {
    for part in parts {
        part(service).await?;
    }
    Ok(())
}
