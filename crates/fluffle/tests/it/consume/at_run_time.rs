//! A service whose consumer is paused and removed while it runs, behind a proxy that can take the broker away.

use std::{sync::Arc, time::Duration};

use fluffle::{
    amqp::{ConsumerState, ConsumerStats, ServiceError},
    broker::{Fault, Proxy, Rule, Target},
    prelude::*,
};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::support::*;

/// Answers when the test lets it.
pub(super) struct Gated {
    seen: tokio::sync::mpsc::UnboundedSender<Seen>,
    pub(super) gate: Arc<Semaphore>,
}

impl Actor for Gated {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Gated {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (gate, redelivered) = (Arc::clone(&self.gate), text.redelivered());
        let seen = Seen { text: text.clone(), attempt: text.attempt(), redelivered, instance: 0 };
        self.seen.send(seen).unwrap();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

/// Handlers that answer as often as the gate has permits, and the record of what they began.
pub(super) fn gated() -> (impl Fn() -> Gated + Send + Sync + 'static, Record, Arc<Semaphore>) {
    let (seen, record) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let handed_out = Arc::clone(&gate);
    (move || Gated { seen: seen.clone(), gate: Arc::clone(&handed_out) }, record, gate)
}

/// A service on queue `q`, behind a proxy that can take the broker away.
pub(super) struct Bench {
    pub(super) place: Place,
    pub(super) proxy: Proxy,
    pub(super) service: Service,
    pub(super) out: Publisher<String>,
    pub(super) record: Record,
    pub(super) gate: Arc<Semaphore>,
    pub(super) raw: Raw,
}

/// As many permits as any test has messages.
pub(super) const ALL: usize = 1_000;

impl Bench {
    pub(super) async fn start(consume: Consume<String>, drain: Duration) -> Self {
        let place = vhost();
        let proxy = Proxy::start(([127, 0, 0, 1], place.port()).into()).unwrap();
        let app = App::new(broker(&proxy.url_for(place.url())).name(place.name()))
            .topology(Topology::new().queue(Queue::quorum("q").dead_letter()))
            .drain_within(drain);
        let out = app.publisher::<String>(Route::queue("q"));
        let (factory, record, gate) = gated();
        let service = started(app.consume(consume, factory)).await;
        let raw = Raw::connect(place.url()).await;
        Self { place, proxy, service, out, record, gate, raw }
    }

    pub(super) async fn publish(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            soon("published", self.out.publish(number.to_string())).await.unwrap();
        }
    }

    /// Waits until handlers have begun so many more messages, and gives them.
    pub(super) async fn begun(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(next(&mut self.record).await.text);
        }
        texts
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        self.service.consumers()[0].1
    }

    pub(super) async fn is(&self, state: ConsumerState) {
        until(&format!("{state:?}"), || self.service.consumers().iter().all(|(_, one)| one.state == state)).await;
    }

    pub(super) fn pausing(&self) -> JoinHandle<Result<(), ServiceError>> {
        let service = self.service.clone();
        actix_rt::spawn(async move { service.pause_consumer("q").await })
    }

    pub(super) fn removing(&self) -> JoinHandle<Result<(), ServiceError>> {
        let service = self.service.clone();
        actix_rt::spawn(async move { service.remove_consumer("q").await })
    }

    /// Until so many are ready and nobody has a subscription, or messages unacked that an ended subscription brought:
    /// RabbitMQ counts those as well.
    pub(super) async fn rest(&self, ready: usize) {
        self.wait_for(ready, 0).await;
    }

    pub(super) async fn wait_for(&self, ready: usize, consumers: usize) {
        soon(&format!("{ready} ready and {consumers} consumers"), async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while self.counts().await != (ready, consumers) {
                look.tick().await;
            }
        })
        .await;
    }

    /// Until the consumer has taken back what no handler had begun.
    pub(super) async fn let_go(&self, node: &str) {
        let node = format!("app/consume/consume-0/channels/{node}/consumer");
        let waiting =
            || self.service.snapshot().find(&node).and_then(|node| node.mailbox).map_or(0, |depth| depth.waiting);
        until("nothing waits for a handler", || waiting() == 0).await;
    }

    /// Ready messages and consumers of `q`, as they are now: what RabbitMQ lists of a queue may be some seconds old.
    pub(super) async fn counts(&self) -> (usize, usize) {
        let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        // A test may have closed all connections.
        let raw = Raw::connect(self.place.url()).await;
        let declared = raw.channel().queue_declare("q".into(), options, Default::default()).await.unwrap();
        (declared.message_count() as usize, declared.consumer_count() as usize)
    }

    /// Until [`the_broker_is_back`](Self::the_broker_is_back).
    pub(super) async fn the_broker_goes_away(&self) {
        self.proxy.faults().inject(Rule::new(Fault::Refuse)).unwrap();
        self.proxy.faults().strike(Fault::Cut, Target::all()).unwrap();
        until("lost", || self.service.connections().iter().all(|one| !one.connected)).await;
    }

    pub(super) async fn the_broker_is_back(&self) {
        self.proxy.faults().heal_all().unwrap();
        until("connected", || self.service.connections().iter().all(|one| one.connected)).await;
        soon("ready", self.service.ready()).await.unwrap();
    }
}

pub(super) const DRAIN: Duration = Duration::from_secs(60);

/// Leaves handlers 750 ms.
pub(super) const SHORT: Duration = Duration::from_secs(1);

pub(super) fn q() -> Consume<String> {
    Consume::queue("q")
}
