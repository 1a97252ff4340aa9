//! Tests of the engine alone: no socket, and the test sets the time.

use std::rc::Rc;

use bytes::Bytes;

use super::*;
use crate::fault::Plan;

/// An engine with one connection and one channel on it.
struct Bench {
    engine: Engine,
    connection: ConnectionKey,
    channel: ChannelKey,
}

fn arguments(list: &[(&str, Vec<u8>)]) -> Table {
    Table::of(list.iter().cloned())
}

fn number(value: i64) -> Vec<u8> {
    table::long(value)
}

fn text(value: &str) -> Vec<u8> {
    table::text(value.as_bytes())
}

impl Bench {
    fn new() -> Self {
        let mut engine =
            Engine::new(["/"], Limits { consumer_timeout: 1000, message_bytes: 1 << 20 }, Rc::new(Plan::new(1)));
        let vhost = engine.vhost("/").unwrap();
        let connection = engine.open_connection(vhost, "guest", String::new(), true);
        let channel = engine.open_channel(connection, 1).unwrap();
        Self { engine, connection, channel }
    }

    fn declare(&mut self, name: &str, list: &[(&str, Vec<u8>)]) {
        let arguments = arguments(list);
        let (durable, passive, exclusive, auto_delete) = (true, false, false, false);
        let declaration = QueueDeclaration { name, passive, durable, exclusive, auto_delete, arguments };
        self.engine.declare_queue(self.channel, declaration).unwrap();
    }

    fn publish(&mut self, queue: &str, body: &'static str, priority: u8) {
        let properties = Bytes::from(vec![0x08, 0, priority]);
        let (exchange, key, body) = (Rc::new([]), queue.as_bytes().into(), Bytes::from_static(body.as_bytes()));
        let publication = Publication { exchange, key, mandatory: false, properties, body };
        self.engine.publish(self.channel, publication).unwrap();
    }

    fn consume(&mut self, queue: &str, tag: &str, list: &[(&str, Vec<u8>)]) {
        let arguments = arguments(list);
        let wanted = Subscription { queue, tag, no_ack: false, exclusive: false, arguments };
        let (_, key) = self.engine.consume(self.channel, wanted).unwrap();
        self.engine.start_consumer(key.unwrap());
    }

    /// The deliveries since the last call: consumer and body.
    fn delivered(&mut self) -> Vec<(String, String)> {
        let outbox = self.engine.take_outbox();
        let body = |message: &Message| String::from_utf8(message.body.to_vec()).unwrap();
        let deliveries = outbox.iter().filter_map(|outgoing| match &outgoing.effect {
            Effect::Deliver { consumer, message, .. } => Some((consumer.to_string(), body(message))),
            _ => None,
        });
        deliveries.collect()
    }

    fn bodies(&mut self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.engine.get(self.channel, queue, true).unwrap())
            .map(|fetched| String::from_utf8(fetched.message.body.to_vec()).unwrap())
            .collect()
    }

    fn at(&mut self, now: u64) {
        self.engine.set_now(now);
        self.engine.tick();
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn consumers_take_turns_and_a_higher_priority_goes_first_while_it_can() {
    let mut bench = Bench::new();
    bench.declare("q", &[]);
    bench.engine.qos(bench.channel, 1, false);
    bench.consume("q", "low", &[]);
    bench.consume("q", "low2", &[]);
    bench.consume("q", "high", &[("x-priority", number(5))]);
    for body in ["1", "2", "3", "4"] {
        bench.publish("q", body, 0);
    }
    assert_eq!(bench.delivered(), pairs(&[("high", "1"), ("low", "2"), ("low2", "3")]));
    bench.engine.settle(bench.channel, 2, false, Settlement::Ack).unwrap();
    assert_eq!(bench.delivered(), pairs(&[("low", "4")]));
}

#[test]
fn a_channels_own_prefetch_counts_all_its_consumers() {
    let mut bench = Bench::new();
    bench.declare("a", &[]);
    bench.declare("b", &[]);
    bench.engine.qos(bench.channel, 2, true);
    bench.consume("a", "a", &[]);
    bench.consume("b", "b", &[]);
    for queue in ["a", "b", "a"] {
        bench.publish(queue, queue, 0);
    }
    assert_eq!(bench.delivered(), pairs(&[("a", "a"), ("b", "b")]));
    bench.engine.settle(bench.channel, 2, false, Settlement::Ack).unwrap();
    assert_eq!(bench.delivered(), pairs(&[("a", "a")]));
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let mut bench = Bench::new();
    bench.declare("q", &[("x-single-active-consumer", b"t\x01".to_vec())]);
    bench.consume("q", "first", &[]);
    bench.consume("q", "second", &[]);
    bench.publish("q", "1", 0);
    bench.publish("q", "2", 0);
    assert_eq!(bench.delivered(), pairs(&[("first", "1"), ("first", "2")]));
    bench.engine.cancel(bench.channel, "first");
    bench.publish("q", "3", 0);
    assert_eq!(bench.delivered(), pairs(&[("second", "3")]));
}

#[test]
fn priorities_go_highest_first_and_no_higher_than_the_queue_has() {
    let mut bench = Bench::new();
    bench.declare("q", &[("x-max-priority", number(5))]);
    for (body, priority) in [("low", 0), ("high", 5), ("middle", 2), ("over", 200)] {
        bench.publish("q", body, priority);
    }
    assert_eq!(bench.bodies("q"), ["high", "over", "middle", "low"]);
}

#[test]
fn requeued_messages_return_to_their_places() {
    let mut bench = Bench::new();
    bench.declare("q", &[]);
    for body in ["1", "2", "3", "4"] {
        bench.publish("q", body, 0);
    }
    let tags: Vec<u64> = (0..3).map(|_| bench.engine.get(bench.channel, "q", false).unwrap().unwrap().tag).collect();
    bench.engine.settle(bench.channel, tags[2], false, Settlement::Requeue).unwrap();
    bench.engine.settle(bench.channel, tags[0], false, Settlement::Requeue).unwrap();
    assert_eq!(bench.bodies("q"), ["1", "3", "4"]);
}

#[test]
fn a_queue_expires_when_unused_and_not_while_it_is_consumed_from() {
    let mut bench = Bench::new();
    bench.declare("q", &[("x-expires", number(100))]);
    bench.consume("q", "c", &[]);
    bench.at(500);
    assert!(bench.engine.find_queue(bench.channel, "q").is_ok());
    bench.engine.cancel(bench.channel, "c");
    bench.at(599);
    assert!(bench.engine.find_queue(bench.channel, "q").is_ok());
    bench.at(600);
    assert_eq!(bench.engine.find_queue(bench.channel, "q").unwrap_err().code, 404);
}

#[test]
fn polling_a_queue_that_expires_piles_up_no_timers() {
    let mut bench = Bench::new();
    bench.declare("q", &[("x-expires", number(100))]);
    for now in 0..1000 {
        bench.at(now);
        assert!(bench.bodies("q").is_empty());
        assert!(bench.engine.timers.len() <= 1, "{} timers", bench.engine.timers.len());
    }
    bench.at(1098);
    assert!(bench.engine.find_queue(bench.channel, "q").is_ok());
    bench.at(1099);
    assert!(bench.engine.find_queue(bench.channel, "q").is_err());
}

#[test]
fn a_message_expires_to_the_dead_letters_at_its_time() {
    let mut bench = Bench::new();
    let to_dead = [
        ("x-message-ttl", number(100)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    bench.declare("q", &to_dead);
    bench.declare("dead", &[]);
    bench.publish("q", "m", 0);
    bench.at(99);
    assert!(bench.bodies("dead").is_empty());
    bench.at(100);
    assert_eq!(bench.bodies("dead"), ["m"]);
    assert!(bench.bodies("q").is_empty());
}

#[test]
fn a_chain_of_dead_letter_queues_is_walked_to_its_end() {
    let mut bench = Bench::new();
    const LINKS: usize = 200;
    for link in 0..LINKS {
        let next = format!("q{}", link + 1);
        let list = [
            ("x-max-length", number(0)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&next)),
        ];
        bench.declare(&format!("q{link}"), &list);
    }
    bench.declare(&format!("q{LINKS}"), &[]);
    bench.publish("q0", "m", 0);
    assert_eq!(bench.bodies(&format!("q{LINKS}")), ["m"]);
}

#[test]
fn an_unacknowledged_delivery_times_its_channel_out() {
    let mut bench = Bench::new();
    bench.declare("q", &[]);
    bench.consume("q", "c", &[]);
    bench.at(10);
    bench.publish("q", "m", 0);
    bench.at(1009);
    assert_eq!(bench.delivered().len(), 1);
    bench.at(1010);
    let outbox = bench.engine.take_outbox();
    let [Outgoing { effect: Effect::CloseChannel(refusal), connection, channel: 1 }] = &outbox[..] else {
        panic!("{outbox:?}");
    };
    assert_eq!((refusal.code, *connection), (406, bench.connection));
    let queue = bench.engine.snapshot().queues.remove(0);
    assert_eq!((queue.ready, queue.unacked, queue.consumers), (1, 0, 0));
}

#[test]
fn confirms_of_one_turn_are_told_as_one_and_a_rejected_message_on_its_own() {
    let mut bench = Bench::new();
    bench.declare("q", &[]);
    bench.declare("full", &[("x-max-length", number(0)), ("x-overflow", text("reject-publish"))]);
    bench.engine.select_confirms(bench.channel).unwrap();
    for queue in ["q", "q", "full", "q"] {
        bench.publish(queue, "m", 0);
    }
    let told: Vec<_> =
        bench.engine.take_outbox().into_iter().map(|outgoing| format!("{:?}", outgoing.effect)).collect();
    assert_eq!(told, ["Ack { tag: 2, multiple: true }", "Nack { tag: 3 }", "Ack { tag: 4, multiple: false }"]);
}

#[test]
fn a_rolled_back_transaction_publishes_nothing_and_settles_nothing() {
    let mut bench = Bench::new();
    bench.declare("q", &[]);
    bench.publish("q", "1", 0);
    bench.engine.select_transaction(bench.channel).unwrap();
    let tag = bench.engine.get(bench.channel, "q", false).unwrap().unwrap().tag;
    bench.publish("q", "2", 0);
    bench.engine.settle(bench.channel, tag, false, Settlement::Ack).unwrap();
    bench.engine.roll_back(bench.channel).unwrap();
    assert!(bench.bodies("q").is_empty());
    bench.engine.settle(bench.channel, tag, false, Settlement::Ack).unwrap();
    bench.publish("q", "3", 0);
    bench.engine.commit(bench.channel).unwrap();
    let queue = bench.engine.snapshot().queues.remove(0);
    assert_eq!((queue.ready, queue.unacked), (1, 0));
}

#[test]
fn a_stream_has_one_copy_of_what_a_lost_channel_held() {
    let mut bench = Bench::new();
    bench.declare("s", &[("x-queue-type", text("stream"))]);
    bench.engine.qos(bench.channel, 10, false);
    bench.consume("s", "c", &[("x-stream-offset", text("first"))]);
    bench.publish("s", "1", 0);
    bench.publish("s", "2", 0);
    assert_eq!(bench.delivered(), pairs(&[("c", "1"), ("c", "2")]));
    let used = bench.engine.memory.used();
    bench.engine.close_channel(bench.channel);
    let (_, queue) = bench.engine.queues.iter().next().unwrap();
    assert_eq!((queue.ready.len(), queue.unacked, queue.consumers.all.len()), (0, 0, 0));
    assert_eq!(bench.engine.memory.used(), used);
}

#[test]
fn an_aged_segment_of_a_stream_goes_with_the_next_message_that_begins_one() {
    let mut bench = Bench::new();
    let limits =
        [("x-queue-type", text("stream")), ("x-max-age", text("60s")), ("x-stream-max-segment-size-bytes", number(1))];
    bench.declare("s", &limits);
    bench.publish("s", "1", 0);
    bench.at(60_001);
    let kept = |bench: &Bench| bench.engine.snapshot().queues.remove(0).offsets;
    assert_eq!(kept(&bench), Some(0..1));
    bench.publish("s", "2", 0);
    assert_eq!(kept(&bench), Some(1..3));
}
