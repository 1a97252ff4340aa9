//! `list`, `show`, `groups` and `export` change nothing, and the filters choose.

use fluffle::wire::headers::Reason;
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicRejectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{on_both, support::*};

on_both!(
    letters_are_listed_and_stay_in_their_order,
    letters_of_one_cause_are_one_group,
    filters_choose,
    a_letter_is_shown_with_all_that_it_says,
    letters_of_others_say_their_reason_and_origin,
    a_look_has_an_end,
    looking_ends_at_half_of_the_delivery_limit,
    a_queue_that_cannot_be_read_is_explained,
    what_is_exported_is_replayed_from_the_file,
);

async fn three(bench: &Bench) {
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    bench.bury("a", Reason::AttemptsExhausted, "order 17: connect to 10.0.0.7:5432 refused").await;
    bench.bury("b", Reason::Rejected, "no such tenant").await;
    bench.bury("c", Reason::AttemptsExhausted, "order 4711: connect to 10.0.0.9:5432 refused").await;
}

async fn letters_are_listed_and_stay_in_their_order(bench: Bench) {
    three(&bench).await;
    let ran = bench.dlq(&["list", "orders.dead", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let listed = ran.json();
    let ids: Vec<_> = listed["letters"].as_array().unwrap().iter().map(|letter| letter["id"].clone()).collect();
    assert_eq!(ids, ["a", "b", "c"], "{listed:#}");
    assert_eq!((&listed["ready"], &listed["looked_at"]), (&3.into(), &3.into()));
    assert_eq!(listed["letters"][0]["origin"], "orders");
    let ran = bench.dlq(&["list", "orders.dead"]).await;
    assert!(ran.out.contains("no such tenant") && ran.out.contains("3 of 3 letters in `orders.dead`"), "{ran:?}");
    assert_eq!(bench.drain_ids("orders.dead").await, ["a", "b", "c"]);
}

async fn letters_of_one_cause_are_one_group(bench: Bench) {
    three(&bench).await;
    let groups = bench.dlq(&["groups", "orders.dead", "--json"]).await.json();
    let first = &groups["groups"][0];
    assert_eq!((&first["letters"], &first["error"]), (&2.into(), &"order #: connect to #.#.#.#:# refused".into()));
    assert_eq!(groups["groups"].as_array().unwrap().len(), 2, "{groups:#}");
    let key = first["group"].as_str().unwrap();
    let listed = bench.dlq(&["list", "orders.dead", "--group", key, "--json"]).await.json();
    assert_eq!(listed["letters"].as_array().unwrap().len(), 2);
    let text = bench.dlq(&["groups", "orders.dead"]).await;
    assert!(text.out.contains(key) && text.out.contains("2h"), "{text:?}");
    bench.has("orders.dead", 3).await;
}

async fn filters_choose(bench: Bench) {
    three(&bench).await;
    for (filter, expected) in [
        (&["--reason", "rejected"][..], &["b"][..]),
        (&["--id", "c", "--id", "a"], &["a", "c"]),
        (&["--type", "shop.Order"], &["a", "b", "c"]),
        (&["--type", "shop.Payment"], &[]),
        (&["--header", "tenant=eu"], &["a", "b", "c"]),
        (&["--header", "tenant=us"], &[]),
        (&["--text", "body of b"], &["b"]),
        (&["--text", "10.0.0.9"], &["c"]),
        (&["--older-than", "1h"], &["a", "b", "c"]),
        (&["--younger-than", "1h"], &[]),
        (&["--origin", "orders", "--reason", "rejected"], &["b"]),
    ] {
        let listed = bench.dlq(&[&["list", "orders.dead", "--json"], filter].concat()).await.json();
        let ids: Vec<_> = listed["letters"].as_array().unwrap().iter().map(|letter| letter["id"].clone()).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    bench.has("orders.dead", 3).await;
}

async fn a_letter_is_shown_with_all_that_it_says(bench: Bench) {
    three(&bench).await;
    let ran = bench.dlq(&["show", "orders.dead", "--id", "b"]).await;
    for part in ["no such tenant", "tenant", "eu", "body of b", "order.placed", "shop.Order"] {
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
    let shown = bench.dlq(&["show", "orders.dead", "--count", "2", "--json"]).await.json();
    assert_eq!(shown["letters"][1]["headers"]["x-fluffle-reason"], "rejected", "{shown:#}");
    assert_eq!(shown["letters"].as_array().unwrap().len(), 2);
    bench.has("orders.dead", 3).await;
}

/// The broker dead-letters what a consumer rejects, and its headers tell of it.
async fn letters_of_others_say_their_reason_and_origin(bench: Bench) {
    bench.classic("plain.dead").await;
    let to = |text: &str| AMQPValue::LongString(text.into());
    bench
        .declare("plain", &[("x-dead-letter-exchange", to("")), ("x-dead-letter-routing-key", to("plain.dead"))])
        .await;
    bench.publish("plain", BasicProperties::default(), b"seven").await;
    let got = bench.channel.basic_get("plain".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    got.delivery.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    bench.has("plain.dead", 1).await;
    let listed = bench.dlq(&["list", "plain.dead", "--json"]).await.json();
    let letter = &listed["letters"][0];
    assert_eq!((&letter["reason"], &letter["origin"]), (&"rejected".into(), &"plain".into()), "{listed:#}");
    assert!(letter["since"].is_string() && letter["id"].is_null());
    let ran = bench.dlq(&["replay", "plain.dead", "--go", "--json"]).await;
    assert_eq!(ran.json()["replayed"], 1, "{ran:?}");
    bench.has("plain", 1).await;
    bench.has("plain.dead", 0).await;
}

async fn a_look_has_an_end(bench: Bench) {
    three(&bench).await;
    let ran = bench.dlq(&["list", "orders.dead", "--most", "2", "--json"]).await;
    assert_eq!(ran.json()["letters"].as_array().unwrap().len(), 2);
    assert!(ran.err.contains("looked at 2 of 3 letters"), "{ran:?}");
    assert_eq!(bench.drain_ids("orders.dead").await, ["a", "b", "c"]);
}

async fn looking_ends_at_half_of_the_delivery_limit(bench: Bench) {
    bench.quorum("orders.dead").await;
    bench.bury("a", Reason::Rejected, "no").await;
    let limited = ["list", "orders.dead", "--delivery-limit", "4"];
    assert_eq!(bench.dlq(&limited).await.code, Some(0), "it was never handed out before");
    let ran = bench.dlq(&limited).await;
    assert_eq!(ran.code, Some(0), "it was handed out once");
    assert!(ran.err.contains("this look counts as one delivery") && ran.err.contains("limit 4, given"), "{ran:?}");
    let ran = bench.dlq(&limited).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("handed out 2 times already, and the delivery limit is 4"), "{ran:?}");
    bench.has("orders.dead", 1).await;
    // A letter that leaves the queue needs no look after this one.
    let file = bench.file("a.ndjson");
    let ran = bench.dlq(&["discard", "orders.dead", "--export", &file, "--delivery-limit", "4", "--go"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    bench.has("orders.dead", 0).await;
}

async fn a_queue_that_cannot_be_read_is_explained(bench: Bench) {
    let ran = bench.dlq(&["list", "nowhere.dead"]).await;
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("`nowhere.dead`: it does not exist in this virtual host"), "{ran:?}");
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    bench.channel.queue_declare("mine.dead".into(), options, FieldTable::default()).await.unwrap();
    for subcommand in ["list", "replay"] {
        let ran = bench.dlq(&[subcommand, "mine.dead"]).await;
        assert_eq!(ran.code, Some(3));
        assert!(ran.err.contains("exclusive to another connection"), "{ran:?}");
    }
    let ran = bench.dlq(&["list", &"long".repeat(64)]).await;
    assert!(ran.code == Some(3) && ran.err.contains("at most 255 bytes"), "{ran:?}");
}

async fn what_is_exported_is_replayed_from_the_file(bench: Bench) {
    three(&bench).await;
    let mut table = FieldTable::default();
    table.insert("small".into(), AMQPValue::ShortInt(-3));
    table.insert("x-first-death-queue".into(), AMQPValue::LongString("orders".into()));
    let bytes = [0xff, 0x00, 0x80];
    bench.publish("orders.dead", BasicProperties::default().with_headers(table).with_priority(3), &bytes).await;
    let file = bench.file("letters.ndjson");
    let ran = bench.dlq(&["export", "orders.dead", &file, "--json"]).await;
    assert_eq!(ran.json()["exported"], 4, "{ran:?}");
    bench.has("orders.dead", 4).await;
    let ran = bench.dlq(&["export", "orders.dead", &file]).await;
    assert!(ran.code == Some(3) && ran.err.contains("cannot create"), "an export is never overwritten: {ran:?}");
    let ran = bench.dlq(&["replay", "--from-file", &file, "--json"]).await;
    assert_eq!((&ran.json()["replayed"], &ran.json()["dry_run"]), (&4.into(), &true.into()), "{ran:?}");
    bench.has("orders", 0).await;
    let ran = bench.dlq(&["replay", "--from-file", &file, "--go", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["replayed"]), (Some(0), &4.into()), "{ran:?}");
    let back = bench.drain("orders").await;
    assert_eq!(back.iter().take(3).map(id_of).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(back[0].data, b"body of a");
    assert_eq!(header(&back[0], "tenant").as_deref(), Some("eu"));
    assert_eq!(back[3].data, bytes);
    let headers = back[3].properties.headers().as_ref().unwrap();
    assert_eq!(headers.inner().get("small"), Some(&AMQPValue::ShortInt(-3)), "with its type");
    assert_eq!(*back[3].properties.priority(), Some(3));
    bench.has("orders.dead", 4).await;
}
