//! What a broker has only since some version: found out when it is connected, never assumed.

use std::{sync::Arc, time::Duration};

use fluffle::prelude::*;
use tokio::sync::Notify;

use crate::support::*;

/// The version of the broker, as it says itself.
async fn version_of(place: &Place) -> (String, (u32, u32)) {
    let service = started(App::new(broker(place.url())).topology(Topology::new().queue(Queue::quorum("plain")))).await;
    let version = version(&service);
    service.shutdown().await.unwrap();
    version
}

#[actix::test]
async fn an_argument_that_the_broker_is_too_old_for_ends_the_service_with_the_version_that_has_it() {
    let place = vhost();
    let (said, version) = version_of(&place).await;
    let timed = Queue::quorum("q").consumer_timeout(Duration::from_secs(60));
    for (queue, argument, since) in [
        (Queue::quorum("q").max_priority(5), "x-max-priority", (4, 3)),
        (timed, "x-consumer-timeout", (3, 12)),
        (Queue::quorum("q").argument("x-delayed-retry-type", "all"), "x-delayed-retry-type", (4, 3)),
    ] {
        let service = App::new(broker(place.url())).topology(Topology::new().queue(queue)).start().await.unwrap();
        if version >= since {
            soon("ready", service.ready()).await.expect("the broker has it");
            service.shutdown().await.unwrap();
            Raw::connect(place.url()).await.delete("q").await;
            continue;
        }
        let end = soon("the end", service.wait()).await.unwrap_err().to_string();
        let since = format!("{}.{}", since.0, since.1);
        assert!([argument, "\"q\"", &since, &said].iter().all(|word| end.contains(*word)), "{end}");
    }
}

#[actix::test]
async fn a_quorum_queue_of_rabbitmq_4_delivers_two_waiting_messages_of_high_priority_for_each_other_one() {
    let place = vhost();
    let (said, version) = version_of(&place).await;
    if version < (4, 0) {
        eprintln!("skipped: {said} has no priorities in quorum queues");
        return;
    }
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let publishing = started(app).await;
    let (low, high) = (MessageOptions::new().priority(4), MessageOptions::new().priority(5));
    for (text, options) in std::iter::repeat_n(("low", low), 20).chain(std::iter::repeat_n(("high", high), 20)) {
        soon("published", out.publish_with(text.to_owned(), options)).await.unwrap();
    }
    let (factory, mut record) = handlers(|_| Act::Ok);
    // One at a time, so that the queue chooses each.
    let consume = Consume::queue("q").prefetch(1);
    let service = started(App::new(broker(place.url())).consume(consume, factory)).await;
    let mut first = Vec::new();
    for _ in 0..30 {
        first.push(next(&mut record).await.text);
    }
    let of_high = |seen: &[String]| seen.iter().filter(|text| *text == "high").count();
    if version >= (4, 3) {
        assert_eq!(of_high(&first[..20]), 20, "priorities are strict: {first:?}");
    } else {
        assert_eq!(of_high(&first), 20, "{first:?}");
        assert!(first.chunks(3).all(|three| of_high(three) == 2), "{first:?}");
    }
    service.shutdown().await.unwrap();
    publishing.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_goes_by_the_time_limit_that_its_queue_has_in_the_same_topology() {
    let place = vhost();
    let (said, version) = version_of(&place).await;
    if version < (3, 12) {
        eprintln!("skipped: {said} has no time limit of a queue");
        return;
    }
    let timed = Queue::quorum("q").consumer_timeout(Duration::from_secs(4));
    let app = App::new(broker(place.url())).topology(Topology::new().queue(timed));
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "begun" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").prefetch(2).concurrency(1), factory)).await;
    publish(&out, &["begun", "waiting"]).await;
    assert_eq!(next(&mut record).await.text, "begun");
    // Half of the limit, where it would be half of 30 minutes.
    until("what waits for the handler is given back", || stats(&service).requeued > 0).await;
    go.notify_one();
    until("both are handled", || stats(&service).handled == 2).await;
    service.shutdown().await.unwrap();
}
