//! Rules that a topology checks before it asks a broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use fluffle_amqp::{
    ArgumentValue, Entity, Exchange, HashProperty, Match, Overflow, Queue, QueueKind, Topology, TopologyErrorKind,
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The problem of the only entity, which the error must name.
#[track_caller]
fn problem(topology: &Topology) -> (Entity, String) {
    let error = topology.validate().expect_err("accepted");
    assert!(error.is_permanent());
    match error.kind() {
        TopologyErrorKind::Invalid { entity, problem } => (entity.clone(), problem.clone()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refuses_queue(queue: Queue, expected: &str) {
    let name = queue.name().to_owned();
    let (entity, problem) = problem(&Topology::new().queue(queue));
    assert_eq!(entity, Entity::Queue(name));
    assert!(problem.contains(expected), "{problem}");
}

#[track_caller]
fn refuses_exchange(exchange: Exchange, expected: &str) {
    let name = exchange.name().to_owned();
    let (entity, problem) = problem(&Topology::new().exchange(exchange));
    assert_eq!(entity, Entity::Exchange(name));
    assert!(problem.contains(expected), "{problem}");
}

#[track_caller]
fn accepts(queue: Queue) {
    Topology::new().queue(queue).validate().unwrap();
}

#[test]
fn names_keep_to_what_amqp_and_the_broker_allow() {
    refuses_queue(Queue::classic(""), "empty");
    refuses_exchange(Exchange::topic(""), "empty");
    refuses_queue(Queue::classic("amq.mine"), "amq.");
    refuses_exchange(Exchange::topic("amq.topic"), "amq.");
    refuses_queue(Queue::classic("a\nb"), "control");
    refuses_queue(Queue::classic("é".repeat(128)), "256 bytes");
    refuses_exchange(Exchange::topic("x".repeat(256)), "256 bytes");
    accepts(Queue::classic("x".repeat(255)));
}

#[test]
fn a_name_that_leaves_no_room_for_dead_is_refused() {
    refuses_queue(Queue::classic("x".repeat(251)).dead_letter(), "256 bytes");
    accepts(Queue::classic("x".repeat(250)).dead_letter());
}

#[test]
fn bindings_keep_off_the_default_exchange_and_within_the_limits() {
    refuses_queue(Queue::classic("q").bind("", "q"), "binds to the default exchange");
    refuses_exchange(Exchange::topic("x").bind("", "x"), "binds to the default exchange");
    refuses_queue(Queue::classic("q").bind("x", "k".repeat(256)), "256 bytes");
    refuses_queue(Queue::classic("q").bind("x".repeat(256), "k"), "256 bytes");
    let ignored = Queue::classic("q").bind_headers("h", Match::All, [("x-colour", "red")]);
    refuses_queue(ignored, "x-colour");
    accepts(Queue::classic("q").bind("elsewhere", "").bind("amq.topic", "#"));
}

#[test]
fn an_exchange_type_is_built_in_or_a_plugins() {
    refuses_exchange(Exchange::custom("x", "topc"), "\"topc\"");
    Topology::new().exchange(Exchange::custom("x", "x-random")).validate().unwrap();
}

#[test]
fn a_consistent_hash_exchange_goes_by_one_thing_and_its_bindings_are_weights() {
    let both = Exchange::consistent_hash("x").hash_header("customer").hash_property(HashProperty::MessageId);
    refuses_exchange(both, "remove the other");
    refuses_exchange(Exchange::topic("x").hash_header("customer"), "takes no hash-header");

    let bound = |queue: Queue| Topology::new().exchange(Exchange::consistent_hash("x")).queue(queue);
    for key in ["", "0", "-1", "eu.#", "1.5"] {
        let (entity, problem) = problem(&bound(Queue::quorum("q").bind("x", key)));
        assert!(matches!(entity, Entity::Binding { .. }) && problem.contains("weight"), "{entity}: {problem}");
    }
    let (_, twice) = problem(&bound(Queue::quorum("q").bind("x", "1").bind("x", "2")));
    assert!(twice.contains("bound twice"), "{twice}");
    bound(Queue::quorum("q").bind("x", "2").bind("elsewhere", "eu.#")).validate().unwrap();
}

#[test]
fn a_partitioned_stream_is_an_exchange_and_so_many_queues_with_dead_letters() {
    let topology = Topology::new().partitioned("orders", 2);
    topology.validate().unwrap();
    let names: Vec<_> = topology.queues().map(Queue::name).collect();
    assert_eq!(names, ["orders.0", "orders.0.dead", "orders.1", "orders.1.dead"]);
    assert_eq!(Topology::partitions("orders", 2).collect::<Vec<_>>(), ["orders.0", "orders.1"]);
    let one = topology.find_queue("orders.0").unwrap();
    assert_eq!((one.kind(), one.bindings()[0].exchange(), one.bindings()[0].key()), (QueueKind::Quorum, "orders", "1"));
    assert_eq!(Topology::new().partitioned("orders", 0), Topology::new().partitioned("orders", 1));
}

#[test]
fn replicated_queues_are_durable_and_shared() {
    for queue in [Queue::quorum, Queue::stream] {
        refuses_queue(queue("q").transient(), "transient");
        refuses_queue(queue("q").exclusive(), "exclusive");
        refuses_queue(queue("q").auto_delete(), "auto-delete");
        accepts(queue("q"));
    }
}

#[test]
fn each_kind_of_queue_takes_its_own_arguments_alone() {
    let minute = Duration::from_secs(60);
    let with = |argument: &str, queue: Queue| match argument {
        "x-consumer-timeout" => queue.consumer_timeout(minute),
        "x-dead-letter-exchange" => queue.dead_letter_to("a", "b"),
        "x-dead-letter-strategy" => queue.dead_letter_to("a", "b").argument(argument, "at-most-once"),
        "x-delivery-limit" => queue.delivery_limit(3),
        "x-expires" => queue.expires(minute),
        "x-max-age" => queue.max_age(minute),
        "x-max-length" => queue.max_length(1),
        "x-max-length-bytes" => queue.max_bytes(1),
        "x-max-priority" => queue.max_priority(1),
        "x-message-ttl" => queue.message_ttl(minute),
        "x-overflow" => queue.overflow(Overflow::RejectPublish),
        "x-queue-mode" => queue.argument(argument, "lazy"),
        "x-single-active-consumer" => queue.single_active_consumer(),
        "x-stream-max-segment-size-bytes" => queue.segment_bytes(1),
        other => panic!("{other}"),
    };
    let cases = [
        ("x-consumer-timeout", [true, true, false]),
        ("x-dead-letter-exchange", [true, true, false]),
        ("x-dead-letter-strategy", [false, true, false]),
        ("x-delivery-limit", [false, true, false]),
        ("x-expires", [true, true, false]),
        ("x-max-age", [false, false, true]),
        ("x-max-length", [true, true, false]),
        ("x-max-length-bytes", [true, true, true]),
        ("x-max-priority", [true, true, false]),
        ("x-message-ttl", [true, true, false]),
        ("x-overflow", [true, true, false]),
        ("x-queue-mode", [true, false, false]),
        ("x-single-active-consumer", [true, true, false]),
        ("x-stream-max-segment-size-bytes", [false, false, true]),
    ];
    for (argument, allowed) in cases {
        let queues = [Queue::classic("q"), Queue::quorum("q"), Queue::stream("q")];
        for (queue, allowed) in queues.into_iter().zip(allowed) {
            match allowed {
                true => accepts(with(argument, queue)),
                false => refuses_queue(with(argument, queue), "takes no x-"),
            }
        }
    }
    refuses_queue(Queue::quorum("q").overflow(Overflow::RejectPublishDlx), "reject-publish-dlx");
    refuses_queue(Queue::quorum("q").argument("x-queue-type", "stream"), "contradicts");
}

#[test]
fn zero_is_refused_where_it_can_only_be_a_mistake_and_kept_where_it_is_said_on_purpose() {
    let zeros = [
        Queue::classic("q").message_ttl(Duration::ZERO),
        Queue::classic("q").expires(Duration::ZERO),
        Queue::classic("q").max_length(0),
        Queue::classic("q").max_bytes(0),
        Queue::classic("q").max_priority(0),
        Queue::quorum("q").delivery_limit(0),
        Queue::stream("q").max_age(Duration::ZERO),
        Queue::stream("q").segment_bytes(0),
    ];
    for queue in zeros {
        refuses_queue(queue, "is zero");
    }
    accepts(Queue::classic("q").argument("x-message-ttl", 0).argument("x-max-length", 0));
    refuses_queue(Queue::classic("q").argument("x-expires", 0), "x-expires = 0");
}

#[test]
fn values_past_what_the_broker_counts_are_refused() {
    accepts(Queue::classic("q").message_ttl(YEAR * 10).expires(YEAR * 10));
    let past = YEAR * 10 + Duration::from_nanos(1);
    refuses_queue(Queue::classic("q").message_ttl(past), "ten years");
    refuses_queue(Queue::classic("q").expires(past), "ten years");
    refuses_queue(Queue::classic("q").message_ttl(Duration::MAX), "more than");
    refuses_queue(Queue::classic("q").max_length(u64::MAX), "more than");
    refuses_queue(Queue::classic("q").max_bytes(u64::MAX), "more than");
    refuses_queue(Queue::classic("q").argument("x-max-priority", 256), "1 to 255");
    accepts(Queue::stream("q").segment_bytes(3_000_000_000));
    refuses_queue(Queue::stream("q").segment_bytes(3_000_000_001), "3000000000");
    refuses_queue(Queue::classic("q").argument("x-message-ttl", -1), "x-message-ttl = -1");
    refuses_queue(Queue::classic("q").argument("x-message-ttl", "60000"), "\"60000\"");
}

#[test]
fn an_age_is_a_number_with_a_unit() {
    for age in ["7D", "1Y", "30m"] {
        accepts(Queue::stream("q").argument("x-max-age", age));
    }
    for age in ["", "D", "7", "0s", "-1s", "7 D", "7d", "+7D", "1.5h"] {
        refuses_queue(Queue::stream("q").argument("x-max-age", age), "units Y, M, D, h, m, s");
    }
    refuses_queue(Queue::stream("q").argument("x-max-age", 7), "x-max-age = 7");
}

#[test]
fn durations_shorter_than_the_brokers_unit_are_rounded_up() {
    accepts(Queue::classic("q").message_ttl(Duration::from_nanos(1)));
    accepts(Queue::stream("q").max_age(Duration::from_nanos(1)));
}

#[test]
fn arguments_that_fit_no_frame_are_refused() {
    refuses_queue(Queue::classic("q").argument("x-note", "n".repeat(70_000)), "65536");
    refuses_queue(Queue::classic("q").argument("n".repeat(256), 1), "256 bytes");
    refuses_queue(Queue::classic("q").argument("", 1), "empty name");
    let nested = ArgumentValue::Table([("n".repeat(256), 1.into())].into());
    refuses_queue(Queue::classic("q").argument("x-note", nested), "256 bytes");
}

#[test]
fn dead_letters_that_come_straight_back_are_refused() {
    refuses_queue(Queue::classic("q").dead_letter_to("", "q"), "to itself");
    // With an empty key a dead letter keeps its routing key, which names the target queue: a delay queue works so.
    accepts(Queue::classic("q").dead_letter_to("", ""));
}

#[test]
fn a_ring_of_expiring_queues_is_refused_and_a_retry_ring_is_not() {
    let expiring =
        |name: &str, next: &str| Queue::classic(name).message_ttl(Duration::from_secs(1)).dead_letter_to("", next);
    let lead_in = Topology::new().queue(expiring("start", "a"));
    let ring = lead_in.queue(expiring("a", "b")).queue(expiring("b", "c"));
    ring.clone().validate().unwrap();

    let (entity, problem) = problem(&ring.clone().queue(expiring("c", "a")));
    assert_eq!(entity, Entity::Queue("a".into()));
    assert!(problem.contains("a -> b -> c -> a"), "{problem}");

    let retry = ring.queue(Queue::classic("c").dead_letter_to("", "a"));
    retry.validate().unwrap();
}

#[test]
fn at_least_once_without_what_it_needs_is_refused() {
    let strategy = |queue: Queue| queue.argument("x-dead-letter-strategy", "at-least-once");
    refuses_queue(strategy(Queue::quorum("q").dead_letter_to("x", "")), "reject-publish");
    refuses_queue(strategy(Queue::quorum("q")), "x-dead-letter-exchange");
    let key = Queue::quorum("q").argument("x-dead-letter-routing-key", "k");
    refuses_queue(key, "x-dead-letter-exchange");
    let complete = Queue::quorum("q").dead_letter_to("x", "").overflow(Overflow::RejectPublish);
    accepts(strategy(complete));
    accepts(Queue::quorum("q").dead_letter().overflow(Overflow::DropHead));
}

#[test]
fn a_temporary_queue_leaves_no_dead_letter_queue_behind() {
    refuses_queue(Queue::temporary("q").dead_letter(), "outlive");
    accepts(Queue::temporary("q").dead_letter_to("", "graveyard"));
}

#[test]
fn a_temporary_queue_keeps_one_name_and_no_two_share_it() {
    let queue = Queue::temporary("screen");
    let name = queue.name().to_owned();
    let topology = Topology::new().queue(queue).queue(Queue::temporary("screen"));
    topology.validate().unwrap();
    assert_eq!(topology.queues().len(), 2);
    assert_eq!(topology.find_queue("screen").unwrap().name(), name);
    assert!(name.starts_with("screen.") && name.len() == "screen.".len() + 32, "{name}");
}

#[test]
fn dead_letter_adds_a_queue_of_the_same_safety() {
    let dead = |queue: Queue| {
        let topology = Topology::new().queue(queue);
        let dead = topology.find_queue("q.dead").unwrap();
        (dead.kind(), dead.is_durable())
    };
    assert_eq!(dead(Queue::quorum("q").dead_letter()), (QueueKind::Quorum, true));
    assert_eq!(dead(Queue::classic("q").transient().dead_letter()), (QueueKind::Classic, true));
}

#[test]
fn an_explicit_dead_letter_queue_wins_before_and_after() {
    let work = || Queue::quorum("q").dead_letter();
    let own = || Queue::classic("q.dead").max_length(10);
    for topology in [
        Topology::new().queue(work()).queue(own()),
        Topology::new().queue(own()).queue(work()),
        Topology::new().queue(work()).merge(Topology::new().queue(own())).unwrap(),
        Topology::new().queue(own()).merge(Topology::new().queue(work())).unwrap(),
    ] {
        topology.validate().unwrap();
        assert_eq!(topology.queues().len(), 2);
        assert_eq!(topology.find_queue("q.dead"), Some(&own()));
    }
}

#[test]
fn merging_alike_descriptions_unites_their_bindings() {
    let ours = Topology::new()
        .exchange(Exchange::topic("x").bind("a", "1"))
        .queue(Queue::quorum("q").bind("x", "1").bind("x", "2"));
    let theirs = Topology::new()
        .exchange(Exchange::topic("x").bind("a", "2"))
        .queue(Queue::quorum("q").bind("x", "2").bind("x", "3"));
    let merged = ours.merge(theirs).unwrap();
    let keys: Vec<_> = merged.find_queue("q").unwrap().bindings().iter().map(|b| b.key()).collect();
    assert_eq!(keys, ["1", "2", "3"]);
    let exchange = merged.exchanges().next().unwrap();
    assert_eq!(exchange.bindings().len(), 2);
    assert_eq!((merged.exchanges().len(), merged.queues().len()), (1, 1));
}

#[test]
fn differing_twins_are_refused_naming_both_values() {
    let ours = Topology::new().queue(Queue::classic("q").max_length(5));
    let theirs = Topology::new().queue(Queue::classic("q"));
    let error = ours.merge(theirs).unwrap_err();
    assert_eq!(
        error.to_string(),
        "queue \"q\": it is described twice with different properties, once with x-max-length = 5 and once \
         without x-max-length: keep one description, or make them equal"
    );
    let twins = Topology::new().exchange(Exchange::topic("x")).exchange(Exchange::direct("x"));
    let (entity, problem) = problem(&twins);
    assert_eq!(entity, Entity::Exchange("x".into()));
    assert!(problem.contains("type = topic") && problem.contains("type = direct"), "{problem}");
}

#[test]
fn an_exchange_and_a_queue_may_share_a_name() {
    let topology = Topology::new().exchange(Exchange::fanout("news")).queue(Queue::classic("news"));
    topology.validate().unwrap();
}

#[test]
fn a_second_description_does_not_hide_what_is_wrong_with_it() {
    let wrong = Queue::classic("q").max_length(u64::MAX);
    let topology = Topology::new().queue(Queue::classic("q")).queue(wrong);
    assert!(problem(&topology).1.contains("more than"));
}
