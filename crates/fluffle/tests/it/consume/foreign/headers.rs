//! Properties and headers of all kinds: some cannot be read, some only the broker should write, some are Fluffle's own.

use conformance::raw::{Fields, array, field, flags, integer, long_string, table};
use fluffle::amqp::Replay;

use super::*;

#[actix::test]
async fn each_property_that_is_not_utf_8_is_named_by_its_dead_letter() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    let texts = [
        (flags::CONTENT_TYPE, "content_type"),
        (flags::CONTENT_ENCODING, "content_encoding"),
        (flags::CORRELATION_ID, "correlation_id"),
        (flags::REPLY_TO, "reply_to"),
        (flags::MESSAGE_ID, "message_id"),
        (flags::TYPE, "type"),
        (flags::APP_ID, "app_id"),
        (flags::CLUSTER_ID, "cluster_id"),
    ];
    for (flag, name) in texts {
        bench.put(flag, &Fields::new().short(b"a\xffb").into_bytes());
        let dead = bench.dead().await;
        assert_eq!(dead.header("x-fluffle-unreadable").unwrap(), format!("{name}: not UTF-8"));
        assert_eq!(dead.body, GOOD);
    }
    bench.nobody_noticed().await;
}

#[actix::test]
async fn a_routing_key_or_a_header_name_that_is_not_utf_8_is_named_by_its_dead_letter() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    bench.put_by(b"t", b"k\xe9y", 0, &[]);
    let dead = bench.dead().await;
    assert_eq!(dead.header("x-fluffle-unreadable").unwrap(), "routing_key: not UTF-8");
    assert_eq!(dead.header("x-fluffle-origin-key").unwrap(), "k?y");

    let headers = table(&[field(b"good", &long_string(b"kept")), field(b"b\xe4d", &integer(1))]);
    bench.put(flags::HEADERS, &headers);
    let dead = bench.dead().await;
    assert_eq!(dead.header("x-fluffle-unreadable").unwrap(), "headers.b?d: a name in it is not UTF-8");
    assert_eq!(dead.header("good").unwrap(), "kept");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn at_most_once_drops_what_cannot_be_read_and_goes_on() {
    let at_most_once = |consume: Consume<String>| consume.guarantee(AtMostOnce);
    let mut bench = Bench::start("", Queue::quorum("q"), at_most_once, |_| Act::Ok).await;
    bench.put(flags::CORRELATION_ID, &Fields::new().short(b"\xff").into_bytes());
    bench.put(0, &[]);
    assert_eq!(next(&mut bench.record).await.text, "good");
    until("it is counted", || bench.stats().dropped == 1).await;
    bench.nobody_noticed().await;
}

#[actix::test]
async fn properties_that_are_present_but_empty_are_absent() {
    let mut bench = Bench::with(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("no")) } else { Act::Ok }).await;
    let texts = flags::CONTENT_TYPE
        | flags::CONTENT_ENCODING
        | flags::CORRELATION_ID
        | flags::REPLY_TO
        | flags::MESSAGE_ID
        | flags::TYPE
        | flags::APP_ID
        | flags::CLUSTER_ID;
    bench.put(texts, &[0; 8]);
    for attempt in 1..=2 {
        assert_eq!(next(&mut bench.record).await.attempt, attempt);
    }
    bench.nobody_noticed().await;
    assert_eq!((bench.stats().retried, bench.stats().replies_unroutable), (1, 0), "the message is not a request");
}

#[actix::test]
async fn fluffles_own_headers_of_rubbish_cost_a_message_nothing() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    let rubbish = [
        field(b"x-fluffle-attempt", &long_string(b"many")),
        field(b"x-fluffle-attempt", &integer(-7)),
        field(b"x-fluffle-attempt", &array(&[integer(3)])),
        field(b"x-fluffle-first-seen", &integer(i64::MAX)),
        field(b"x-fluffle-first-seen", &integer(i64::MIN)),
        field(b"x-fluffle-origin-queue", &long_string(b"somewhere else")),
        field(b"x-fluffle-error", &integer(3)),
        field(b"x-fluffle-unreadable", &long_string(b"everything")),
        field(b"x-fluffle-unreadable-mark", &integer(1)),
        field(b"x-fluffle-shortened", &array(&[])),
        field(b"x-fluffle-replay", b"V"),
    ];
    for header in &rubbish {
        bench.put(flags::HEADERS, &table(&[header.clone(), header.clone()]));
        assert_eq!(next(&mut bench.record).await.attempt, 1, "{header:?}");
    }
    bench.nobody_noticed().await;
}

#[actix::test]
async fn an_attempt_that_was_made_in_another_queue_is_none_in_this_one() {
    let mut bench = Bench::with(|_| Act::Err(Failure::reject("no"))).await;
    let from = |queue: &[u8]| {
        table(&[
            field(b"x-fluffle-attempt", &integer(3)),
            field(b"x-fluffle-origin-exchange", &long_string(b"")),
            field(b"x-fluffle-origin-key", &long_string(b"k")),
            field(b"x-fluffle-origin-queue", &long_string(queue)),
            field(b"x-fluffle-first-seen", &integer(1_700_000_000_000)),
        ])
    };
    for (queue, attempt) in [(&b"other"[..], 1), (b"q", 3)] {
        bench.put(flags::HEADERS, &from(queue));
        assert_eq!(next(&mut bench.record).await.attempt, attempt);
        let dead = bench.dead().await;
        assert_eq!(dead.header("x-fluffle-origin-queue").unwrap(), "q", "the queue in which the message died last");
    }
    bench.nobody_noticed().await;
}

#[actix::test]
async fn what_cannot_be_read_is_handled_when_it_is_replayed_without_it() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    bench.put(flags::CORRELATION_ID, &Fields::new().short(b"\xff").into_bytes());
    bench.place.wait_depth("q.dead", |depth| depth.ready == 1);
    let replayed = soon("replayed", Replay::from("q.dead").run(&broker(bench.place.url()))).await.unwrap();
    assert_eq!(replayed.replayed, 1);
    assert_eq!(next(&mut bench.record).await.text, "good");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn what_says_that_it_was_a_dead_letter_begins_anew_and_its_retries_come_to_an_end() {
    let mut bench = Bench::with(|_| Act::Err(Failure::retry("not yet"))).await;
    let put_back =
        table(&[field(b"x-fluffle-reason", &long_string(b"rejected")), field(b"x-fluffle-attempt", &integer(3))]);
    bench.put(flags::HEADERS, &put_back);
    for attempt in 1..=3 {
        assert_eq!(next(&mut bench.record).await.attempt, attempt);
    }
    assert_eq!(bench.dead().await.header("x-fluffle-reason").unwrap(), "attempts-exhausted");
    bench.nobody_noticed().await;
}
