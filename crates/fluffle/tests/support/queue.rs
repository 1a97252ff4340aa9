//! The queue that most tests use: `q`, a quorum queue with dead letters.

use fluffle::{prelude::*, testing::TestBroker};

use super::{Place, Raw, broker, soon, started, until};

/// An app whose topology is `q` with its dead letters.
pub fn app_with_q(url: &str) -> App {
    App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q").dead_letter()))
}

/// An app whose topology is `q` with its dead letters, and a publisher to `q`.
pub fn app(url: &str) -> (App, Publisher<String>) {
    let app = app_with_q(url);
    let out = app.publisher::<String>(Route::queue("q"));
    (app, out)
}

/// Publishes these texts, each after the previous one is confirmed.
pub async fn publish(out: &Publisher<String>, texts: &[&str]) {
    for text in texts {
        soon("published", out.publish((*text).to_owned())).await.expect("confirmed");
    }
}

/// Publishes these texts to `q` with a service that is shut down afterwards.
pub async fn publish_before_consuming(place: &Place, texts: &[&str]) {
    let (app, out) = app(place.url());
    let service = started(app).await;
    publish(&out, texts).await;
    service.shutdown().await.unwrap();
}

/// Waits until `q` is empty, shuts the service down, and checks that `q` is still empty.
pub async fn nothing_left(place: &Place, service: Service) {
    until("nothing is ready or unacked", || {
        let depth = place.depth("q");
        (depth.ready, depth.unacked) == (0, 0)
    })
    .await;
    service.shutdown().await.unwrap();
    assert_eq!(Raw::connect(place.url()).await.ready("q").await, 0);
}

/// The counts of a queue on an embedded broker: ready, unacked, consumers.
pub fn counts(broker: &TestBroker, queue: &str) -> (usize, usize, usize) {
    let snapshot = broker.snapshot().unwrap();
    let queue = snapshot.queue(queue).unwrap();
    (queue.ready, queue.unacked, queue.consumers)
}
