//! What one node of RabbitMQ 3.10 cannot show: clusters, alarms that come near, and RabbitMQ 4. By the JSON that the
//! management API sends.

use clap::Parser;
use serde_json::{Value, json};

use crate::doctor::{args::DoctorArgs, finding::Report, json::Object, rules::check, snapshot::Snapshot};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DoctorArgs,
}

fn objects(value: Value) -> Vec<Object> {
    Object::new(value).into_list()
}

fn report(snapshot: &Snapshot) -> Report {
    let line = Line::parse_from(["doctor", "--url", "amqp://localhost"]);
    let mut report = Report::default();
    check(snapshot, &line.args, 0, &mut report);
    report.sort();
    report
}

fn found(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    report(snapshot).findings.into_iter().map(|finding| (finding.id, finding.entity)).collect()
}

fn node(name: &str, changed: &[(&str, Value)]) -> Value {
    let mut node = json!({
        "name": name, "running": true, "type": "disc", "partitions": [], "being_drained": false,
        "mem_used": 100, "mem_limit": 1000, "mem_alarm": false,
        "disk_free": 9000, "disk_free_limit": 1000, "disk_free_alarm": false,
        "fd_used": 10, "fd_total": 65536, "proc_used": 10, "proc_total": 1_000_000,
    });
    for (key, value) in changed {
        node[*key] = value.clone();
    }
    node
}

#[test]
fn each_state_of_a_node_is_found_and_no_other() {
    let cluster = |changed: &[(&str, Value)]| {
        let nodes = objects(json!([node("a", changed), node("b", &[]), node("c", &[])]));
        found(&Snapshot { nodes, ..Snapshot::default() })
    };
    assert_eq!(cluster(&[]), []);
    for (key, value, id) in [
        ("running", json!(false), "node.down"),
        ("partitions", json!(["b"]), "node.partition"),
        ("being_drained", json!(true), "node.maintenance"),
        ("type", json!("ram"), "node.ram_node"),
        ("mem_alarm", json!(true), "node.memory_alarm"),
        ("mem_used", json!(801), "node.memory_near_watermark"),
        ("disk_free_alarm", json!(true), "node.disk_alarm"),
        ("disk_free", json!(1499), "node.disk_near_limit"),
        ("disk_free_limit", json!(999), "node.disk_limit_too_low"),
        ("fd_used", json!(60_000), "node.file_descriptors"),
        ("fd_total", json!(1024), "node.file_descriptor_limit"),
        ("proc_used", json!(900_000), "node.erlang_processes"),
    ] {
        assert_eq!(cluster(&[(key, value)]), [(id, "node a".to_owned())], "{key}");
    }
    let two = Snapshot { nodes: objects(json!([node("a", &[]), node("b", &[])])), ..Snapshot::default() };
    assert_eq!(found(&two), [("cluster.two_nodes", "cluster".to_owned())]);
}

#[test]
fn replicas_of_queues_are_counted_against_the_nodes() {
    fn queue(name: &str, members: Value, online: Value) -> Value {
        json!({"name": name, "type": "quorum", "durable": true, "members": members, "online": online})
    }
    let snapshot = Snapshot {
        nodes: objects(json!([node("a", &[]), node("b", &[]), node("c", &[])])),
        queues: objects(json!([
            queue("whole", json!(["a", "b", "c"]), json!(["a", "b", "c"])),
            queue("away", json!(["a", "b", "c"]), json!(["a", "c"])),
            queue("few", json!(["a"]), json!(["a"])),
            {"name": "log", "type": "stream", "durable": true, "members": ["a", "b"], "online": ["a", "b"]},
            {"name": "single", "type": "classic", "durable": true},
            {"name": "lost", "type": "classic", "durable": false, "exclusive": true, "state": "down"},
        ])),
        ..Snapshot::default()
    };
    assert_eq!(
        found(&snapshot),
        [
            ("queue.not_running", "queue lost".to_owned()),
            ("queue.replicas_away", "queue away".to_owned()),
            ("queue.too_few_replicas", "queue few".to_owned()),
            ("queue.too_few_replicas", "queue log".to_owned()),
            ("queue.not_replicated", "queue single".to_owned()),
        ]
    );
    let mends = |snapshot: &Snapshot| -> Vec<String> {
        let report = report(snapshot);
        let few = report.findings.into_iter().filter(|finding| finding.id == "queue.too_few_replicas");
        few.map(|finding| finding.mend).collect()
    };
    let grow = |node| format!("rabbitmq-queues grow {node} all --vhost-pattern '^shop$' --queue-pattern '^few$'");
    let shop = Snapshot { vhost: "shop".into(), ..snapshot };
    assert_eq!(
        mends(&shop),
        [format!("{}; {}", grow("b"), grow("c")), "rabbitmq-streams add_replica --vhost shop log c".to_owned()]
    );
    // A node that is down is still one that should have a replica; more than three replicas are a choice.
    let nodes = |down| objects(json!([node("a", &[]), node("b", &[]), node("c", &[("running", json!(down))])]));
    let two = || objects(json!([queue("two", json!(["a", "b"]), json!(["a", "b"]))]));
    for running in [true, false] {
        let snapshot = Snapshot { nodes: nodes(running), queues: two(), ..Snapshot::default() };
        assert!(found(&snapshot).iter().any(|(id, _)| *id == "queue.too_few_replicas"));
    }
    let five = objects(json!(["a", "b", "c", "d", "e"].map(|name| node(name, &[]))));
    let three = objects(json!([queue("three", json!(["a", "b", "c"]), json!(["a", "b", "c"]))]));
    assert_eq!(found(&Snapshot { nodes: five, queues: three, ..Snapshot::default() }), []);
}

#[test]
fn rabbitmq_4_has_a_delivery_limit_by_itself_and_tells_deprecated_features() {
    let queues = json!([
        {"name": "plain", "type": "quorum", "durable": true},
        {"name": "unlimited", "type": "quorum", "durable": true, "arguments": {"x-delivery-limit": -1}},
        {"name": "lazy", "type": "classic", "durable": true, "effective_policy_definition": {"queue-mode": "lazy"}},
        {"name": "sound", "type": "quorum", "durable": true, "arguments": {
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
            "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}},
        {"name": "dead", "type": "quorum", "durable": true},
        {"name": "log", "type": "stream", "durable": true, "messages_ready": 1_000_000},
    ]);
    let with = |version: &str| Snapshot {
        overview: Object::new(json!({ "rabbitmq_version": version })),
        queues: objects(queues.clone()),
        ..Snapshot::default()
    };
    assert_eq!(found(&with("3.10.8")), []);
    let mut new = with("4.1.2");
    new.deprecated = objects(json!([{"name": "global_qos", "desc": "", "doc_url": ""}]));
    new.feature_flags = objects(json!([
        {"name": "khepri_db", "stability": "stable", "state": "disabled"},
        {"name": "message_containers", "stability": "stable", "state": "enabled"},
        {"name": "trial", "stability": "experimental", "state": "disabled"},
    ]));
    assert_eq!(
        found(&new),
        [
            ("queue.dead_letters.none_with_delivery_limit", "queue plain".to_owned()),
            ("broker.deprecated_feature", "deprecated feature global_qos".to_owned()),
            ("broker.feature_flags", "broker".to_owned()),
            ("queue.dead_letters.letters_have_a_limit", "queue dead".to_owned()),
            ("queue.lazy_mode", "queue lazy".to_owned()),
        ]
    );
}

#[test]
fn a_hostile_answer_is_read_without_trusting_its_shape() {
    let odd = objects(json!([
        null, 7, "text", [], {"name": 7, "arguments": "x", "members": 5, "messages_ready": -1, "state": {}},
        {"name": "\u{1b}[2J", "type": "quorum", "arguments": {"x-delivery-limit": 1}},
    ]));
    let snapshot = Snapshot {
        nodes: odd.clone(),
        queues: odd.clone(),
        exchanges: odd.clone(),
        bindings: odd.clone(),
        channels: odd.clone(),
        connections: odd.clone(),
        consumers: odd.clone(),
        policies: odd,
        ..Snapshot::default()
    };
    let found = found(&snapshot);
    assert!(found.iter().any(|(id, _)| *id == "queue.dead_letters.none_with_delivery_limit"), "{found:?}");
}
