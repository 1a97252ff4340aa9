//! Messages with headers that look as if the broker or Fluffle had written them, and messages that leave no room for
//! what the broker or Fluffle adds.

use std::sync::Arc;

use conformance::raw::{Fields, array, field, flags, integer, long_string, table};
use fluffle::amqp::{CircuitBreaker, ConsumerState, Replay};

use super::*;

/// The content type of a batch.
const BATCH: &[u8] = b"application/protobuf; encoding=delimited";

/// A batch of `good` and `evil`.
const TWO: &[u8] = b"\x06\x0a\x04good\x06\x0a\x04evil";

fn bytes(value: &[u8]) -> Vec<u8> {
    [b"x", &u32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

impl Bench {
    /// Puts a batch of two into `q`.
    fn put_batch(&mut self, id: &[u8]) {
        let (flags, properties) = (flags::CONTENT_TYPE | flags::MESSAGE_ID, Fields::new().short(BATCH).short(id));
        let properties = properties.into_bytes();
        let publish =
            RawPublish { exchange: b"", key: b"q", mandatory: false, flags, properties: &properties, body: TWO };
        self.foreign.publish(publish);
        self.foreign.confirmed();
    }

    /// Puts a message without a body into `q.dead`.
    fn put_letter(&mut self, headers: &[u8]) {
        self.put_by(b"", b"q.dead", flags::HEADERS, headers);
    }

    async fn replay(&self, uri: &str) -> fluffle::amqp::Replayed {
        let broker = broker(&format!("{}{uri}", self.place.url()));
        soon("replayed", Replay::from("q.dead").run(&broker)).await.unwrap()
    }
}

#[actix::test]
async fn a_batch_whose_id_leaves_no_room_for_its_items_is_a_dead_letter() {
    let remembering =
        |consume: Consume<String>| consume.effectively_once(Arc::new(SeenIds::options().in_memory().unwrap()));
    for consume in [|consume| consume, remembering] {
        let failing = |_: &Seen| Act::Err(Failure::reject("no"));
        let mut bench = Bench::start("", Queue::quorum("q").dead_letter(), consume, failing).await;
        bench.put_batch(&[b'i'; 254]);
        let dead = bench.dead().await;
        assert_eq!(dead.body, TWO);
        assert!(dead.header("x-fluffle-error").unwrap().contains("255 bytes"));

        bench.put_batch(&[b'i'; 253]);
        for _ in 0..2 {
            let dead = bench.dead().await;
            assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str().len(), 255);
        }
        bench.nobody_noticed().await;
    }
}

#[actix::test]
async fn a_message_that_says_it_is_a_dead_letter_ends_after_its_attempts() {
    let mut bench = Bench::with(|_| Act::Err(Failure::retry("not yet"))).await;
    bench.put(flags::HEADERS, &table(&[field(b"x-fluffle-reason", &long_string(b"rejected"))]));
    for attempt in 1..=3 {
        assert_eq!(next(&mut bench.record).await.attempt, attempt);
    }
    let dead = bench.dead().await;
    assert_eq!(dead.header("x-fluffle-reason").unwrap(), "attempts-exhausted");
    assert_eq!(dead.header("x-fluffle-replay").unwrap(), "dead", "the copy must differ from the message that died");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn headers_that_only_look_like_fluffles_own_are_shortened_as_any() {
    let in_a_table = |value: &[u8]| [b"F", &table(&[field(b"k", value)])[..]].concat();
    let numbered = |name: fn(usize) -> String, count| -> Vec<Vec<u8>> {
        (0..count).map(|n| field(name(n).as_bytes(), &integer(1))).collect()
    };
    for (uri, size) in [("", 128_900), ("?frame_max=4096", 20_000)] {
        let blob = bytes(&vec![7; size]);
        let all = [
            vec![field(b"x-fluffle-blob", &blob)],
            vec![field(b"x-fluffle-attempt", &array(std::slice::from_ref(&blob)))],
            vec![field(b"x-fluffle-error", &in_a_table(&blob))],
            numbered(|n| format!("x-fluffle-{n:09}"), (size / 30).min(4000)),
            numbered(|_| "x-fluffle-attempt".to_owned(), (size / 30).min(4000)),
        ];
        let failing = |_: &Seen| Act::Err(Failure::reject("no! ".repeat(500)));
        let mut bench = Bench::start(uri, Queue::quorum("q").dead_letter(), |consume| consume, failing).await;
        for headers in all {
            bench.put(flags::HEADERS, &table(&headers));
            assert_eq!(bench.dead().await.header("x-fluffle-reason").unwrap(), "rejected");
        }
        bench.nobody_noticed().await;
    }
}

#[actix::test]
async fn a_count_of_deliveries_that_is_there_twice_is_the_brokers_own() {
    let place = vhost();
    let address = SocketAddr::from(([127, 0, 0, 1], place.port()));
    let mut foreign = RawClient::open(address, place.name(), 0);
    foreign.select_confirms();
    foreign.declare(b"q", &[field(b"x-queue-type", &long_string(b"quorum"))]);
    let counts = table(&[field(b"x-delivery-count", &integer(1)), field(b"x-delivery-count", &integer(1000))]);
    let publish = RawPublish {
        exchange: b"",
        key: b"q",
        mandatory: false,
        flags: flags::HEADERS,
        properties: &counts,
        body: GOOD,
    };
    foreign.publish(publish);
    foreign.confirmed();
    // Another client gets the message first and requeues it.
    let tag = foreign.get_unacked(b"q").unwrap().tag();
    foreign.reject(tag, true);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let app = App::new(broker(place.url()));
    let service = started(app.consume(Consume::queue("q").retry(retry(3)), factory)).await;
    let seen = next(&mut record).await;
    assert_eq!((&*seen.text, seen.redelivered), ("good", true));
    soon("it ends", service.shutdown()).await.unwrap();
}

#[actix::test]
async fn an_answer_to_an_address_that_the_broker_did_not_make_costs_nobody_a_connection() {
    let mut bench = Bench::with(|_| Act::Err(Failure::reject("no"))).await;
    let term_that_is_no_process = "amq.rabbitmq.reply-to.g2gCYQFhAg==.key";
    let longest = format!("amq.rabbitmq.reply-to.{}", "x".repeat(233));
    let addresses = [
        "amq.rabbitmq.reply-to.!!!.key",
        "amq.rabbitmq.reply-to.AAAA.AAAA",
        "amq.rabbitmq.reply-to...a..b..",
        term_that_is_no_process,
        "amq.rabbitmq.reply-to.one",
        "amq.rabbitmq.reply-to.",
        "amq.rabbitmq.reply-tosomebody",
        &longest,
        "missing",
        "/exchange/t/k",
    ];
    for address in addresses {
        let properties = Fields::new().short(&[b'c'; 255]).short(address.as_bytes()).into_bytes();
        bench.put(flags::CORRELATION_ID | flags::REPLY_TO, &properties);
        next(&mut bench.record).await;
    }
    until("all are settled", || {
        let stats = bench.stats();
        stats.dead_lettered + stats.refused == addresses.len() as u64
    })
    .await;
    bench.nobody_noticed().await;
}

#[actix::test]
async fn a_replay_passes_letters_by_whose_origin_can_be_no_queue() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    let death = |queue: &[u8]| {
        let time = [b"T", &u64::MAX.to_be_bytes()[..]].concat();
        let said = [field(b"queue", &long_string(queue)), field(b"reason", &long_string(b"rejected"))];
        [b"F", &table(&[&said[..], &[field(b"time", &time)]].concat())[..]].concat()
    };
    bench.put_letter(&table(&[field(b"x-death", &array(&[death(&[b'q'; 300])]))]));
    for queue in [&vec![b'q'; 100_000][..], b"", b"amq.rabbitmq.reply-to.!!!.key"] {
        bench.put_letter(&table(&[field(b"x-first-death-queue", &long_string(queue))]));
    }
    bench.put_letter(&table(&[field(b"x-death", &array(&[death(b"q")]))]));
    bench.place.wait_depth("q.dead", |depth| depth.ready == 5);
    let replayed = bench.replay("").await;
    assert_eq!((replayed.replayed, replayed.without_origin), (1, 4));
    assert_eq!(next(&mut bench.record).await.text, "good");
    bench.nobody_noticed().await;
}

#[actix::test]
async fn a_replayed_letter_that_was_shortened_says_so() {
    let mut bench = Bench::with(|_| Act::Ok).await;
    soon("it ends", bench.service.shutdown()).await.unwrap();
    let blob = field(b"blob", &long_string(&[b'b'; 20_000]));
    bench.put_letter(&table(&[blob, field(b"x-first-death-queue", &long_string(b"q"))]));
    assert_eq!(bench.replay("?frame_max=4096").await.replayed, 1);
    assert_eq!(bench.raw.take("q").await.header("x-fluffle-shortened").unwrap(), "blob");
}

#[actix::test]
async fn what_no_handler_is_given_does_not_open_a_breaker() {
    let breaker = CircuitBreaker::new("database").count_rejections();
    let consume = |consume: Consume<String>| consume.circuit_breaker(breaker);
    let mut bench = Bench::start("", Queue::quorum("q").dead_letter(), consume, |_| Act::Ok).await;
    let asking = Fields::new().short(BATCH).short(b"somebody").into_bytes();
    for _ in 0..60 {
        bench.put(flags::CORRELATION_ID, &Fields::new().short(b"\xff").into_bytes());
        bench.put(flags::CONTENT_TYPE | flags::REPLY_TO, &asking);
        bench.put_batch(&[b'i'; 255]);
    }
    bench.place.wait_depth("q.dead", |depth| depth.ready == 180);
    assert_eq!(bench.stats().state, ConsumerState::Consuming);
    bench.nobody_noticed().await;
}
