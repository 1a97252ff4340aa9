//! `fluffle tail`.

use std::io::Write;

use fluffle_harness::RabbitMq;
use lapin::{
    BasicProperties, ExchangeKind,
    types::{AMQPValue, FieldTable},
};

use crate::support::{Client, on_both, properties, run, start};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
const QUAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/usgs/v1/quake.proto");

#[test]
fn a_copy_of_what_passes_an_exchange_is_shown_and_the_queues_keep_theirs() {
    on_both(|url, client| {
        client.exchange("quakes", ExchangeKind::Topic);
        client.queue("strong", "classic");
        client.bind("strong", "quakes", "#");
        let arguments = ["tail", "quakes", "--url", url, "--json", "--count", "2", "--filter", "header.tenant=eu"];
        let mut tail = start(&[&arguments[..], &["--proto", QUAKE, "-I", PROTO]].concat());
        tail.wait_for("watching");
        let mut headers = FieldTable::default();
        headers.insert("tenant".into(), AMQPValue::LongString("eu".into()));
        let eu = properties("m1").with_headers(headers);
        let quake = eu.clone().with_content_type("application/vnd.google.protobuf; proto=usgs.v1.Quake".into());
        client.publish("quakes", "quake.minor", quake, b"\x0a\x03ci1");
        client.publish("quakes", "quake.minor", properties("of nobody"), b"passes by");
        client.publish("quakes", "quake.major", eu.with_message_id("m2".into()), b"{\"a\":1}");
        let ended = tail.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines = ended.json();
        assert_eq!(lines[0]["items"][0]["value"], serde_json::json!({"id": "ci1"}), "{ended:?}");
        assert_eq!(lines[0]["items"][0]["type"], "usgs.v1.Quake");
        assert_eq!((&lines[0]["key"], &lines[0]["exchange"]), (&"quake.minor".into(), &"quakes".into()));
        assert_eq!(lines[1]["properties"]["message_id"], "m2");
        assert_eq!(lines[1]["items"][0]["format"], "json");
        assert_eq!(lines.len(), 2);
        client.wait_ready("strong", 3);
    });
}

#[test]
fn a_batch_in_gzip_is_shown_item_by_item() {
    on_both(|url, client| {
        client.exchange("quakes", ExchangeKind::Fanout);
        let mut tail = start(&["tail", "quakes", "--url", url, "--json", "--count", "1"]);
        tail.wait_for("watching");
        let frames = b"\x05\x0a\x03ci1\x05\x0a\x03ci2";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(frames).unwrap();
        let mut headers = FieldTable::default();
        let types = "1*usgs.v1.Quake 1*usgs.v1.Alert";
        headers.insert("x-fluffle-item-types".into(), AMQPValue::LongString(types.into()));
        let labels = properties("b")
            .with_content_type("application/vnd.google.protobuf; encoding=typed".into())
            .with_content_encoding("gzip".into())
            .with_headers(headers);
        client.publish("quakes", "", labels, &gzip.finish().unwrap());
        let ended = tail.end();
        let line = &ended.json()[0];
        assert_eq!(line["batch"], true, "{ended:?}");
        assert_eq!((&line["items"][0]["id"], &line["items"][1]["id"]), (&"b/0".into(), &"b/1".into()));
        assert_eq!(line["items"][1]["type"], "usgs.v1.Alert");
        assert_eq!(line["items"][1]["value"], serde_json::json!({"1": "ci2"}), "by number: no .proto was given");
    });
}

#[test]
fn a_cloud_event_is_shown_with_its_attributes_and_its_data_in_both_modes() {
    on_both(|url, client| {
        client.exchange("events", ExchangeKind::Fanout);
        let mut tail = start(&["tail", "events", "--url", url, "--count", "2", "--json"]);
        tail.wait_for("watching");
        let event = br#"{"specversion":"1.0","id":"e1","source":"/shop","type":"placed","data":{"order":7}}"#;
        let structured = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        client.publish("events", "", structured, event);
        let mut headers = FieldTable::default();
        for (name, value) in [("specversion", "1.0"), ("id", "e2"), ("source", "/shop"), ("type", "paid")] {
            headers.insert(format!("cloudEvents:{name}").into(), AMQPValue::LongString(value.into()));
        }
        let binary = BasicProperties::default().with_content_type("application/json".into()).with_headers(headers);
        client.publish("events", "", binary, br#"{"order":8}"#);
        let shown = tail.end().json();
        for (line, id, kind, order) in [(&shown[0], "e1", "placed", 7), (&shown[1], "e2", "paid", 8)] {
            let attributes = serde_json::json!({"specversion": "1.0", "id": id, "source": "/shop", "type": kind});
            assert_eq!(line["cloud_event"], attributes, "{line:#}");
            assert_eq!(line["items"][0]["value"], serde_json::json!({ "order": order }), "{line:#}");
            assert_eq!((&line["items"][0]["type"], &line["items"][0]["error"]), (&kind.into(), &().into()), "{line:#}");
        }
    });
}

#[test]
fn a_hostile_message_reaches_the_terminal_without_its_control_characters() {
    on_both(|url, client| {
        client.exchange("evil", ExchangeKind::Topic);
        for format in [&["--json", "--raw"][..], &["--color", "never", "--raw"][..]] {
            let mut tail = start(&[&["tail", "evil", "--url", url, "--count", "2"], format].concat());
            tail.wait_for("watching");
            let evil = "\x1b]0;title\x07\x1b[2J\u{9b}\u{202e}\u{7f}";
            let mut headers = FieldTable::default();
            headers.insert(evil.into(), AMQPValue::LongString(evil.into()));
            headers.insert("bytes".into(), AMQPValue::LongString(vec![0x1b, 0xff].into()));
            let all = BasicProperties::default()
                .with_message_id(evil.into())
                .with_type(evil.into())
                .with_content_type(evil.into())
                .with_correlation_id(evil.into())
                .with_headers(headers);
            client.publish("evil", evil, all.clone(), evil.as_bytes());
            client.publish("evil", evil, all.with_content_encoding(evil.into()), evil.as_bytes());
            let ended = tail.end();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let escapes = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
            assert!(!escapes(&ended.out) && !escapes(&ended.err), "{ended:?}");
        }
    });
}

#[test]
fn take_takes_what_it_has_shown_and_no_more() {
    on_both(|url, client| {
        client.queue("orders", "quorum");
        for id in ["m1", "m2", "m3", "m4"] {
            client.publish("", "orders", properties(id), id.as_bytes());
        }
        client.wait_ready("orders", 4);
        let ended = run(&["tail", "orders", "--take", "--url", url, "--count", "2", "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("gone from `orders`"), "{ended:?}");
        let ids: Vec<_> = ended.json().iter().map(|line| line["properties"]["message_id"].clone()).collect();
        assert_eq!(ids, ["m1", "m2"]);
        client.wait_ready("orders", 2);
        let third = client.take("orders").unwrap();
        assert_eq!(third.data, b"m3");
        assert!(!third.redelivered, "it was not even delivered to the tail");
    });
}

#[test]
fn a_stream_is_read_without_taking_and_a_queue_that_is_none_loses_nothing() {
    on_both(|url, client| {
        client.queue("history", "stream");
        for id in ["m0", "m1", "m2"] {
            client.publish("", "history", properties(id), id.as_bytes());
        }
        for (from, first) in [("first", "m0"), ("1", "m1"), ("1h", "m0")] {
            let ended = run(&["tail", "history", "--from", from, "--url", url, "--count", "1", "--json"]);
            assert_eq!(ended.code, Some(0), "{from}: {ended:?}");
            assert_eq!(ended.json()[0]["properties"]["message_id"], first, "{from}: {ended:?}");
        }
        client.queue("orders", "classic");
        client.publish("", "orders", properties("m1"), b"stays");
        client.wait_ready("orders", 1);
        let refused = run(&["tail", "orders", "--from", "first", "--url", url, "--count", "1"]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        client.wait_ready("orders", 1);
    });
}

#[test]
fn without_the_management_api_it_says_that_a_queues_bindings_cannot_be_known() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        let ended = run(&["tail", "orders", "--url", url]);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.err.contains("cannot be known over AMQP") && ended.err.contains("--api"), "{ended:?}");
        let absent = run(&["tail", "nothing", "--url", url]);
        assert_eq!(absent.code, Some(3));
        assert!(absent.err.contains("no queue or exchange `nothing`"), "{absent:?}");
    });
}

#[test]
fn with_the_management_api_a_queue_is_copied_by_its_bindings() {
    let broker = RabbitMq::builder().management().start().unwrap();
    let (url, api) = (broker.url(), broker.api_url().unwrap());
    let client = Client::connect(&url);
    client.exchange("shop", ExchangeKind::Direct);
    client.queue("orders", "classic");
    client.bind("orders", "shop", "placed");
    let mut copy = start(&["tail", "orders", "--url", &url, "--api", &api, "--json", "--count", "1"]);
    copy.wait_for("watching exchange `shop`, key `placed`");
    // Without a --key: `#` is no pattern on a direct exchange.
    let mut exchange = start(&["tail", "shop", "--url", &url, "--api", &api, "--json", "--count", "1"]);
    exchange.wait_for("watching exchange `shop`, key `placed`");
    client.publish("shop", "placed", properties("m1"), b"an order");
    assert_eq!(copy.end().json()[0]["properties"]["message_id"], "m1");
    assert_eq!(exchange.end().json()[0]["properties"]["message_id"], "m1");
    client.wait_ready("orders", 1);
    client.queue("alone", "classic");
    let alone = run(&["tail", "alone", "--url", &url, "--api", &api]);
    assert!(alone.code == Some(3) && alone.err.contains("has no bindings"), "{alone:?}");
}

#[test]
fn ctrl_c_ends_it_well_and_leaves_no_queue_behind() {
    let embedded = fluffle_broker::Broker::start().unwrap();
    let client = Client::connect(&embedded.url());
    client.exchange("quakes", ExchangeKind::Fanout);
    let mut tail = start(&["tail", "quakes", "--url", &embedded.url()]);
    tail.wait_for("watching");
    client.publish("quakes", "", properties("m1"), b"one");
    assert!(tail.line().contains("quakes"));
    tail.signal("INT");
    let ended = tail.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(format!("{:?}", embedded.snapshot().unwrap().queues), "[]");
    let timed = run(&["tail", "quakes", "--url", &embedded.url(), "--for", "50ms"]);
    assert_eq!((timed.code, timed.out.as_str()), (Some(0), ""), "{timed:?}");
}

#[test]
fn a_queue_deleted_under_it_is_an_error_that_says_so() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        let mut tail = start(&["tail", "orders", "--take", "--url", url]);
        tail.wait_for("--take");
        client.delete("orders");
        let ended = tail.end();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.err.contains("the queue was deleted"), "{ended:?}");
    });
}
