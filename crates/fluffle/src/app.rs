//! What a service is made of, and how it runs.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fluffle_amqp::{
    Broker, Consume, DRAIN, Forwarder, Handles, Payload, Publisher, PublisherPart, Requester, RequesterPart, Route,
    Service, ServiceError, Topology,
};
use fluffle_supervise::ChildSpec;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

type Adding<'a> = Pin<Box<dyn Future<Output = Result<(), ServiceError>> + 'a>>;
type Part = Box<dyn for<'a> FnOnce(&'a Service) -> Adding<'a>>;

/// What a service is made of. Building one does no I/O; [`start`](App::start) and
/// [`run_until_signal`](App::run_until_signal) do.
///
/// Everything must run within an actix system (`#[actix::main]`).
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

    /// How long work in flight may take to finish when the service shuts down. Default 15 s, at most a day.
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
    /// # Errors
    /// When the topology is wrong, or a part cannot be added.
    ///
    /// # Cancellation
    /// Dropped before it is ready, what was started runs on, with nobody to stop it.
    pub async fn start(self) -> Result<Service, Error> {
        let (service, parts) = self.begin()?;
        assemble(&service, parts).await?;
        Ok(service)
    }

    /// Starts the service and runs it until SIGTERM or Ctrl-C, then drains: stops taking, lets what is in flight
    /// finish, waits for confirms, closes. A second signal ends the process at once, with exit code 130.
    ///
    /// # Errors
    /// When it cannot start, or gives up before a signal comes; with one line that says why.
    pub async fn run_until_signal(self) -> Result<(), Error> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut signalled = async move || {
            tokio::select! {
                _ = interrupt.recv() => "Ctrl-C",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        let limit = self.drain;
        let (service, parts) = self.begin()?;
        let running = async {
            assemble(&service, parts).await?;
            let ended = service.wait().await;
            service.shutdown().await?;
            Ok(ended?)
        };
        // A signal counts from the start: with the broker away, assembling may take for ever.
        let name = tokio::select! {
            ended = running => return ended,
            name = signalled() => name,
        };
        tracing::info!("{name}: finishing what is in flight, within {limit:?}; once more ends at once");
        let begun = Instant::now();
        tokio::select! {
            ended = service.shutdown() => {
                tracing::info!(took = ?begun.elapsed(), "stopped");
                Ok(ended?)
            }
            name = signalled() => {
                tracing::error!("{name} again: ending at once; the broker delivers again what was in flight");
                std::process::exit(130)
            }
        }
    }

    fn begin(self) -> Result<(Service, Vec<Part>), Error> {
        let service = Service::start(self.broker, self.topology, self.drain)?;
        Ok((service, self.parts.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    fn add(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }
}

async fn assemble(service: &Service, parts: Vec<Part>) -> Result<(), Error> {
    for part in parts {
        if let Err(error) = part(service).await {
            // The tree may have given up meanwhile: then its reason is the one to tell.
            service.shutdown().await?;
            return Err(error.into());
        }
    }
    Ok(())
}
