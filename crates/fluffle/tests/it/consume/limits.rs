//! Limits of a consumer: its rate, and the bytes that handlers have in hand.

use std::time::Duration;

use fluffle::{prelude::*, testing::TestBroker};

use super::downstream::{Downstream, fill, held_back, service};
use crate::support::{counts, started, stats, until};

#[actix::test]
async fn a_rate_limit_hands_out_its_burst_and_then_at_its_rate() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    downstream.let_through(100);
    let consume = Consume::queue("q").instances(2).rate_limit(RateLimit::per_minute(1, 5));
    let (service, out) = service(&broker, consume, &downstream).await;
    fill(&out, 20).await;
    held_back(&service, &downstream, 20, 5).await;
    // The waiting messages are not lost at the shutdown: they go back to the queue.
    service.shutdown().await.unwrap();
    until("back in the queue", || counts(&broker, "q") == (15, 0, 0)).await;
}

#[actix::test]
async fn a_rate_limit_holds_nothing_back_for_ever() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    downstream.let_through(100);
    let limit = RateLimit::per_second(200, 1);
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q").rate_limit(limit.clone()));
    let handler = downstream.clone();
    let service = started(app.consume(Consume::queue("q").rate_limit(limit), move || handler.clone())).await;
    fill(&out, 20).await;
    broker.settled(&service).await.unwrap();
    assert_eq!(downstream.begun(), 20);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn handlers_have_no_more_in_hand_than_the_byte_budget_and_a_larger_message_goes_alone() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").max_bytes_in_flight(1000).instances(2);
    let (service, out) = service(&broker, consume, &downstream).await;
    for bytes in [400, 400, 400, 5000, 400] {
        out.publish("x".repeat(bytes)).await.unwrap();
    }
    // Two messages fit. The third begins when one is done, the large one when none is in hand, the last one after it.
    for (done, begun) in [(0, 2), (1, 3), (2, 3), (3, 4), (4, 5)] {
        downstream.let_through(usize::from(done > 0));
        until("done", || stats(&service).handled == done).await;
        held_back(&service, &downstream, 5, begun).await;
    }
    downstream.let_through(1);
    broker.settled(&service).await.unwrap();
    assert_eq!(stats(&service).handled, 5);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_a_compressed_message_unpacks_to_counts_against_the_byte_budget() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q").gzip(Gzip::auto()));
    let handler = downstream.clone();
    let service = started(app.consume(Consume::queue("q").max_bytes_in_flight(10_000), move || handler.clone())).await;
    for _ in 0..3 {
        out.publish("x".repeat(50_000)).await.unwrap();
    }
    for begun in 1..=3 {
        held_back(&service, &downstream, 3, begun).await;
        downstream.let_through(1);
    }
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_hangs_keeps_its_bytes_until_its_message_is_settled_without_it() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").max_bytes_in_flight(500).handler_timeout(Duration::from_millis(200));
    let (service, out) = service(&broker, consume.retry(Retry::none()), &downstream).await;
    for _ in 0..2 {
        out.publish("x".repeat(400)).await.unwrap();
    }
    until("the second is begun when the first is a dead letter", || downstream.begun() == 2).await;
    assert!(stats(&service).dead_lettered >= 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn at_most_once_too_a_handler_that_hangs_keeps_its_bytes_no_longer_than_its_time() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").guarantee(AtMostOnce).max_bytes_in_flight(500);
    let consume = consume.handler_timeout(Duration::from_millis(200));
    let (service, out) = service(&broker, consume, &downstream).await;
    for _ in 0..2 {
        out.publish("x".repeat(400)).await.unwrap();
    }
    until("the second is begun when the first is given up", || downstream.begun() == 2).await;
    assert!(stats(&service).dropped >= 1);
    service.shutdown().await.unwrap();
}
