//! The side that uses Fluffle: a service with consumers, publishers and a requester for one peer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fluffle::{Error, Service, amqp::RequestError, prelude::*};
use protos::usgs::Quake;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use crate::peer::BROKER;

/// What the handlers of `<peer>.fail` say until they are told to succeed.
pub(crate) const FAILURE: &str = "the seismometer does not answer";
/// Why a request for a quake without a place is refused, by either side.
pub(crate) const REFUSAL: &str = "a quake without a place";

/// A message as a handler has got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) id: Option<String>,
    pub(crate) quake: Quake,
    pub(crate) attempt: u32,
    pub(crate) text: Option<String>,
    pub(crate) integer: Option<i64>,
}

/// Passes on what it gets, unless it is to fail.
#[derive(Clone)]
struct Recorder {
    got: UnboundedSender<Got>,
    fails: Arc<AtomicBool>,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Delivery<Quake>> for Recorder {
    type Result = Result<(), Failure>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        if self.fails.load(Ordering::Acquire) {
            return Err(Failure::retry(FAILURE));
        }
        let got = Got {
            id: quake.message_id().map(str::to_owned),
            attempt: quake.attempt(),
            text: quake.header("tenant").map(str::to_owned),
            integer: quake.header_integer("number"),
            quake: quake.into_inner(),
        };
        self.got.send(got).map_err(|_| Failure::reject("nobody waits for this message"))
    }
}

/// Answers requests.
struct Answerer;

impl Actor for Answerer {
    type Context = Context<Self>;
}

impl Handler<Delivery<Quake, Quake>> for Answerer {
    type Result = Result<Quake, Failure>;

    fn handle(&mut self, quake: Delivery<Quake, Quake>, _: &mut Self::Context) -> Self::Result {
        if quake.place.is_empty() {
            return Err(Failure::reject(REFUSAL));
        }
        let quake = quake.into_inner();
        Ok(Quake { title: format!("{}, answered", quake.title), ..quake })
    }
}

/// A service with everything that one peer talks to.
pub(crate) struct FluffleSide {
    service: Service,
    /// Publishes single messages to `<peer>.out` and `<peer>.tap`.
    pub(crate) plain: Publisher<Quake>,
    /// The same, compressed.
    pub(crate) compressed: Publisher<Quake>,
    /// The same, in batches that are compressed.
    pub(crate) batched: Publisher<Quake>,
    requester: Requester<Quake, Quake>,
    got: UnboundedReceiver<Got>,
    fails: Arc<AtomicBool>,
    patience: Duration,
}

impl FluffleSide {
    /// Declares the queues of a peer and starts to consume.
    pub(crate) async fn start(url: &str, peer: &str, patience: Duration) -> Result<Self, Error> {
        let name = |queue: &str| format!("{peer}.{queue}");
        let (sender, got) = unbounded_channel();
        let fails = Arc::new(AtomicBool::new(true));
        let always = Recorder { got: sender, fails: Arc::default() };
        let at_first_not = Recorder { fails: Arc::clone(&fails), ..always.clone() };
        let fan = name("fan");
        let topology = Topology::new()
            .exchange(Exchange::fanout(&fan))
            .queue(Queue::classic(name("out")).bind(&fan, ""))
            .queue(Queue::classic(name("tap")).bind(&fan, ""))
            .queue(Queue::classic(name("in")))
            .queue(Queue::classic(name("ask")))
            .queue(Queue::classic(name("serve")))
            .queue(Queue::quorum(name("fail")).dead_letter());
        let app = App::new(Broker::new(url)?).topology(topology);
        let route = || Route::exchange(&fan);
        let linger = Batching::default().linger(Duration::from_millis(100));
        let plain = app.publisher::<Quake>(route());
        let compressed = app.publisher::<Quake>(route().gzip(Gzip::on()));
        let batched = app.publisher::<Quake>(route().gzip(Gzip::on()).batch(linger));
        let requester = app.requester::<Quake, Quake>(Route::queue(name("serve")).deadline(patience));
        let twice = Retry::exponential(2, Duration::from_millis(20), 1.0)?;
        let service = app
            .consume(Consume::<Quake>::queue(name("in")), move || always.clone())
            .consume(Consume::<Quake>::queue(name("fail")).retry(twice), move || at_first_not.clone())
            .consume(Consume::<Quake, Quake>::queue(name("ask")), || Answerer)
            .start()
            .await?;
        let ready = timeout(BROKER, service.ready()).await;
        ready.map_err(|_| Error::other(format!("not ready within {BROKER:?}:\n{}", service.snapshot())))??;
        Ok(Self { service, plain, compressed, batched, requester, got, fails, patience })
    }

    /// The next `count` messages that handlers get.
    pub(crate) async fn next(&mut self, count: usize) -> Result<Vec<Got>, String> {
        let mut found = Vec::new();
        while found.len() < count {
            match timeout(self.patience, self.got.recv()).await {
                Ok(Some(got)) => found.push(got),
                _ => {
                    return Err(format!("handlers got {} of {count} messages within {:?}", found.len(), self.patience));
                }
            }
        }
        Ok(found)
    }

    /// Handlers have got nothing that was not asked for.
    pub(crate) fn nothing_else(&mut self) -> Result<(), String> {
        match self.got.try_recv() {
            Ok(got) => Err(format!("a message that nobody expected: {got:?}")),
            Err(_) => Ok(()),
        }
    }

    /// From now on the handlers of `<peer>.fail` succeed.
    pub(crate) fn succeed(&self) {
        self.fails.store(false, Ordering::Release);
    }

    pub(crate) async fn request(&self, quake: &Quake) -> Result<Quake, RequestError<Quake>> {
        self.requester.request(quake.clone()).await
    }

    pub(crate) async fn stop(self) -> Result<(), String> {
        self.service.shutdown().await.map_err(|error| format!("the service does not stop: {error}"))
    }
}
