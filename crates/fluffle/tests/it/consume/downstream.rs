//! A handler that the test controls, for the tests of switches, limits and time limits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use fluffle::{prelude::*, supervise::NodeSnapshot, testing::TestBroker};
use tokio::sync::Semaphore;

use crate::support::{started, stats, until};

/// A handler that begins at once, ends when the test lets it, and fails while the test has set it to `down`.
#[derive(Clone, Default)]
pub(super) struct Downstream {
    begun: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    down: Arc<AtomicBool>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Downstream {
    pub(super) fn down() -> Self {
        let downstream = Self::default();
        downstream.down.store(true, Ordering::SeqCst);
        downstream
    }

    pub(super) fn heal(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    pub(super) fn let_through(&self, count: usize) {
        self.gate.0.add_permits(count);
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Actor for Downstream {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Downstream {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (gate, down) = (Arc::clone(&self.gate), Arc::clone(&self.down));
        Box::pin(async move {
            gate.0.acquire().await?.forget();
            if down.load(Ordering::SeqCst) { Err(Failure::retry("the downstream is away")) } else { Ok(()) }
        })
    }
}

/// A service that consumes `q` on this broker, and a publisher to `q`.
pub(super) async fn service(
    broker: &TestBroker,
    consume: Consume<String>,
    downstream: &Downstream,
) -> (Service, Publisher<String>) {
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q"));
    let handler = downstream.clone();
    (started(app.consume(consume, move || handler.clone())).await, out)
}

pub(super) async fn fill(out: &Publisher<String>, count: usize) {
    for number in 0..count {
        out.publish(number.to_string()).await.unwrap();
    }
}

/// Waits until `received` messages are received, handlers have begun `begun` of them, and the rest waits for handlers.
pub(super) async fn held_back(service: &Service, downstream: &Downstream, received: usize, begun: usize) {
    until(&format!("{begun} of {received} begun, the others wait"), || {
        let snapshot = service.snapshot();
        let consumer = find(&snapshot, "consumer").unwrap();
        let waiting = consumer.mailbox.unwrap().waiting;
        (stats(service).received as usize, downstream.begun(), waiting) == (received, begun, received - begun)
    })
    .await;
}

pub(super) fn find<'a>(node: &'a NodeSnapshot, id: &str) -> Option<&'a NodeSnapshot> {
    if &*node.id == id { Some(node) } else { node.children.iter().find_map(|child| find(child, id)) }
}
