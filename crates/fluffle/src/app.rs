//! [`App`]: the parts of a service, and the functions that start it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Context};
use fluffle_amqp::{
    Broker, Consume, DRAIN, Forwarder, HandledBy, Handles, HandlesBatches, Middleware, Observer, OneOf, Payload,
    Publisher, PublisherPart, Requester, RequesterPart, Route, Service, ServiceError, Topology,
};
use fluffle_supervise::ChildSpec;
#[cfg(feature = "telemetry")]
use fluffle_telemetry::{Telemetry, status::Status};

use crate::error::Error;

type Adding<'a> = Pin<Box<dyn Future<Output = Result<(), ServiceError>> + 'a>>;
type Part = Box<dyn for<'a> FnOnce(&'a Service) -> Adding<'a>>;
type AddMiddleware = Box<dyn FnOnce(&Service)>;

/// The parts of a service. Building an `App` does no I/O; [`start`](App::start) and
/// [`run_until_signal`](App::run_until_signal) do.
///
/// The service runs on its own threads, so it works under any executor: `#[actix::main]`, `#[actix_web::main]` or
/// `#[tokio::main]`. [`Service`] describes what that means for handlers, and for a system that ends before its service.
pub struct App {
    broker: Broker,
    topology: Topology,
    drain: Duration,
    middleware: Vec<AddMiddleware>,
    observers: Vec<Arc<dyn Observer>>,
    #[cfg(feature = "telemetry")]
    telemetry: Vec<Telemetry>,
    #[cfg(feature = "telemetry")]
    status: Option<Status>,
    parts: Mutex<Vec<Part>>,
}

impl App {
    /// Creates an app for a service on `broker`.
    pub fn new(broker: Broker) -> Self {
        Self {
            broker,
            topology: Topology::new(),
            drain: DRAIN,
            middleware: Vec::new(),
            observers: Vec::new(),
            #[cfg(feature = "telemetry")]
            telemetry: Vec::new(),
            #[cfg(feature = "telemetry")]
            status: None,
            parts: Mutex::default(),
        }
    }

    /// Sets the exchanges, queues and bindings that the service declares after every connect.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Sets how long a shutdown may take in all. Default 15 s, at most a day. A shutdown always has at least 1 s, to
    /// close connections.
    ///
    /// A quarter of this time, at most 4 s, is kept for confirms, for the application's own actors, and for closing
    /// channels and connections. In the rest, handlers may finish what they have in hand.
    #[must_use]
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain = limit.min(Duration::from_secs(24 * 3600));
        self
    }

    /// Adds a [`Middleware`]: code that runs around each call of a handler, for example for a tracing span, a metric or
    /// a check of a header. It applies to all consumers of this app, also to those added before this call, because
    /// otherwise a check would depend on the order of these calls. The first middleware added is the outermost; those
    /// of a consumer ([`Consume::middleware`]) stand inside those of the app.
    ///
    /// ```
    /// use fluffle::{amqp::{DeliveryInfo, HandlerResult, Handling, Middleware}, prelude::*};
    /// use std::time::Instant;
    ///
    /// struct Timed;
    /// struct Timing { began: Instant, queue: String }
    ///
    /// impl Middleware for Timed {
    ///     fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
    ///         Ok(Box::new(Timing { began: Instant::now(), queue: delivery.queue().to_owned() }))
    ///     }
    /// }
    ///
    /// impl Handling for Timing {
    ///     fn after(self: Box<Self>, result: HandlerResult<'_>) {
    ///         println!("{}: {result:?} after {:?}", self.queue, self.began.elapsed());
    ///     }
    /// }
    ///
    /// # fn app(broker: Broker) -> App {
    /// App::new(broker).middleware(Timed)
    /// # }
    /// ```
    #[must_use]
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Box::new(move |service| service.middleware(middleware)));
        self
    }

    /// Adds an observer, which hears of what happens to deliveries, published messages, channels, connections and
    /// nodes: for metrics. See [`Observer`] for an example. Several observers each hear of everything.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Measures the service: from the start on, `telemetry` has its metrics and a picture of it.
    ///
    /// ```
    /// use fluffle::{prelude::*, telemetry::{Telemetry, text}};
    ///
    /// # async fn run(broker: Broker) -> Result<(), fluffle::Error> {
    /// let telemetry = Telemetry::new();
    /// let service = App::new(broker).telemetry(&telemetry).start().await?;
    /// println!("{}", text::prometheus(&telemetry.read()));   // for an HTTP server of your own
    /// # service.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "telemetry")]
    #[must_use]
    pub fn telemetry(mut self, telemetry: &Telemetry) -> Self {
        self.observers.extend(telemetry.observers());
        self.telemetry.push(telemetry.clone());
        self
    }

    /// Serves a live page of this service at an address, with `/metrics` for Prometheus and `/live` and `/ready` for
    /// probes, on a thread of its own. An address alone lets everybody on this host read and nobody act; a
    /// [`Status`] has the settings. It ends with the service.
    ///
    /// ```
    /// # use fluffle::prelude::*;
    /// # fn app(broker: Broker) -> App {
    /// App::new(broker).status("127.0.0.1:9464")          // http://127.0.0.1:9464/
    /// # }
    /// ```
    ///
    /// With an address of which the port is 0, any free port is taken; the log says which.
    ///
    /// [`Status`]: crate::telemetry::status::Status
    #[cfg(feature = "telemetry")]
    #[must_use]
    pub fn status(mut self, status: impl Into<Status>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Adds a publisher. Its handle accepts messages at once; they are sent when the service runs.
    pub fn publisher<T: 'static>(&self, route: Route<T>) -> Publisher<T> {
        let (publisher, part) = PublisherPart::new(route);
        self.add(Box::new(move |service| Box::pin(service.add_publisher(part))));
        publisher
    }

    /// Adds a forwarder of prepared messages, which has the name `name` in the tree. Its handle accepts messages at
    /// once; they are sent when the service runs.
    pub fn forwarder(&self, name: impl Into<String>) -> Forwarder {
        let (forwarder, part) = PublisherPart::forwarder(name);
        self.add(Box::new(move |service| Box::pin(service.add_publisher(part))));
        forwarder
    }

    /// Adds a requester. Its handle accepts requests at once; they are sent when the service runs.
    pub fn requester<Q, R: Payload>(&self, route: Route<Q>) -> Requester<Q, R> {
        let (requester, part) = RequesterPart::new(route);
        self.add(Box::new(move |service| Box::pin(service.add_requester(part))));
        requester
    }

    /// Adds a consumer. `factory` makes its handler actors: one for each instance, and a fresh one after each crash.
    ///
    /// All consumers of one queue must have the same message type: a second one with another type is refused at start.
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

    /// Adds a consumer of a queue that carries several types: each message goes to the handler of its type. The actors
    /// have a `Handler<Delivery<T>>` for each type `T` of the tuple; a missing one is a compile error.
    ///
    /// The `type` property of a message says which type it is, or else the `proto` parameter of its `content_type`. A
    /// message of none of the types becomes a dead letter. Order, prefetch, retries, keys, batches and effectively once
    /// are as for one type: all messages of an instance are handled in the order of the queue, whatever their types.
    ///
    /// ```no_run
    /// use fluffle::prelude::*;
    /// # use fluffle::amqp::Payload;
    ///
    /// # fn example<OrderPlaced: Payload, PaymentFailed: Payload>(broker: Broker) -> App {
    /// struct Bookkeeper;
    /// # impl Actor for Bookkeeper { type Context = Context<Self>; }
    /// # impl<T: Payload> Handler<Delivery<T>> for Bookkeeper {
    /// #     type Result = Result<(), Failure>;
    /// #     fn handle(&mut self, _: Delivery<T>, _: &mut Self::Context) -> Self::Result { Ok(()) }
    /// # }
    /// // impl Handler<Delivery<OrderPlaced>> for Bookkeeper { … }
    /// // impl Handler<Delivery<PaymentFailed>> for Bookkeeper { … }
    ///
    /// App::new(broker)
    ///     .consume_types(Consume::<OneOf<(OrderPlaced, PaymentFailed)>>::queue("orders.events"), || Bookkeeper)
    /// # }
    /// ```
    ///
    /// For messages of any other type, add [`Raw`](fluffle_amqp::Raw) to the tuple, or see
    /// [`Consume::skip_other_types`]. For names that others give to a type, see [`Consume::type_alias`].
    #[must_use]
    pub fn consume_types<A, L, R, F>(self, consume: Consume<OneOf<L>, R>, factory: F) -> Self
    where
        A: Actor<Context = Context<A>>,
        L: HandledBy<A, R>,
        R: Payload,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.add(Box::new(move |service| Box::pin(service.consume_types(consume, factory))));
        self
    }

    /// Adds a consumer whose handler actors receive whole batches, see [`DeliveryBatch`](fluffle_amqp::DeliveryBatch).
    /// A message that came by itself is a batch of one. With [`consume`](Self::consume), handlers receive the messages
    /// of a batch one after the other.
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
    ///             append(lines).await?;                // an error fails all of them
    ///             Ok(ItemFailures::none())             // all of them are handled
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

    /// Adds an actor of the application's own, or a supervisor of several, to the service's tree (`app/application`).
    /// It is started with the service and shown in snapshots. If it fails, it is restarted without limit, after its own
    /// backoff; with an [`ExitError::permanent`](fluffle_supervise::ExitError::permanent) the service ends.
    ///
    /// These actors share one thread, which carries neither connections nor handlers, unless their specs name another
    /// ([`ActorSpec::on`](fluffle_supervise::ActorSpec::on)). At shutdown, they are stopped after the consumers, whose
    /// handlers may need them, and before the publishers, which they may need themselves. They are stopped all at once,
    /// each within its own deadline ([`ActorSpec::shutdown`](fluffle_supervise::ActorSpec::shutdown)) and within
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
    /// `start` does not wait for the broker: each part starts when its connection is up. Handles accept messages before
    /// that. [`Service::ready`] waits until everything runs.
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
    /// If the topology is invalid, or a part cannot be added.
    ///
    /// # Cancellation
    /// If the future is dropped before it is ready, the parts already started keep running, and nothing can stop them.
    pub async fn start(self) -> Result<Service, Error> {
        let (service, parts) = self.begin()?;
        if let Err(error) = add(&service, parts).await {
            // If the tree has given up meanwhile, return its reason, because that is the cause.
            service.shutdown().await?;
            return Err(error);
        }
        Ok(service)
    }

    /// Starts the service and runs it until SIGTERM or Ctrl-C. Then drains it: stops taking deliveries, lets handlers
    /// finish the work in hand, waits for confirms, and closes. A second signal ends the process at once, with exit
    /// code 130.
    ///
    /// # Errors
    /// If the service cannot start, or gives up before a signal comes. The error says why in one line.
    pub async fn run_until_signal(self) -> Result<(), Error> {
        let (service, parts) = self.begin()?;
        // Signals are handled while parts are added, because adding may take for ever if the broker is away.
        service.run_until_signal_with(add(&service, parts)).await
    }

    fn begin(self) -> Result<(Service, Vec<Part>), Error> {
        // The page first: it answers that the service is not started, and an address that is taken is told at once.
        #[cfg(feature = "telemetry")]
        let this = self.with_status_page()?;
        #[cfg(not(feature = "telemetry"))]
        let this = self;
        let service = Service::start_observed(this.broker, this.topology, this.drain, this.observers)?;
        #[cfg(feature = "telemetry")]
        this.telemetry.iter().try_for_each(|telemetry| telemetry.attach(&service)).map_err(ServiceError::Thread)?;
        // Before the parts, because a consumer gets the middleware that its service has when it is added.
        this.middleware.into_iter().for_each(|add| add(&service));
        Ok((service, this.parts.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    #[cfg(feature = "telemetry")]
    fn with_status_page(mut self) -> Result<Self, Error> {
        if let Some(status) = self.status.take() {
            if self.telemetry.is_empty() {
                self = self.telemetry(&Telemetry::new());
            }
            if let Some(telemetry) = self.telemetry.first() {
                telemetry.serve_until_the_end(status)?;
            }
        }
        Ok(self)
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
