//! The cases of `cases.json`. Each case represents a kind of message.

use std::sync::Arc;

use conformance::raw::{field, flags, integer, long_string, table};
use serde_json::Value;

use super::*;

struct Case {
    flags: u16,
    properties: Vec<u8>,
}

fn case(name: &str) -> Case {
    let all: Value = serde_json::from_str(include_str!("cases.json")).unwrap();
    let case = all["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    let properties = case["properties_hex"].as_str().map(unhex).unwrap_or_default();
    Case { flags: u16::try_from(case["flags"].as_u64().unwrap()).unwrap(), properties }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn blob(bytes: usize) -> Case {
    Case { flags: flags::HEADERS, properties: table(&[field(b"blob", &long_string(&vec![b'b'; bytes]))]) }
}

impl Bench {
    fn put_case(&mut self, case: &Case) {
        self.put(case.flags, &case.properties);
    }

    async fn handled(&mut self) -> Seen {
        let seen = next(&mut self.record).await;
        assert_eq!(seen.text, "good");
        seen
    }
}

#[actix::test]
async fn a_correlation_id_in_latin_1_is_a_dead_letter_that_says_so() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    bench.put_case(&case("correlation-id-latin1"));
    let dead = bench.dead().await;
    assert_eq!(dead.body, GOOD);
    assert_eq!(dead.header("x-fluffle-reason").unwrap(), "undecodable");
    assert_eq!(dead.header("x-fluffle-unreadable").unwrap(), "correlation_id: not UTF-8");
    assert!(dead.header("x-fluffle-error").unwrap().contains("correlation_id: not UTF-8"));
    assert!(dead.header("x-fluffle-unreadable-bytes").unwrap().contains("233, 116, 233"), "what was there is kept");
    assert!(dead.header("x-fluffle-unreadable-mark").is_none());
    bench.nobody_noticed().await;
}

#[actix::test]
async fn arrays_a_thousand_deep_are_a_dead_letter_and_the_process_lives() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    bench.put_case(&case("header-arrays-1000-deep"));
    let dead = bench.dead().await;
    assert_eq!(dead.body, GOOD);
    assert_eq!(dead.header("x-fluffle-unreadable").unwrap(), "headers.k: nested deeper than 32 levels");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn headers_of_130000_bytes_are_handled_and_shortened_when_they_have_to_travel_on() {
    let mut bench = Bench::with(|_| Act::Err(Failure::reject("no! ".repeat(500)))).await;
    bench.put_case(&blob(130_000));
    bench.handled().await;
    let dead = bench.dead().await;
    assert_eq!(dead.header("x-fluffle-reason").unwrap(), "rejected");
    assert_eq!(dead.header("x-fluffle-shortened").unwrap(), "blob");
    let kept = dead.header("blob").unwrap().len();
    assert!((120_000..130_000).contains(&kept), "{kept}");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn headers_that_the_brokers_own_make_too_large_end_after_their_attempts() {
    for (uri, bytes) in [("", 128_700), ("?frame_max=4096", 20_000)] {
        let script = |_: &Seen| Act::Err(Failure::retry("not yet ".repeat(250)));
        let mut bench = Bench::start(uri, Queue::quorum("q").dead_letter(), |consume| consume, script).await;
        bench.put_case(&blob(bytes));
        for attempt in 1..=3 {
            assert_eq!(bench.handled().await.attempt, attempt);
        }
        let dead = bench.dead().await;
        assert_eq!(dead.header("x-fluffle-reason").unwrap(), "attempts-exhausted");
        assert_eq!(dead.header("x-fluffle-attempt").unwrap(), "3");
        assert_eq!(dead.header("x-fluffle-shortened").unwrap(), "blob");
        bench.nobody_noticed().await;
    }
}

#[actix::test]
async fn an_empty_message_id_is_no_id() {
    let consume =
        |consume: Consume<String>| consume.effectively_once(Arc::new(SeenIds::options().in_memory().unwrap()));
    let mut bench = Bench::start("", Queue::quorum("q").dead_letter(), consume, |_| Act::Ok).await;
    for _ in 0..3 {
        bench.put_case(&case("message-id-empty"));
    }
    for _ in 0..3 {
        bench.handled().await;
    }
    bench.nobody_noticed().await;
    assert_eq!(bench.stats().duplicates, 0);
}

#[actix::test]
async fn a_delivery_count_that_somebody_else_wrote_is_not_believed() {
    for queue in [Queue::quorum("q").dead_letter(), Queue::classic("q").dead_letter()] {
        let mut bench = Bench::start("", queue, |consume| consume, |_| Act::Ok).await;
        bench.put_case(&case("stale-x-delivery-count"));
        bench.handled().await;
        bench.nobody_noticed().await;
        assert_eq!(bench.stats().dead_lettered, 0);
    }
}

#[actix::test]
async fn a_content_encoding_that_is_no_compression_means_none() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    bench.put_case(&case("content-encoding-binary"));
    bench.handled().await;
    bench.nobody_noticed().await;
}

#[actix::test]
async fn a_header_that_the_broker_made_larger_than_a_frame_is_shortened_and_handled() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    // The broker's dead-lettering adds `x-death` to headers that only just fitted.
    let waiting = [
        field(b"x-message-ttl", &integer(1)),
        field(b"x-dead-letter-exchange", &long_string(b"")),
        field(b"x-dead-letter-routing-key", &long_string(b"q")),
    ];
    bench.foreign.declare(b"waiting", &waiting);
    let Case { flags, properties } = blob(131_000);
    bench.put_by(b"", b"waiting", flags, &properties);
    bench.handled().await;
    bench.nobody_noticed().await;
    assert_eq!(bench.stats().dead_lettered, 0);
}
