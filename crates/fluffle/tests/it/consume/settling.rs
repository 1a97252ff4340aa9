//! Settlement of deliveries: ack, retry, dead letter, requeue.

use std::{sync::Arc, time::Duration};

use fluffle::{prelude::*, wire::headers};
use lapin::BasicProperties;
use tokio::sync::Notify;

use crate::support::*;

pub(super) fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[actix::test]
async fn a_handled_message_is_acked_and_gone() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    assert_eq!(next(&mut record).await.text, "a");
    until("it is settled", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
    empty(vhost.url(), &["q", "q.dead"]).await;
}

/// Checks that the queues are empty. After a service has ended, no message is unacked: those not settled are ready
/// again.
pub(super) async fn empty(url: &str, queues: &[&str]) {
    let raw = Raw::connect(url).await;
    for queue in queues {
        assert_eq!(raw.ready(queue).await, 0, "{queue}");
    }
}

#[actix::test]
async fn a_failed_message_comes_again_as_the_next_attempt_and_leaves_no_copy_behind() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    publish(&out, &["a"]).await;
    assert_eq!(next(&mut record).await.attempt, 1);
    assert_eq!(next(&mut record).await.attempt, 2);
    until("it is settled", || stats(&service).handled == 1).await;
    assert_eq!(stats(&service).retried, 1);
    service.shutdown().await.unwrap();
    empty(vhost.url(), &["q", "q.dead", "q.retry.50"]).await;
}

#[actix::test]
async fn past_the_last_attempt_a_message_is_a_dead_letter_that_tells_its_story() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| match seen.text.as_str() {
        "bad" => Act::Err(Failure::retry("the database is away")),
        _ => Act::Ok,
    });
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    let id = out.publish("bad".to_owned()).await.unwrap().id;
    for attempt in 1..=3 {
        assert_eq!(next(&mut record).await.attempt, attempt);
    }
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), id);
    assert_eq!(dead.header(headers::REASON).unwrap(), "attempts-exhausted");
    assert_eq!(dead.header(headers::ERROR).unwrap(), "the database is away");
    assert_eq!(dead.header(headers::ATTEMPT).unwrap(), "3");
    assert_eq!(dead.header(headers::ORIGIN_QUEUE).unwrap(), "q");
    assert_eq!(dead.header(headers::ORIGIN_KEY).unwrap(), "q");
    assert!(dead.header(headers::FIRST_SEEN).is_some());
    publish(&out, &["good"]).await;
    assert_eq!(next(&mut record).await.text, "good", "the consumer goes on");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_rejected_message_is_dead_lettered_without_another_attempt() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Err(Failure::reject("never")));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    assert_eq!(next(&mut record).await.attempt, 1);
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert_eq!(dead.header(headers::REASON).unwrap(), "rejected");
    until("it is settled", || stats(&service).dead_lettered == 1).await;
    assert_eq!(stats(&service).retried, 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_body_that_cannot_be_read_is_a_dead_letter_and_never_requeued() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let limits = fluffle::wire::Limits { encoded: 10_000, ..Default::default() };
    let service = started(app.consume(Consume::queue("q").limits(limits), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    let labelled = |content_type: &str| BasicProperties::default().with_content_type(content_type.into());
    let protobuf = "application/vnd.google.protobuf; proto=google.protobuf.StringValue";
    let bomb = gzip_bomb();
    let gzip = || labelled(protobuf).with_content_encoding("gzip".into());
    let bad: [(&[u8], BasicProperties, &str); 6] = [
        (b"\xff\xff\xff", labelled(protobuf), "is not a google.protobuf.StringValue"),
        (b"{}", labelled("application/xml"), "content_type is \"application/xml\""),
        (b"", labelled("application/vnd.google.protobuf; proto=somebody.Else"), "is \"somebody.Else\""),
        (b"plain", gzip(), "does not start like gzip"),
        (&bomb, gzip(), "a gzip bomb"),
        (&[0; 10_001], labelled(protobuf), "the body has 10001 bytes"),
    ];
    for (body, properties, why) in bad {
        raw.put("q", body, properties).await;
        let dead = raw.take("q.dead").await;
        assert_eq!(dead.header(headers::REASON).as_deref(), Some("undecodable"), "{why}");
        assert_eq!(dead.body, body, "{why}: the body is untouched");
        let error = dead.header(headers::ERROR).unwrap();
        assert!(error.contains(why), "{error}");
    }
    publish(&out, &["good"]).await;
    assert_eq!(next(&mut record).await.text, "good", "the consumer goes on");
    assert_eq!(stats(&service).crashed, 0);
    service.shutdown().await.unwrap();
}

/// A few thousand bytes that unpack to 2 MB.
fn gzip_bomb() -> Vec<u8> {
    let inner = fluffle::wire::Wire::<String>::protobuf().gzip(Gzip::on()).limits(fluffle::wire::Limits {
        encoded: 1 << 20,
        decompressed: 1 << 30,
        ratio: 1 << 20,
        ..Default::default()
    });
    inner.encode(&"a".repeat(2_000_000)).unwrap().body.to_vec()
}

#[actix::test]
async fn a_crash_is_charged_to_the_message_in_hand_and_to_none_that_waited() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    publish_before_consuming(&vhost, &["a", "boom", "b", "c"]).await;
    let (factory, mut record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("boom", 1) => Act::Panic,
        _ => Act::Ok,
    });
    let service = started(app.consume(Consume::queue("q").concurrency(1).retry(retry(3)), factory)).await;
    let mut attempts = Vec::new();
    for _ in 0..5 {
        let seen = next(&mut record).await;
        attempts.push((seen.text, seen.attempt));
    }
    attempts.sort();
    let expected = [("a", 1), ("b", 1), ("boom", 1), ("boom", 2), ("c", 1)];
    assert_eq!(attempts, expected.map(|(text, attempt)| (text.to_owned(), attempt)));
    until("all are settled", || stats(&service).handled == 4).await;
    assert_eq!(stats(&service).crashed, 1);
    let restarts = service.snapshot().find("app/handlers/q/0").expect("the handler's node").restarts;
    assert_eq!(restarts, 1);
    drop(out);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_poison_message_ends_as_a_dead_letter_and_the_rest_goes_through() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| if seen.text == "poison" { Act::Panic } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    publish(&out, &["poison", "a", "b"]).await;
    let dead = Raw::connect(vhost.url()).await.take("q.dead").await;
    assert_eq!(dead.header(headers::REASON).unwrap(), "attempts-exhausted");
    assert!(dead.header(headers::ERROR).unwrap().contains("panicked"));
    until("the others are handled", || stats(&service).handled == 2).await;
    let mut texts = Vec::new();
    for _ in 0..5 {
        texts.push(next(&mut record).await.text);
    }
    texts.sort();
    assert_eq!(texts, words(&["a", "b", "poison", "poison", "poison"]));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_slow_message_holds_back_no_other_messages_ack() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "slow" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["slow", "a", "b", "c"]).await;
    for _ in 0..4 {
        next(&mut record).await;
    }
    until("the others are acked", || stats(&service).handled == 3).await;
    until("the broker has one unacked", || {
        let depth = vhost.depth("q");
        (depth.ready, depth.unacked) == (0, 1)
    })
    .await;
    go.notify_one();
    until("the slow one is acked", || stats(&service).handled == 4).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn work_done_on_a_lost_channel_is_counted_and_its_tag_never_sent() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.redelivered { Act::Ok } else { Act::Wait(Arc::clone(&gate)) });
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    assert!(!next(&mut record).await.redelivered);
    vhost.close_connections("a test cuts the connection");
    let again = next(&mut record).await;
    assert!(again.redelivered, "the broker delivers again what was not acked");
    assert_eq!(again.attempt, 1, "a lost connection must not raise the attempt number");
    go.notify_one();
    until("the first handling is noted", || stats(&service).work_done_ack_lost == 1).await;
    until("the second is acked", || stats(&service).handled == 1).await;
    // If the old tag had been acked, the broker would have closed the new channel with 406, and the channel would have
    // restarted once more.
    soon("still running", service.ready()).await.unwrap();
    let channel = service.snapshot().find("app/consume/consume-0/channels/q/channel").unwrap().clone();
    assert_eq!(channel.restarts, 1, "the channel restarts only together with its connection:\n{}", service.snapshot());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_copy_that_finds_no_place_keeps_its_original_until_it_does() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let service = started(app.consume(Consume::queue("q").retry(retry(2)), factory)).await;
    Raw::connect(vhost.url()).await.delete("q.retry.50").await;
    publish(&out, &["a"]).await;
    assert_eq!(next(&mut record).await.attempt, 1);
    assert_eq!(next(&mut record).await.attempt, 2, "the retry queue is declared again and the copy placed");
    until("it is settled", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn work_begun_beside_a_crash_finishes_and_is_not_done_again() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| match (seen.text.as_str(), seen.attempt) {
        ("slow", _) => Act::Wait(Arc::clone(&gate)),
        ("boom", 1) => Act::Panic,
        _ => Act::Ok,
    });
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    publish(&out, &["slow", "boom"]).await;
    for expected in [("slow", 1), ("boom", 1), ("boom", 2)] {
        let seen = next(&mut record).await;
        assert_eq!((seen.text.as_str(), seen.attempt), expected);
    }
    go.notify_one();
    until("both are handled", || stats(&service).handled == 2).await;
    assert_eq!((stats(&service).crashed, stats(&service).retried), (1, 1), "only the message in hand is charged");
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err(), "a message was handed out again");
}

#[actix::test]
async fn a_crash_now_and_then_costs_the_shortest_wait_only() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("boom", 1) => Act::Panic,
        _ => Act::Ok,
    });
    let minute =
        Backoff::exponential(Duration::from_millis(1), Duration::from_secs(60)).unwrap().factor(1000.0).unwrap();
    let consume = Consume::queue("q").concurrency(1).retry(retry(3)).handler_backoff(minute);
    let service = started(app.consume(consume, factory)).await;
    // A message is handled before each crash, which resets the wait. If waits grew, the third would be a minute.
    for _ in 0..8 {
        publish(&out, &["fine", "boom"]).await;
        for _ in 0..3 {
            next(&mut record).await;
        }
    }
    assert_eq!(stats(&service).crashed, 8);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_original_is_never_acked_while_its_copy_has_no_place() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Err(Failure::retry("not yet")));
    let app = app.drain_within(Duration::from_millis(500)).consume(Consume::queue("q").retry(retry(2)), factory);
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;
    raw.let_nothing_into("q.retry.50").await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    service.shutdown().await.unwrap();
    until_ready(&raw, "q", 1).await;
}

async fn until_ready(raw: &Raw, queue: &str, count: u32) {
    soon(&format!("{count} ready in {queue}"), async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while raw.ready(queue).await != count {
            look.tick().await;
        }
    })
    .await;
}

#[actix::test]
async fn a_short_wait_is_waited_out_here_and_counts_as_an_attempt_all_the_same() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Err(Failure::retry("not yet")));
    let short = Duration::from_millis(20);
    let retry = Retry::exponential(3, short, 1.0).unwrap().in_process_below(Duration::from_millis(50)).unwrap();
    let service = started(app.consume(Consume::queue("q").retry(retry), factory)).await;
    publish(&out, &["a", "b"]).await;
    let mut attempts = Vec::new();
    for _ in 0..6 {
        let seen = next(&mut record).await;
        assert!(!seen.redelivered, "the message went back to the broker");
        attempts.push((seen.text, seen.attempt));
    }
    attempts.sort();
    let all: Vec<_> = ["a", "b"].iter().flat_map(|text| (1..=3).map(|attempt| ((*text).to_owned(), attempt))).collect();
    assert_eq!(attempts, all);
    let raw = Raw::connect(vhost.url()).await;
    until("both are dead letters", || stats(&service).dead_lettered == 2).await;
    assert_eq!((raw.ready("q.dead").await, stats(&service).retried), (2, 4));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_waits_here_when_the_connection_is_lost_comes_again_and_what_waits_at_shutdown_goes_back() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) =
        handlers(|seen| if seen.redelivered { Act::Ok } else { Act::Err(Failure::retry("not yet")) });
    let long = Duration::from_secs(9);
    let retry = Retry::exponential(3, long, 1.0).unwrap().in_process_below(Duration::from_secs(10)).unwrap();
    let consume = Consume::queue("q").retry(retry);
    let service = started(app.consume(consume, factory)).await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    vhost.close_connections("a test cuts the connection");
    let again = next(&mut record).await;
    assert!(again.redelivered && again.attempt == 1, "{again:?}");
    until("it is acked", || stats(&service).handled == 1).await;
    publish(&out, &["b"]).await;
    next(&mut record).await;
    until("it rests", || stats(&service).retried == 2).await;
    soon("the drain", service.shutdown()).await.unwrap();
    vhost.wait_depth("q", |depth| depth.ready == 1);
}

/// If they were not refused, the broker would deliver messages to both, and each would dead-letter the other's.
#[actix::test]
async fn two_consumers_of_different_types_on_one_queue_are_refused_with_the_reason_and_two_of_one_are_not() {
    struct Both;
    impl Actor for Both {
        type Context = Context<Self>;
    }
    impl Handler<Delivery<String>> for Both {
        type Result = Result<(), Failure>;
        fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
            Ok(())
        }
    }
    impl Handler<Delivery<Vec<u8>>> for Both {
        type Result = Result<(), Failure>;
        fn handle(&mut self, _: Delivery<Vec<u8>>, _: &mut Self::Context) -> Self::Result {
            Ok(())
        }
    }
    let vhost = vhost();
    let app = || {
        let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("other"));
        App::new(broker(vhost.url())).topology(topology).consume(Consume::<String>::queue("q"), || Both)
    };
    let error = app().consume(Consume::<Vec<u8>>::queue("q"), || Both).start().await.err().unwrap().to_string();
    for words in ["queue `q`", "String", "Vec<u8>", "dead-letter the other's", "a queue of its own"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let fine =
        app().consume(Consume::<String>::queue("q"), || Both).consume(Consume::<Vec<u8>>::queue("other"), || Both);
    let service = started(fine).await;
    assert_eq!(service.consumers().len(), 3);
    service.shutdown().await.unwrap();
}
