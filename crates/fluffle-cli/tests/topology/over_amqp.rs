//! Over AMQP alone, on RabbitMQ.

use std::collections::BTreeMap;

use fluffle_harness::{RabbitMq, Vhost};
use lapin::{ExchangeKind, options::QueueDeclareOptions, types::AMQPValue};
use serde_json::json;

use crate::support::{Hand, arguments, file, hand, path, text, topology};

const FILE: &str = r#"
    [[exchange]]
    name = "orders"
    type = "topic"
    alternate = "unrouted"

    [[exchange]]
    name = "kind"
    type = "topic"

    [[exchange]]
    name = "missing"
    type = "fanout"

    [[queue]]
    name = "same"
    type = "quorum"
    delivery_limit = 5
    [[queue.binding]]
    exchange = "orders"
    key = "a.#"

    [[queue]]
    name = "absent"
    type = "classic"
    [[queue.binding]]
    exchange = "orders"
    key = "b"

    [[queue]]
    name = "limited"
    type = "classic"
    message_ttl = "1m"
    max_length = 10

    [[queue]]
    name = "empty"
    type = "quorum"

    [[queue]]
    name = "full"
    type = "quorum"
    overflow = "reject-publish"

    [[queue]]
    name = "mine"
    type = "classic"

    [[queue]]
    name = "live"
    type = "temporary"
    [[queue.binding]]
    exchange = "orders"
    key = "live"
"#;

/// What [`FILE`] meets on the broker.
fn meet(hand: &Hand, other: &Hand) {
    hand.exchange("kind", ExchangeKind::Direct);
    hand.queue("same", arguments([("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongInt(5))]));
    hand.queue("limited", arguments([("x-queue-type", text("classic"))]));
    hand.queue("empty", arguments([("x-queue-type", text("classic"))]));
    hand.declare(
        "full",
        QueueDeclareOptions { durable: false, ..QueueDeclareOptions::default() },
        arguments([("x-queue-type", text("classic")), ("x-max-length", AMQPValue::LongInt(9))]),
    );
    hand.publish("full");
    let exclusive = QueueDeclareOptions { exclusive: true, durable: true, ..QueueDeclareOptions::default() };
    other.declare("mine", exclusive, arguments([]));
}

/// Everything a vhost has, as the broker itself lists it.
fn all_of(vhost: &Vhost<'_>) -> String {
    let list = |what: &[&str]| vhost.broker().ctl(&[&["-p", vhost.name()], what].concat()).unwrap();
    [
        list(&["list_exchanges", "name", "type", "durable", "auto_delete", "internal", "arguments"]),
        list(&["list_queues", "name", "durable", "auto_delete", "arguments", "messages", "policy"]),
        list(&["list_bindings", "source_name", "destination_name", "routing_key", "arguments"]),
    ]
    .join("\n")
}

#[test]
fn a_plan_tells_each_difference_and_changes_nothing() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let (hand, other) = (hand(vhost.url()), hand(vhost.url()));
    meet(&hand, &other);
    let before = all_of(&vhost);
    let toml = file(FILE, ".toml");

    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--json"]);

    assert_eq!(all_of(&vhost), before, "the plan changed the broker");
    let expected = [
        ("exchange orders", "create"),
        ("exchange kind", "new"),
        ("exchange missing", "create"),
        ("queue same", "unchanged"),
        ("queue absent", "create"),
        ("queue limited", "policy"),
        ("queue empty", "new"),
        ("queue full", "refused"),
        ("queue mine", "unknown"),
        ("binding orders same a.#", "create"),
        ("binding orders absent b", "create"),
    ];
    let mut statuses = plan.statuses();
    statuses.retain(|name, status| {
        let is_temporary = name.contains("live");
        assert!(!is_temporary || status == "skipped", "{name} {status}");
        !is_temporary
    });
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, status)| (name.to_string(), status.to_string())).collect();
    assert_eq!(statuses, expected);
    assert_eq!(plan.code, 2);
    // The broker names one difference for each refusal; the plan has them all.
    let full = plan.item("full");
    let differences: BTreeMap<_, _> = full["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["argument"].as_str().unwrap().to_owned(), (it["wanted"].clone(), it["existing"].clone())))
        .collect();
    let expected = BTreeMap::from([
        ("durable".to_owned(), (json!("true"), json!("false"))),
        ("x-queue-type".to_owned(), (json!("quorum"), json!("classic"))),
        ("x-overflow".to_owned(), (json!("reject-publish"), json!(null))),
        ("x-max-length".to_owned(), (json!(null), json!("9"))),
    ]);
    assert_eq!(differences, expected);
    assert_eq!((&full["known"], &full["messages"], &full["consumers"]), (&json!("amqp"), &json!(1), &json!(0)));
    let steps = plan.item("limited")["steps"].to_string();
    assert!(steps.contains("set_policy") && steps.contains("message-ttl"), "{steps}");
    assert!(plan.item("mine")["why"].as_str().unwrap().contains("405"), "{plan:?}");
}

#[test]
fn apply_does_nothing_while_something_is_to_be_settled_by_hand() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let (hand, other) = (hand(vhost.url()), hand(vhost.url()));
    meet(&hand, &other);
    let before = all_of(&vhost);
    let toml = file(FILE, ".toml");
    let apply = topology(&["apply", path(&toml), "--url", vhost.url(), "--yes"]);
    assert_eq!(apply.code, 2, "{apply:?}");
    assert!(apply.err.contains("by hand first, nothing is applied"), "{apply:?}");
    assert_eq!(all_of(&vhost), before, "apply changed the broker");
}

const SMALL: &str = r#"
    [[exchange]]
    name = "orders"
    type = "topic"

    [[exchange]]
    name = "eu"
    type = "fanout"
    [[exchange.binding]]
    exchange = "orders"
    key = "eu.#"

    [[queue]]
    name = "work"
    type = "quorum"
    dead_letter = true
    [[queue.binding]]
    exchange = "eu"
"#;

#[test]
fn apply_creates_what_is_missing_and_may_be_repeated() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let toml = file(SMALL, ".toml");
    let run = |arguments: &[&str]| topology(&[arguments, &[path(&toml), "--url", vhost.url(), "--json"]].concat());
    assert_eq!(run(&["plan"]).code, 1);
    let first = run(&["apply", "--yes"]);
    assert_eq!((first.code, first.json()["applied"].as_array().unwrap().len()), (0, 6), "{first:?}");
    let after = all_of(&vhost);
    assert!(after.contains("eu\twork") && after.contains("orders\teu\teu.#"), "{after}");
    let second = run(&["apply", "--yes"]);
    // The bindings, of which AMQP tells nothing.
    assert_eq!((second.code, second.json()["applied"].as_array().unwrap().len()), (0, 2), "{second:?}");
    assert_eq!(all_of(&vhost), after);
    // A message that is in a queue stays there.
    let hand = hand(vhost.url());
    hand.publish("work");
    assert_eq!(run(&["apply", "--yes"]).code, 0);
    hand.get("work");
}

#[test]
fn apply_stops_if_the_broker_has_changed_since_the_plan() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let toml = file(SMALL, ".toml");
    let run = |arguments: &[&str]| topology(&[arguments, &[path(&toml), "--url", vhost.url(), "--json"]].concat());
    let plan = file(&run(&["plan"]).out, ".json");
    let with_plan = ["apply", "--yes", "--plan", path(&plan)];
    assert_eq!(run(&with_plan).code, 0);
    assert_eq!(run(&with_plan).code, 0, "what is done already is no change");
    // The queue is another one than when it was planned.
    let hand = hand(vhost.url());
    hand.delete_queue("work");
    hand.queue("work", arguments([("x-queue-type", text("classic"))]));
    hand.delete_queue("work.dead");
    let before = all_of(&vhost);
    let stopped = run(&with_plan);
    assert_eq!(stopped.code, 2, "{stopped:?}");
    assert!(stopped.err.contains("queue work: it was missing, and is needs a new one now"), "{stopped:?}");
    assert_eq!(all_of(&vhost), before);
    // A queue that was there when it was planned, and is gone.
    hand.delete_queue("work");
    run(&["apply", "--yes"]);
    let plan = file(&run(&["plan"]).out, ".json");
    hand.delete_queue("work.dead");
    let stopped = run(&["apply", "--yes", "--plan", path(&plan)]);
    assert_eq!(stopped.code, 2, "{stopped:?}");
    assert!(stopped.err.contains("queue work.dead: it was unchanged, and is missing now"), "{stopped:?}");
}

#[test]
fn apply_asks_and_without_a_terminal_nobody_can_agree() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let toml = file(SMALL, ".toml");
    let before = all_of(&vhost);
    let apply = topology(&["apply", path(&toml), "--url", vhost.url()]);
    assert_eq!((apply.code, apply.err.contains("--yes")), (3, true), "{apply:?}");
    assert_eq!(all_of(&vhost), before);
}

#[test]
fn a_binding_from_nowhere_is_refused_before_anything_is_made() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let toml = file(&SMALL.replace(r#"exchange = "eu""#, r#"exchange = "elsewhere""#), ".toml");
    let apply = topology(&["apply", path(&toml), "--url", vhost.url(), "--yes"]);
    assert_eq!(apply.code, 2, "{apply:?}");
    assert!(apply.out.contains(r#"exchange "elsewhere" is neither in the file nor on the broker"#), "{apply:?}");
    assert!(!all_of(&vhost).contains("orders"));
}

#[test]
fn an_exchange_type_that_the_broker_does_not_know_stops_with_what_is_done() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let toml = "[[exchange]]\nname = \"a\"\ntype = \"fanout\"\n[[exchange]]\nname = \"b\"\ntype = \"x-strange\"\n";
    let toml = file(toml, ".toml");
    let apply = topology(&["apply", path(&toml), "--url", vhost.url(), "--yes"]);
    assert_eq!(apply.code, 3, "{apply:?}");
    assert!(apply.err.contains("1 of 2 done, then stopped") && apply.err.contains("x-strange"), "{apply:?}");
    // The same connection error, when an exchange of that name exists: the plan survives it.
    hand(vhost.url()).exchange("b", ExchangeKind::Direct);
    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--json"]);
    assert_eq!(plan.item("a")["status"], "unchanged", "{plan:?}");
    assert_eq!(plan.item("b")["status"], "unknown", "{plan:?}");
    assert!(plan.item("b")["why"].as_str().unwrap().contains("x-strange"), "{plan:?}");
}

#[test]
fn a_user_without_rights_is_told_so_and_the_password_is_not() {
    let broker = RabbitMq::shared().unwrap();
    let vhost = broker.fresh_vhost().unwrap();
    let user = format!("reader-{}", std::process::id());
    broker.ctl(&["add_user", &user, "s3cr3t"]).unwrap();
    broker.ctl(&["set_permissions", "-p", vhost.name(), &user, "^$", "^$", ".*"]).unwrap();
    hand(vhost.url()).queue("work", arguments([("x-queue-type", text("quorum"))]));
    let toml = file("[[queue]]\nname = \"work\"\ntype = \"quorum\"\n", ".toml");
    let password = file("s3cr3t\n", ".txt");
    let url = format!("amqp://{user}@127.0.0.1:{}/{}", broker.port(), vhost.name());
    let plan = topology(&["plan", path(&toml), "--url", &url, "--password-file", path(&password)]);
    broker.ctl(&["delete_user", &user]).unwrap();
    assert_eq!(plan.code, 2, "{plan:?}");
    assert!(plan.out.contains("403"), "{plan:?}");
    assert!(!format!("{plan:?}").contains("s3cr3t"), "{plan:?}");
}
