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

/// Publishes these one after the other, each when the one before is confirmed.
pub async fn publish(out: &Publisher<String>, texts: &[&str]) {
    for text in texts {
        soon("published", out.publish((*text).to_owned())).await.expect("confirmed");
    }
}

/// Puts these into `q` by a service that ends then.
pub async fn publish_before_consuming(place: &Place, texts: &[&str]) {
    let (app, out) = app(place.url());
    let service = started(app).await;
    publish(&out, texts).await;
    service.shutdown().await.unwrap();
}

/// Waits until `q` is empty, shuts the service down, and looks whether anything came back.
pub async fn nothing_left(place: &Place, service: Service) {
    until("nothing is ready or unacked", || {
        let depth = place.depth("q");
        (depth.ready, depth.unacked) == (0, 0)
    })
    .await;
    service.shutdown().await.unwrap();
    assert_eq!(Raw::connect(place.url()).await.ready("q").await, 0);
}

/// What a broker inside the test has of a queue: ready, unacked, consumers.
pub fn counts(broker: &TestBroker, queue: &str) -> (usize, usize, usize) {
    let snapshot = broker.snapshot().unwrap();
    let queue = snapshot.queue(queue).unwrap();
    (queue.ready, queue.unacked, queue.consumers)
}
