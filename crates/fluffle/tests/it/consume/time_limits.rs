//! Time limits: how long a handler may take over a delivery, and how long a delivery may wait for a handler.

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, testing::TestBroker, wire::headers};
use tokio::sync::Notify;

use super::downstream::{Downstream, fill, find, service};
use crate::support::*;

#[actix::test]
async fn a_handler_that_takes_too_long_is_a_failed_attempt_and_its_late_answer_counts_for_nothing() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.attempt == 1 { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let consume = Consume::queue("q").retry(retry(2)).handler_timeout(Duration::from_millis(200));
    let service = started(app.consume(consume, factory)).await;
    publish(&out, &["a"]).await;
    assert_eq!(next(&mut record).await.attempt, 1);
    assert_eq!(next(&mut record).await.attempt, 2);
    go.notify_one();
    until("the late answer is counted", || stats(&service).late == 1).await;
    until("the second attempt is settled", || (stats(&service).handled, stats(&service).retried) == (1, 1)).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn waiting_for_a_busy_handler_is_not_taking_too_long() {
    let vhost = vhost();
    publish_before_consuming(&vhost, &["a", "b", "c", "d"]).await;
    let (app, _out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Block(Duration::from_millis(300)));
    let consume = Consume::queue("q").concurrency(1).handler_timeout(Duration::from_millis(700));
    let service = started(app.consume(consume, factory)).await;
    for _ in 0..4 {
        assert_eq!(next(&mut record).await.attempt, 1);
    }
    until("all are handled", || stats(&service).handled == 4).await;
    assert_eq!((stats(&service).late, stats(&service).retried), (0, 0));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_never_answers_gives_its_place_to_the_next_message() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| if seen.text == "hangs" { Act::Hang } else { Act::Ok });
    let consume = Consume::queue("q").concurrency(1).retry(Retry::none()).handler_timeout(Duration::from_millis(200));
    let service = started(app.consume(consume, factory)).await;
    publish(&out, &["hangs", "next"]).await;
    assert_eq!(next(&mut record).await.text, "hangs");
    assert_eq!(next(&mut record).await.text, "next");
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert!(dead.header(headers::ERROR).unwrap().contains("did not answer within 200ms"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_waits_too_long_for_a_handler_goes_back_to_the_queue_and_no_attempt_is_charged() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").prefetch(2).concurrency(1).give_back_after(Duration::from_millis(100));
    let (busy, out) = service(&broker, consume, &downstream).await;
    out.publish("begun".to_owned()).await.unwrap();
    until("begun", || downstream.begun() == 1).await;
    out.publish("waiting".to_owned()).await.unwrap();
    until("given back", || stats(&busy).requeued > 0).await;

    let (factory, mut record) = handlers(|_| Act::Ok);
    let idle = started(App::new(broker.client().unwrap()).consume(Consume::queue("q"), factory)).await;
    let seen = next(&mut record).await;
    assert_eq!((seen.text.as_str(), seen.attempt, seen.redelivered), ("waiting", 1, true));
    assert_eq!(downstream.begun(), 1);
    downstream.let_through(1);
    broker.settled(&busy).await.unwrap();
    assert_eq!((stats(&busy).handled, stats(&busy).retried), (1, 0), "a delivery that a handler has is not given back");
    busy.shutdown().await.unwrap();
    idle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_long_queue_of_slow_messages_does_not_have_the_broker_close_the_channel() {
    let timeout = Duration::from_secs(2);
    let broker: TestBroker = fluffle::broker::Broker::builder().consumer_timeout(timeout).start().unwrap().into();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").concurrency(1).consumer_timeout(timeout).handler_timeout(timeout / 4);
    let (service, out) = service(&broker, consume.retry(retry(100)), &downstream).await;
    // Each message takes the handler_timeout and fails. Without `give_back_after`, the last ones would wait longer than
    // the broker's timeout.
    fill(&out, 10).await;
    until("twice the broker's patience", || stats(&service).retried >= 8).await;
    let snapshot = service.snapshot();
    let channel = find(find(&snapshot, "consume").unwrap(), "channel").unwrap();
    assert_eq!(channel.restarts, 0, "{snapshot}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_hangs_while_its_channel_is_lost_gives_its_place_to_the_next_message() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").concurrency(1).handler_timeout(Duration::from_secs(1)).retry(Retry::none());
    let (service, out) = service(&broker, consume, &downstream).await;
    out.publish("hangs".to_owned()).await.unwrap();
    until("begun", || downstream.begun() == 1).await;
    broker.kill().unwrap();
    broker.start_again().unwrap();
    until("delivered again and begun again", || downstream.begun() == 2).await;
    service.shutdown().await.unwrap();
}
