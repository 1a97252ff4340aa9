//! Letters that somebody made to do harm, and letters that nobody can read.

use fluffle::wire::headers::Reason;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::{on_both, support::*};

on_both!(control_characters_never_reach_the_terminal, huge_headers_are_cut_where_they_are_shown_and_kept_where_sent);

const CLEAR: &str = "\x1b[2J\x07\u{202e}\u{9b}31m";

async fn control_characters_never_reach_the_terminal(bench: Bench) {
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    let mut properties =
        letter(&format!("id{CLEAR}"), Reason::Other(format!("why{CLEAR}")), &format!("{CLEAR}\r\nfake"));
    let mut table = properties.headers().clone().unwrap();
    table.insert(format!("h{CLEAR}").into(), AMQPValue::LongString(CLEAR.into()));
    table.insert("x-fluffle-origin-queue".into(), AMQPValue::LongString(format!("q{CLEAR}").into()));
    properties = properties.with_headers(table).with_type(format!("t{CLEAR}").into()).with_app_id(CLEAR.into());
    bench.publish("orders.dead", properties.clone(), format!("body {CLEAR}\n{CLEAR}").as_bytes()).await;
    bench.publish("orders.dead", properties, &[0x1b, 0x5b, 0x32, 0x4a, 0xff, 0x00]).await;
    let file = bench.file("letters.ndjson");
    for arguments in [
        &["list", "orders.dead"][..],
        &["list", "orders.dead", "--json"],
        &["show", "orders.dead", "--count", "2"],
        &["show", "orders.dead", "--count", "2", "--json"],
        &["groups", "orders.dead"],
        &["replay", "orders.dead"],
        &["replay", "orders.dead", "--go", "--canary", "0"],
        &["export", "orders.dead", &file],
    ] {
        let ran = bench.dlq(arguments).await;
        assert!(ran.code.is_some_and(|code| code < 2), "{ran:?}");
        for (name, text) in [("out", &ran.out), ("err", &ran.err)] {
            let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            let json = arguments.contains(&"--json");
            // In JSON the characters that turn text stand as they are: programs read it.
            let raw = raw.filter(|c| !json || c.is_ascii_control());
            assert_eq!(raw, None, "{arguments:?}, {name}: {text}");
        }
    }
    bench.has("orders.dead", 2).await;
}

async fn huge_headers_are_cut_where_they_are_shown_and_kept_where_sent(bench: Bench) {
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    let mut table = letter("big", Reason::Rejected, "no").headers().clone().unwrap();
    let huge = "x".repeat(100_000);
    table.insert("huge".into(), AMQPValue::LongString(huge.as_str().into()));
    let mut deep = FieldTable::default();
    for _ in 0..20 {
        let mut outer = FieldTable::default();
        outer.insert("in".into(), AMQPValue::FieldTable(deep));
        deep = outer;
    }
    table.insert("deep".into(), AMQPValue::FieldTable(deep));
    let properties = BasicProperties::default().with_message_id("big".into()).with_headers(table);
    bench.publish("orders.dead", properties, b"x").await;
    let shown = bench.dlq(&["show", "orders.dead"]).await;
    assert!(shown.code == Some(0) && shown.out.len() < 10_000, "{} bytes", shown.out.len());
    let ran = bench.dlq(&["replay", "orders.dead", "--go", "--json"]).await;
    assert_eq!(ran.json()["replayed"], 1, "{ran:?}");
    let back = bench.drain("orders").await;
    assert_eq!(header(&back[0], "huge").as_deref(), Some(huge.as_str()));
}

/// A property that is not UTF-8 is no letter that a copy could be made of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_none_of_ours_is_refused_with_its_line() {
    let bench = Bench::embedded().await;
    bench.classic("orders").await;
    let file = bench.file("wrong.ndjson");
    for (content, why) in [
        ("rubbish\n", "line 1: not a letter that `fluffle dlq export` wrote"),
        ("\n{\"queue\":\"q\",\"amqp\":\"AAA=\"}\n", "line 2: it needs one of `body` and `body_base64`"),
        ("{\"queue\":\"q\",\"amqp\":\"/////w==\",\"body\":\"x\"}\n", "line 1: not a prepared message"),
    ] {
        std::fs::write(&file, content).unwrap();
        let ran = bench.dlq(&["replay", "--from-file", &file, "--to", "orders"]).await;
        assert!(ran.code == Some(3) && ran.err.contains(why), "{why}: {ran:?}");
    }
    let unreadable = r#"{"queue":"q","amqp":"AAA=","body":"x","unreadable":"correlation_id: not UTF-8"}"#;
    std::fs::write(&file, unreadable).unwrap();
    let ran = bench.dlq(&["replay", "--from-file", &file, "--to", "orders", "--go", "--json"]).await;
    assert_eq!((&ran.json()["unreadable"], &ran.json()["replayed"]), (&1.into(), &0.into()), "{ran:?}");
    bench.has("orders", 0).await;
}
