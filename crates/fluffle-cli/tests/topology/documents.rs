//! Without a broker: export of definitions, drawings, and what is refused.

use std::fs;

use crate::support::{file, path, topology};

const DEFINITIONS: &str = r##"{
    "rabbit_version": "3.10.8",
    "exchanges": [
        {"name": "orders", "vhost": "/", "type": "topic", "durable": true, "auto_delete": false, "internal": false,
         "arguments": {"alternate-exchange": "unrouted"}},
        {"name": "unrouted", "vhost": "/", "type": "fanout", "durable": false, "auto_delete": true, "internal": true,
         "arguments": {}}
    ],
    "queues": [
        {"name": "work", "vhost": "/", "durable": true, "auto_delete": false,
         "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-quorum-initial-group-size": 3}},
        {"name": "amq.gen-1", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}},
        {"name": "a\nb", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {"x-message-ttl": 0}}
    ],
    "bindings": [
        {"source": "orders", "vhost": "/", "destination": "work", "destination_type": "queue", "routing_key": "a.#",
         "arguments": {}},
        {"source": "amq.headers", "vhost": "/", "destination": "work", "destination_type": "queue", "routing_key": "",
         "arguments": {"x-match": "all", "region": "eu"}},
        {"source": "amq.headers", "vhost": "/", "destination": "work", "destination_type": "queue", "routing_key": "k",
         "arguments": {"x-match": "any-with-x", "x-region": "eu"}}
    ]
}"##;

#[test]
fn definitions_become_toml_and_what_the_library_refuses_a_comment() {
    let definitions = file(DEFINITIONS, ".json");
    let exported = topology(&["export", "--definitions", path(&definitions)]);
    assert_eq!(exported.code, 0, "{exported:?}");
    for line in [
        "alternate = \"unrouted\"",
        "delivery_limit = 5",
        "arguments = { x-quorum-initial-group-size = 3 }",
        "key = \"a.#\"",
        "match = \"all\"",
        "headers = { region = \"eu\" }",
        "# name = \"amq.gen-1\"",
    ] {
        assert!(exported.out.lines().any(|it| it == line), "{line}: {}", exported.out);
    }
    assert!(exported.out.contains("not like this"), "{}", exported.out);
    assert!(exported.err.contains("amq.gen-1"), "{exported:?}");
    // What is written is read again as the same.
    let toml = file(&exported.out, ".toml");
    let dot = |file: &str| topology(&["graph", file, "--format", "dot"]);
    assert_eq!(dot(path(&toml)).code, 0, "{}", exported.out);
}

#[test]
fn a_drawing_goes_to_a_file_whole_or_not_at_all() {
    let definitions = file(DEFINITIONS, ".json");
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("topology.svg");
    let drawn = topology(&["graph", path(&definitions), "--output", svg.to_str().unwrap()]);
    assert_eq!(drawn.code, 0, "{drawn:?}");
    let text = fs::read_to_string(&svg).unwrap();
    assert!(text.contains("<svg") && text.ends_with("</svg>") && text.contains("orders"), "{text}");
    let nowhere = folder.path().join("no/folder.svg");
    let failed = topology(&["graph", path(&definitions), "--output", nowhere.to_str().unwrap()]);
    assert_eq!(failed.code, 3, "{failed:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a half-written file stayed");
}

#[test]
fn a_file_that_is_none_is_refused_in_words() {
    let cases = [
        (file("[[queue]]\nname = \"q\"\n", ".toml"), "missing field `type`"),
        (file("{\"queues\": 5}", ".json"), "no file of RabbitMQ's definitions"),
        (file("{}", ".json"), "nothing to draw"),
    ];
    for (file, why) in cases {
        let run = topology(&["graph", path(&file)]);
        assert_eq!((run.code, run.err.contains(why)), (3, true), "{why}: {run:?}");
    }
    let run = topology(&["export"]);
    assert_eq!((run.code, run.err.contains("--api")), (3, true), "{run:?}");
}

#[test]
fn a_ring_and_an_exchange_bound_to_itself_are_drawn_and_a_crowd_is_refused_in_time() {
    let ring = r#"{
        "exchanges": [{"name": "x<&\"", "type": "topic"}, {"name": "y", "type": "topic"}],
        "bindings": [
            {"source": "x<&\"", "destination": "x<&\"", "destination_type": "exchange"},
            {"source": "x<&\"", "destination": "y", "destination_type": "exchange"},
            {"source": "y", "destination": "x<&\"", "destination_type": "exchange"}
        ]
    }"#;
    let drawn = topology(&["graph", path(&file(ring, ".json")), "--format", "svg"]);
    assert_eq!((drawn.code, drawn.out.contains("x&lt;&amp;&quot;")), (0, true), "{drawn:?}");
    let queues: Vec<_> = (0..600).map(|number| format!(r#"{{"name": "q{number}"}}"#)).collect();
    let crowd = file(&format!(r#"{{"queues": [{}]}}"#, queues.join(",")), ".json");
    let refused = topology(&["graph", path(&crowd), "--format", "svg"]);
    assert_eq!((refused.code, refused.err.contains("--format dot")), (3, true), "{refused:?}");
    assert_eq!(topology(&["graph", path(&crowd)]).code, 0);
}
