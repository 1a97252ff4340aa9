//! What is declared when a consumer is added to a service that runs.

use fluffle::{prelude::*, supervise::NodeSnapshot};
use lapin::options::QueueDeclareOptions;

use crate::support::*;

async fn exists(raw: &Raw, queue: &str) -> bool {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    raw.fresh_channel().await.queue_declare(queue.into(), options, Default::default()).await.is_ok()
}

/// A service with this topology, whose connections are there and have declared it.
async fn service(place: &Place, topology: Topology) -> Service {
    let app = App::new(broker(place.url())).topology(topology.queue(Queue::classic("first")));
    let (factory, _record) = handlers(|_| Act::Ok);
    started(app.consume(Consume::<String>::queue("first"), factory)).await
}

/// How often the connections of consumers, and all that is on them, were started again.
fn restarts(service: &Service) -> u64 {
    fn below(node: &NodeSnapshot) -> u64 {
        node.restarts + node.children.iter().map(below).sum::<u64>()
    }
    below(service.snapshot().find("app/consume").unwrap())
}

#[actix::test]
async fn only_what_a_consumer_adds_is_declared() {
    let place = vhost();
    let service = service(&place, Topology::new().queue(Queue::classic("q")).queue(Queue::classic("other"))).await;
    let raw = Raw::connect(place.url()).await;
    raw.delete("other").await;
    assert!(!exists(&raw, "q.dead").await);
    let (factory, _record) = handlers(|_| Act::Ok);
    service.consume(Consume::<String>::queue("q"), factory).await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    assert!(exists(&raw, "q.dead").await);
    assert!(!exists(&raw, "other").await, "a thousand consumers would declare a thousand queues each");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_queue_that_ended_with_its_last_consumer_is_declared_for_the_next_one() {
    let place = vhost();
    let service = service(&place, Topology::new().queue(Queue::classic("q").auto_delete())).await;
    let raw = Raw::connect(place.url()).await;
    for _ in 0..2 {
        let (factory, mut record) = handlers(|_| Act::Ok);
        service.consume(Consume::<String>::queue("q"), factory).await.unwrap();
        soon("ready", service.ready()).await.unwrap();
        let (body, properties) = encoded("one");
        raw.put("q", &body, properties).await;
        assert_eq!(next(&mut record).await.text, "one");
        assert_eq!(restarts(&service), 0, "the broker knew the queue at once");
        soon("removed", service.remove_consumer("q")).await.unwrap();
        // The broker deletes it some time after its last consumer is gone.
        soon("the queue is gone", async { while exists(&raw, "q").await {} }).await;
    }
    service.shutdown().await.unwrap();
}
