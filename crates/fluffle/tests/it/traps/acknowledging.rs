//! Traps of acknowledging.

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, wire::headers};
use tokio::sync::Notify;

use super::tap::{BASIC_NACK, BASIC_REJECT, Tap};
use crate::support::*;

/// On the new channel the redelivered message has tag 1 again. An ack of the old delivery would settle the new one,
/// whose handler is still at work, and with `multiple` everything before it.
#[actix::test]
async fn a_tag_of_a_lost_channel_settles_nothing_on_the_next_one() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (old, new) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gates = (Arc::clone(&old), Arc::clone(&new));
    let (factory, mut record) =
        handlers(move |seen| Act::Wait(Arc::clone(if seen.redelivered { &gates.1 } else { &gates.0 })));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a", "b"]).await;
    next(&mut record).await;
    next(&mut record).await;
    vhost.close_connections("a test cuts the connection");
    assert!(next(&mut record).await.redelivered && next(&mut record).await.redelivered);
    old.notify_waiters();
    until("the old work is noted", || stats(&service).work_done_ack_lost == 2).await;
    // This message makes a round trip on the connection on which those acks would have been sent.
    publish(&out, &["c"]).await;
    assert!(!next(&mut record).await.redelivered);
    until("both are still unacked, and the third", || (vhost.depth("q").ready, vhost.depth("q").unacked) == (0, 3))
        .await;
    assert_eq!(stats(&service).handled, 0);
    old.notify_waiters();
    new.notify_waiters();
    until("each is acked once, by its own delivery", || stats(&service).handled == 3).await;
    until("the queue is empty", || vhost.depth("q").unacked == 0).await;
    service.shutdown().await.unwrap();
}

/// In RabbitMQ 4, `basic.reject` raises a quorum queue's delivery count and `basic.nack` does not. Deliveries that no
/// handler has begun therefore go back by `basic.nack`.
#[actix::test]
async fn what_goes_back_unbegun_is_nacked_for_a_reject_counts_against_it() {
    let vhost = vhost();
    let tap = Tap::before(vhost.port());
    let (app, out) = app(&tap.url(vhost.url(), vhost.port()));
    let (factory, mut record) = handlers(|seen| if seen.text == "0" { Act::Hang } else { Act::Ok });
    let consume = Consume::queue("q").concurrency(1);
    let service = started(app.drain_within(Duration::from_millis(300)).consume(consume, factory)).await;
    publish(&out, &["0", "1", "2", "3"]).await;
    next(&mut record).await;
    until("the others wait here", || vhost.depth("q").unacked == 4).await;
    service.shutdown().await.unwrap();
    until("all are back", || vhost.depth("q").ready == 4).await;
    assert_eq!(tap.all(BASIC_NACK).len(), 3, "all but the one that a handler has begun");
    assert_eq!(tap.all(BASIC_REJECT).len(), 0);
}

/// Since RabbitMQ 4 a quorum queue drops what it has delivered 20 times in vain, unless it has a dead-letter exchange.
/// This one has none.
#[actix::test]
async fn a_message_near_the_brokers_delivery_limit_is_a_dead_letter_before_the_broker_drops_it() {
    let vhost = vhost();
    let topology = Topology::new().queue(Queue::quorum("q").delivery_limit(20));
    let service = started(App::new(broker(vhost.url())).topology(topology.clone())).await;
    let raw = Raw::connect(vhost.url()).await;
    let (body, labels) = encoded("seen too often");
    raw.put("q", &body, labels).await;
    for _ in 0..10 {
        delivered_in_vain(&raw).await;
    }
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url())).topology(topology);
    let consuming = started(app.consume(Consume::<String>::queue("q"), factory)).await;
    let dead = raw.take("q.dead").await;
    assert_eq!(dead.header(headers::REASON).unwrap(), "delivery-limit");
    assert!(dead.header(headers::ERROR).unwrap().contains("delivered 10 times"), "{dead:?}");
    assert!(record.try_recv().is_err(), "no handler was given it");
    consuming.shutdown().await.unwrap();
    service.shutdown().await.unwrap();
}

/// Gets the message of `q` and closes the channel without settling it.
async fn delivered_in_vain(raw: &Raw) {
    let channel = raw.fresh_channel().await;
    soon("the message is there", async {
        while channel.basic_get("q".into(), Default::default()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    channel.close(200, "".into()).await.unwrap();
}

/// If a failed message were requeued, it would be at the head of its queue and fail again immediately.
#[actix::test]
async fn a_failed_message_is_not_requeued_but_waits_for_its_turn() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) =
        handlers(|seen| if seen.attempt < 3 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    publish(&out, &["a"]).await;
    for attempt in 1..=3 {
        let seen = next(&mut record).await;
        assert_eq!((seen.attempt, seen.redelivered), (attempt, false), "an attempt must be a copy, not a redelivery");
    }
    until("it is handled", || stats(&service).handled == 1).await;
    assert_eq!((stats(&service).retried, stats(&service).requeued), (2, 0));
    service.shutdown().await.unwrap();
}
