//! With the management API, on RabbitMQ.

use std::{sync::LazyLock, time::Instant};

use fluffle_harness::RabbitMq;
use lapin::{ExchangeKind, options::QueueDeclareOptions, types::AMQPValue};
use serde_json::json;

use crate::support::{LIMIT, arguments, file, hand, path, text, topology};

/// A node with the management plugin, for the tests of this process.
static BROKER: LazyLock<RabbitMq> = LazyLock::new(|| {
    let builder = RabbitMq::builder().management().config("collect_statistics_interval = 500\n");
    builder.start().unwrap()
});

/// One test, because each process of tests boots a node with the management plugin for itself.
#[test]
fn with_the_management_api() {
    bindings_are_told_and_after_apply_nothing_is_to_be_done();
    a_message_that_nobody_acknowledged_keeps_a_queue_in_use();
    the_policy_that_holds_now_is_repeated();
    an_exported_topology_is_unchanged_on_the_broker_it_came_from();
    a_broker_is_drawn_and_its_definitions_give_the_same_plan();
    an_api_that_is_not_there_is_named();
}

const FILE: &str = r#"
    [[exchange]]
    name = "orders"
    type = "topic"
    [[queue]]
    name = "work"
    type = "quorum"
    delivery_limit = 5
    [[queue.binding]]
    exchange = "orders"
    key = "a.#"
    [[queue.binding]]
    exchange = "amq.headers"
    match = "any"
    headers = { region = "eu", urgent = true }
"#;

fn bindings_are_told_and_after_apply_nothing_is_to_be_done() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let api = BROKER.api_url().unwrap();
    let toml = file(FILE, ".toml");
    let run = |arguments: &[&str]| {
        topology(&[arguments, &[path(&toml), "--url", vhost.url(), "--api", &api, "--json"]].concat())
    };
    assert_eq!(run(&["plan"]).code, 1);
    assert_eq!(run(&["apply", "--yes"]).code, 0);
    let plan = run(&["plan"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.statuses().values().all(|status| status == "unchanged"), "{plan:?}");
    assert!(plan.json()["items"].as_array().unwrap().iter().all(|item| item["known"] == "api"), "{plan:?}");
    // One binding goes: the plan tells which.
    hand(vhost.url()).unbind("work", "orders", "a.#");
    let plan = run(&["plan"]);
    assert_eq!((plan.code, plan.statuses()["binding orders work a.#"].as_str()), (1, "create"), "{plan:?}");
}

fn a_message_that_nobody_acknowledged_keeps_a_queue_in_use() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let api = BROKER.api_url().unwrap();
    let hand = hand(vhost.url());
    hand.exchange("orders", ExchangeKind::Topic);
    hand.queue("work", arguments([("x-queue-type", text("classic"))]));
    hand.bind("work", "orders", "a.#");
    hand.publish("work");
    hand.get("work");
    let toml = file(FILE, ".toml");
    let plan = |api: &[&str]| topology(&[&["plan", path(&toml), "--url", vhost.url(), "--json"], api].concat());
    let over_amqp = plan(&[]).item("work");
    assert_eq!((&over_amqp["status"], &over_amqp["messages"]), (&json!("new"), &json!(0)));
    assert!(over_amqp["why"].as_str().unwrap().contains("unacknowledged messages cannot be seen"), "{over_amqp}");
    let deadline = Instant::now() + LIMIT;
    let told = loop {
        // The API's counts are as old as its statistics.
        let told = plan(&["--api", &api]).item("work");
        if told["messages"] == 1 || Instant::now() > deadline {
            break told;
        }
    };
    assert_eq!((&told["status"], &told["messages"], &told["known"]), (&json!("refused"), &json!(1), &json!("api")));
    assert!(told["steps"][2].as_str().unwrap().contains(r#"from exchange "orders" with a.#"#), "{told}");
}

fn the_policy_that_holds_now_is_repeated() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let api = BROKER.api_url().unwrap();
    BROKER.ctl(&["set_policy", "-p", vhost.name(), "--priority", "7", "all", ".*", r#"{"max-length":9}"#]).unwrap();
    let hand = hand(vhost.url());
    hand.queue("work", arguments([("x-queue-type", text("quorum"))]));
    let toml = file("[[queue]]\nname = \"work\"\ntype = \"quorum\"\ndelivery_limit = 5\n", ".toml");
    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--api", &api, "--json"]);
    let steps = plan.item("work")["steps"][0].as_str().unwrap().to_owned();
    assert_eq!(plan.item("work")["status"], "policy");
    assert!(steps.contains(r#"--priority 8"#) && steps.contains(r#"{"delivery-limit":5,"max-length":9}"#), "{steps}");
    // The command does what the step says.
    let command = steps.split_once("rabbitmqctl ").unwrap().1;
    let words: Vec<_> = command.split(' ').map(|word| word.trim_matches('\'')).collect();
    BROKER.ctl(&words).unwrap();
    let policies = BROKER.ctl(&["list_policies", "-p", vhost.name()]).unwrap();
    assert!(policies.contains("work-by-fluffle") && policies.contains("delivery-limit"), "{policies}");
}

fn an_exported_topology_is_unchanged_on_the_broker_it_came_from() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let api = BROKER.api_url().unwrap();
    let hand = hand(vhost.url());
    hand.exchange("orders", ExchangeKind::Topic);
    hand.exchange("evil\u{1b}[2J", ExchangeKind::Fanout);
    hand.queue(
        "work",
        arguments([
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", AMQPValue::LongInt(90_500)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("work.dead")),
            ("x-overflow", text("reject-publish")),
            ("x-dead-letter-strategy", text("at-least-once")),
        ]),
    );
    hand.queue("work.dead", arguments([("x-queue-type", text("quorum"))]));
    hand.queue("plain", arguments([]));
    let transient = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
    hand.declare("gone \"soon\"", transient, arguments([("x-max-priority", AMQPValue::ShortShortUInt(5))]));
    hand.queue("log", arguments([("x-queue-type", text("stream")), ("x-max-age", text("7D"))]));
    hand.bind("work", "orders", "a.#");
    hand.bind("work", "orders", "b");
    let exported = topology(&["export", "--url", vhost.url(), "--api", &api]);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(exported.out.contains("message_ttl = \"1m 30s 500ms\""), "{}", exported.out);
    assert!(!exported.out.contains('\u{1b}') && !exported.err.contains('\u{1b}'), "{exported:?}");
    let toml = file(&exported.out, ".toml");
    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--api", &api, "--json"]);
    assert_eq!(plan.code, 0, "{plan:?}\n{}", exported.out);
    let over_amqp = topology(&["plan", path(&toml), "--url", vhost.url(), "--json"]);
    assert_eq!(over_amqp.statuses()["queue plain"], "unchanged", "{over_amqp:?}");
    assert_eq!(over_amqp.statuses()["queue gone \"soon\""], "unchanged", "{over_amqp:?}");
    assert_eq!(over_amqp.code, 1, "only the bindings are open: {over_amqp:?}");
}

fn a_broker_is_drawn_and_its_definitions_give_the_same_plan() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let api = BROKER.api_url().unwrap();
    let toml = file(FILE, ".toml");
    let to = ["--url", vhost.url(), "--api", &api];
    assert_eq!(topology(&[&["apply", path(&toml), "--yes"], &to[..]].concat()).code, 0);
    let drawn = topology(&[&["graph", "--format", "dot"], &to[..]].concat());
    assert_eq!(drawn.code, 0, "{drawn:?}");
    assert!(drawn.out.starts_with("digraph topology {") && drawn.out.contains("a.#"), "{drawn:?}");
    let other = BROKER.fresh_vhost().unwrap();
    hand(other.url()).queue("elsewhere", arguments([]));
    let folder = BROKER.folder().join("definitions.json");
    BROKER.ctl(&["export_definitions", folder.to_str().unwrap()]).unwrap();
    let plan = topology(&[&["plan", folder.to_str().unwrap(), "--vhost", vhost.name(), "--json"], &to[..]].concat());
    assert_eq!(plan.code, 0, "{plan:?}");
    let elsewhere = topology(&[&["plan", folder.to_str().unwrap()], &to[..]].concat());
    assert_eq!(elsewhere.code, 3, "{elsewhere:?}");
    assert!(elsewhere.err.contains("choose one, --vhost"), "{elsewhere:?}");
}

fn an_api_that_is_not_there_is_named() {
    let vhost = BROKER.fresh_vhost().unwrap();
    let toml = file(FILE, ".toml");
    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--api", "http://127.0.0.1:9"]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert!(plan.err.contains("the management API does not give the definitions"), "{plan:?}");
    let refused = BROKER.api_url().unwrap().replace("http://", "http://guest:wrong@");
    let plan = topology(&["plan", path(&toml), "--url", vhost.url(), "--api", &refused]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert!(plan.err.contains("401") && !plan.err.contains("wrong"), "{plan:?}");
}
