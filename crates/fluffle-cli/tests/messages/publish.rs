//! `fluffle publish`.

use std::{fs, io::Read, time::Instant};

use lapin::{ExchangeKind, types::AMQPValue};
use serde_json::{Value, json};

use crate::support::{Client, on_both, run, start, start_with_input};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
const QUAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/usgs/v1/quake.proto");

/// The report of a run with `--json`.
fn report(ended: &crate::support::Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"))
}

#[test]
fn one_message_arrives_with_the_properties_that_were_asked_for() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        let arguments = ["publish", "hello", "--queue", "orders", "--url", url, "--json", "--priority", "3"];
        let more = ["--header", "tenant=eu", "--header", "n=7", "--correlation-id", "c", "--id", "m1"];
        let ended = run(&[&arguments[..], &more].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(report(&ended)["confirmed"], 1);
        let message = client.take("orders").unwrap();
        assert_eq!(message.data, b"hello");
        let properties = &message.properties;
        assert_eq!((properties.priority(), properties.delivery_mode()), (&Some(3), &Some(2)));
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m1");
        let headers = properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers["n"], AMQPValue::LongLongInt(7));
        assert_eq!(headers["tenant"], AMQPValue::LongString("eu".into()));
    });
}

#[test]
fn protobuf_is_made_of_json_and_labelled_as_the_library_does() {
    on_both(|url, client| {
        client.queue("quakes", "classic");
        let arguments = ["publish", "--queue", "quakes", "--url", url, "--proto", QUAKE, "-I", PROTO];
        let ended = start_with_input(
            &[&arguments[..], &["--type", "usgs.v1.Quake", "--gzip", "on"]].concat(),
            br#"{"id": "ci1"}"#,
        )
        .end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let message = client.take("quakes").unwrap();
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().as_str().to_owned();
        assert_eq!(text(message.properties.content_type()), "application/vnd.google.protobuf; proto=usgs.v1.Quake");
        assert_eq!(text(message.properties.kind()), "usgs.v1.Quake");
        assert_eq!(text(message.properties.content_encoding()), "gzip");
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(&message.data[..]).read_to_end(&mut body).unwrap();
        assert_eq!(body, b"\x0a\x03ci1");
        let wrong = run(&[&arguments[..], &["--type", "usgs.v1.Quake", r#"{"nothing": 1}"#]].concat());
        assert_eq!(wrong.code, Some(3), "{wrong:?}");
        assert!(wrong.err.contains("nothing"), "{wrong:?}");
    });
}

#[test]
fn what_tail_prints_is_published_again_as_it_was() {
    on_both(|url, client| {
        client.exchange("quakes", ExchangeKind::Topic);
        client.queue("all", "classic");
        client.bind("all", "quakes", "#");
        let mut tail = start(&["tail", "quakes", "--url", url, "--json", "--raw", "--count", "1"]);
        tail.wait_for("watching");
        let sent = run(&[
            "publish",
            "\u{ff}body",
            "--exchange",
            "quakes",
            "--key",
            "k",
            "--url",
            url,
            "--header",
            "a={\"b\":[1,null]}",
        ]);
        assert_eq!(sent.code, Some(0), "{sent:?}");
        let seen = tail.end().out;
        let again =
            start_with_input(&["publish", "--ndjson", "-", "--url", url], Box::leak(seen.into_boxed_str()).as_bytes())
                .end();
        assert_eq!(again.code, Some(0), "{again:?}");
        let (first, second) = (client.take("all").unwrap(), client.take("all").unwrap());
        assert_eq!((&first.data, &first.properties), (&second.data, &second.properties));
        assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("quakes", "k"));
    });
}

#[test]
fn neighbours_join_a_batch_and_others_travel_alone_in_order() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        let input = br#"{"key":"orders","properties":{"type":"shop.Order"},"json":{"n":1}}
{"key":"orders","properties":{"type":"shop.Order"},"json":{"n":2}}
{"key":"orders","properties":{"type":"shop.Paid"},"json":{"n":3}}
{"key":"orders","properties":{"type":"shop.Order","priority":1},"json":{"n":4}}

{"key":"orders","properties":{"type":"shop.Order"},"json":{"n":5}}
"#;
        let ended =
            start_with_input(&["publish", "--ndjson", "-", "--batch", "100", "--url", url, "--json"], input).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let told = report(&ended);
        assert_eq!((&told["confirmed"], &told["last_line"]), (&json!(5), &json!(6)));
        let shown = run(&["tail", "orders", "--take", "--count", "3", "--json", "--url", url]).json();
        let values = |line: &Value| -> Vec<Value> {
            line["items"].as_array().unwrap().iter().map(|item| item["value"]["n"].clone()).collect()
        };
        assert_eq!(
            shown.iter().map(values).collect::<Vec<_>>(),
            [vec![json!(1), json!(2), json!(3)], vec![json!(4)], vec![json!(5)]]
        );
        assert_eq!(shown[0]["headers"]["x-fluffle-item-types"], "2*shop.Order 1*shop.Paid");
        assert_eq!(shown[0]["properties"]["content_type"], "application/json; encoding=typed");
        assert_eq!(shown[0]["items"][2]["type"], "shop.Paid");
        assert_eq!(shown[2]["properties"]["content_type"], "application/json; proto=shop.Order; encoding=delimited");
    });
}

#[test]
fn the_exit_code_tells_what_was_not_routed_and_what_was_not_confirmed() {
    on_both(|url, client| {
        client.exchange("empty", ExchangeKind::Fanout);
        let unrouted = run(&["publish", "x", "--exchange", "empty", "--url", url, "--json"]);
        assert_eq!((unrouted.code, &report(&unrouted)["unrouted"]), (Some(2), &json!(1)), "{unrouted:?}");
        let dropped = run(&["publish", "x", "--exchange", "empty", "--url", url, "--not-mandatory"]);
        assert_eq!(dropped.code, Some(0), "{dropped:?}");
        let refused = run(&["publish", "x", "--exchange", "nowhere", "--url", url, "--json"]);
        assert_eq!((refused.code, &report(&refused)["unconfirmed"]), (Some(2), &json!(1)), "{refused:?}");
        assert!(refused.out.contains("nowhere"), "{refused:?}");
        client.queue("orders", "classic");
        let wrong = start_with_input(
            &["publish", "--ndjson", "-", "--url", url, "--json"],
            br#"{"key":"orders","body":"1"}
{"key":"orders","boddy":"2"}
{"key":"orders","body":"3"}
"#,
        )
        .end();
        let told = report(&wrong);
        assert_eq!((wrong.code, &told["confirmed"], &told["last_line"]), (Some(3), &json!(1), &json!(1)), "{wrong:?}");
        assert!(told["input_error"].as_str().unwrap().starts_with("line 2: unknown field `boddy`"), "{wrong:?}");
        client.wait_ready("orders", 1);
    });
    let none = run(&["publish", "x", "--queue", "q", "--url", "amqp://127.0.0.1:1", "--connect-within", "1s"]);
    assert_eq!(none.code, Some(3), "{none:?}");
}

#[test]
fn ctrl_c_finishes_what_is_in_flight_and_says_where_to_go_on() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.ndjson");
        let lines: String = (1..=200).map(|n| format!("{{\"key\":\"orders\",\"body\":\"{n}\"}}\n")).collect();
        fs::write(&path, lines).unwrap();
        let path = path.to_str().unwrap();
        let slow = start(&["publish", "--ndjson", path, "--rate", "50", "--url", url, "--json"]);
        client.wait_at_least("orders", 5);
        slow.signal("INT");
        let ended = slow.end();
        let told = report(&ended);
        assert_eq!((ended.code, &told["end"]), (Some(1), &json!("interrupted")), "{ended:?}");
        let last = told["last_line"].as_u64().unwrap();
        assert!((5..200).contains(&last) && told["confirmed"] == last && told["unconfirmed"] == 0, "{ended:?}");
        let rest = run(&["publish", "--ndjson", path, "--skip", &last.to_string(), "--url", url, "--json"]);
        assert_eq!((rest.code, &report(&rest)["confirmed"]), (Some(0), &json!(200 - last)), "{rest:?}");
        client.wait_ready("orders", 200);
        let first_bodies: Vec<_> = (0..200).map(|_| client.take("orders").unwrap().delivery.data).collect();
        let expected: Vec<_> = (1..=200).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(first_bodies, expected, "each once, in order");
    });
}

#[test]
fn a_rate_is_kept() {
    let embedded = fluffle_broker::Broker::start().unwrap();
    let client = Client::connect(&embedded.url());
    client.queue("orders", "classic");
    let begin = Instant::now();
    let ended =
        run(&["publish", "x", "--queue", "orders", "--repeat", "50", "--rate", "100", "--url", &embedded.url()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begin.elapsed().as_millis() >= 490, "{:?}", begin.elapsed());
    client.wait_ready("orders", 50);
}
