//! Topologies in TOML.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::time::Duration;

use fluffle_amqp::{
    ArgumentValue, Entity, Exchange, LeaderLocator, Match, Overflow, Queue, Topology, TopologyError, TopologyErrorKind,
};

#[test]
fn every_key_means_what_its_setter_means() {
    let text = r#"
        [[exchange]]
        name = "orders"
        type = "topic"
        alternate = "lost"

        [[exchange]]
        name = "lost"
        type = "fanout"
        durable = false
        auto_delete = true

        [[exchange]]
        name = "inner"
        type = "x-delayed-message"
        internal = true
        arguments = { x-delayed-type = "direct" }
        [[exchange.binding]]
        exchange = "orders"
        key = "eu.#"

        [[queue]]
        name = "orders.eu"
        type = "quorum"
        dead_letter = true
        message_ttl = "30s"
        expires = "1d"
        max_length = 100_000
        max_bytes = 5_000_000
        single_active_consumer = true
        delivery_limit = 5
        leader_locator = "client-local"
        arguments = { x-max-in-memory-length = 100, x-mixed = [true, 1.5, { a = "b" }] }
        [[queue.binding]]
        exchange = "orders"
        key = "eu.#"
        [[queue.binding]]
        exchange = "amq.headers"
        match = "any"
        headers = { region = "eu", urgent = true }

        [[queue]]
        name = "jobs"
        type = "classic"
        durable = false
        exclusive = true
        auto_delete = true
        overflow = "reject-publish-dlx"
        dead_letter = { exchange = "lost", key = "job" }
        max_priority = 5
        consumer_timeout = "1m"

        [[queue]]
        name = "audit"
        type = "stream"
        max_age = "2h"
        segment_bytes = 1000000
    "#;
    let mixed = vec![true.into(), 1.5.into(), ArgumentValue::Table([("a".into(), "b".into())].into())];
    let headers = [("region", ArgumentValue::from("eu")), ("urgent", true.into())];
    let expected = Topology::new()
        .exchange(Exchange::topic("orders").alternate("lost"))
        .exchange(Exchange::fanout("lost").transient().auto_delete())
        .exchange(
            Exchange::custom("inner", "x-delayed-message")
                .internal()
                .argument("x-delayed-type", "direct")
                .bind("orders", "eu.#"),
        )
        .queue(
            Queue::quorum("orders.eu")
                .dead_letter()
                .message_ttl(Duration::from_secs(30))
                .expires(Duration::from_secs(86_400))
                .max_length(100_000)
                .max_bytes(5_000_000)
                .single_active_consumer()
                .delivery_limit(5)
                .leader_locator(LeaderLocator::ClientLocal)
                .argument("x-max-in-memory-length", 100)
                .argument("x-mixed", mixed)
                .bind("orders", "eu.#")
                .bind_headers("amq.headers", Match::Any, headers),
        )
        .queue(
            Queue::classic("jobs")
                .transient()
                .exclusive()
                .auto_delete()
                .overflow(Overflow::RejectPublishDlx)
                .dead_letter_to("lost", "job")
                .max_priority(5)
                .consumer_timeout(Duration::from_secs(60)),
        )
        .queue(Queue::stream("audit").max_age(Duration::from_secs(7_200)).segment_bytes(1_000_000));
    assert_eq!(Topology::from_toml(text).unwrap(), expected);
}

#[test]
fn durations_read_as_people_write_them() {
    for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
        let toml = format!("[[queue]]\nname = 'q'\ntype = 'classic'\nmessage_ttl = '{text}'");
        let expected = Queue::classic("q").message_ttl(Duration::from_millis(millis));
        assert_eq!(Topology::from_toml(&toml).unwrap().find_queue("q"), Some(&expected));
    }
}

#[test]
fn a_temporary_queue_is_found_by_its_prefix() {
    let topology = Topology::from_toml("[[queue]]\nname = 'screen'\ntype = 'temporary'").unwrap();
    let queue = topology.find_queue("screen").unwrap();
    assert!(queue.is_exclusive() && queue.is_auto_delete() && !queue.is_durable());
    assert!(queue.name().starts_with("screen."));
}

#[test]
fn an_empty_text_is_an_empty_topology() {
    assert!(Topology::from_toml("").unwrap().is_empty());
}

/// Line, entity and problem of a refusal.
#[track_caller]
fn refused(text: &str) -> (Option<usize>, Option<Entity>, String) {
    let error = Topology::from_toml(text).expect_err("accepted");
    assert!(error.is_permanent());
    match error.kind() {
        TopologyErrorKind::Toml { line, entity, problem, .. } => (*line, entity.clone(), problem.clone()),
        other => panic!("{other:?}"),
    }
}

/// A valid exchange and queue before the faulty one, so that the error must name the right entity.
const RIGHT: &str = "[[exchange]]\nname = 'x'\ntype = 'topic'\n[[queue]]\nname = 'a'\ntype = 'classic'\n";

#[test]
fn an_unknown_key_is_refused_with_its_line_its_entity_and_the_known_keys() {
    let queue = format!("{RIGHT}[[queue]]\nname = 'b'\ntype = 'classic'\nmax_lenght = 5\n");
    let (line, entity, problem) = refused(&queue);
    assert_eq!((line, entity), (Some(10), Some(Entity::Queue("b".into()))));
    assert!(problem.contains("`max_lenght`") && problem.contains("`max_length`"), "{problem}");

    let exchange = format!("{RIGHT}[[exchange]]\nname = 'y'\ntype = 'topic'\ninternl = true\n");
    let (line, entity, problem) = refused(&exchange);
    assert_eq!((line, entity), (Some(10), Some(Entity::Exchange("y".into()))));
    assert!(problem.contains("`internl`") && problem.contains("`internal`"), "{problem}");

    let binding = format!("{RIGHT}[[queue.binding]]\nexchange = 'x'\nrouting_key = 'k'\n");
    let (line, entity, problem) = refused(&binding);
    assert_eq!((line, entity), (Some(9), Some(Entity::Queue("a".into()))));
    assert!(problem.contains("`routing_key`") && problem.contains("`key`"), "{problem}");

    let dead_letter = format!("{RIGHT}dead_letter = {{ exchange = 'x', kee = 'k' }}\n");
    let (_, entity, problem) = refused(&dead_letter);
    assert_eq!(entity, Some(Entity::Queue("a".into())));
    assert!(problem.contains("`kee`") && problem.contains("`key`"), "{problem}");

    let first = format!("[[queue]]\nname = 'b'\ntype = 'classic'\nmax_lenght = 5\n{RIGHT}");
    let (line, entity, _) = refused(&first);
    assert_eq!((line, entity), (Some(4), Some(Entity::Queue("b".into()))));

    let (line, _, problem) = refused("[[queues]]\nname = 'a'\n");
    assert_eq!(line, Some(1));
    assert!(problem.contains("`queues`") && problem.contains("`queue`"), "{problem}");
}

#[test]
fn a_wrong_value_is_refused_with_its_line_and_what_would_do() {
    let cases = [
        ("type = 'fifo'", "quorum"),
        ("type = 'classic'\nmessage_ttl = '30 parsecs'", "500ms"),
        ("type = 'classic'\nmessage_ttl = 30", "500ms"),
        ("type = 'classic'\nmax_length = -1", "-1"),
        ("type = 'classic'\nmax_priority = 300", "300"),
        ("type = 'classic'\noverflow = 'spill'", "drop-head"),
        ("type = 'classic'\ndead_letter = 'graveyard'", "exchange = "),
        ("type = 'classic'\narguments = { a = 2024-01-01 }", "a date"),
        ("type = 'classic'\nbinding = [{ exchange = 'x', headers = { a = 1 } }]", "match = "),
        ("type = 'classic'\nbinding = [{ exchange = 'x', match = 'all' }]", "headers = "),
    ];
    for (lines, expected) in cases {
        let (line, entity, problem) = refused(&format!("{RIGHT}[[queue]]\nname = 'b'\n{lines}\n"));
        let last = 8 + lines.lines().count();
        assert_eq!((line, entity), (Some(last), Some(Entity::Queue("b".into()))), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_binding_goes_by_key_or_by_headers() {
    let both = "[[queue.binding]]\nexchange = 'x'\nkey = 'k'\nmatch = 'all'\nheaders = { a = 1 }\n";
    let (_, entity, problem) = refused(&format!("{RIGHT}{both}"));
    assert_eq!(entity, Some(Entity::Queue("a".into())));
    assert!(problem.contains("not by both"), "{problem}");
}

#[test]
fn a_missing_key_is_named() {
    let (_, entity, problem) = refused(&format!("{RIGHT}[[queue]]\nname = 'b'\n"));
    assert_eq!(entity, Some(Entity::Queue("b".into())));
    assert!(problem.contains("`type`"), "{problem}");

    let (_, entity, problem) = refused("[[queue]]\ntype = 'classic'\n");
    assert_eq!(entity, Some(Entity::Queue("(without a name)".into())));
    assert!(problem.contains("`name`"), "{problem}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let (line, entity, _) = refused("[[queue]]\nname = 'a\n");
    assert_eq!((line, entity), (Some(2), None));
}

#[test]
fn what_is_wrong_in_itself_is_found_when_it_is_read() {
    let error = Topology::from_toml("[[queue]]\nname = 'q'\ntype = 'quorum'\nexclusive = true").unwrap_err();
    assert!(matches!(error.kind(), TopologyErrorKind::Invalid { .. }), "{error}");
    let error = Topology::from_toml("[[exchange]]\nname = 'x'\ntype = 'topc'").unwrap_err();
    assert!(error.to_string().contains("direct, fanout, topic, headers"), "{error}");
}

fn from_file(content: &[u8]) -> (String, Result<Topology, TopologyError>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let path = file.path().display().to_string();
    (path, Topology::from_toml_file(file.path()))
}

#[test]
fn a_file_is_named_in_its_errors() {
    let (_, topology) = from_file(RIGHT.as_bytes());
    assert_eq!(topology.unwrap(), Topology::from_toml(RIGHT).unwrap());

    let (path, error) = from_file(b"[[queue]]\nname = 'q'\ntype = 'classic'\ncolour = 'red'\n");
    let error = error.unwrap_err().to_string();
    let start = format!("topology in {path}, line 4, queue \"q\": unknown field `colour`");
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn a_file_that_cannot_be_a_topology_is_refused() {
    let missing = Topology::from_toml_file("/no/such/topology.toml").unwrap_err();
    assert!(missing.to_string().starts_with("topology in /no/such/topology.toml: "), "{missing}");
    let (_, binary) = from_file(&[0xff, 0xfe]);
    assert!(matches!(binary.unwrap_err().kind(), TopologyErrorKind::Toml { .. }));
    let (_, huge) = from_file(&b"# much\n".repeat(200_000));
    assert!(huge.unwrap_err().to_string().contains("1048576"));
}
