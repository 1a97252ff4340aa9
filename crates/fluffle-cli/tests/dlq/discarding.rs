//! `discard`: letters are in a file before they leave the queue.

use fluffle::wire::headers::Reason;
use fluffle_broker::{Event, Fault, Rule};

use crate::{on_both, support::*};

on_both!(letters_are_in_a_file_before_they_are_gone, without_a_place_for_the_file_nothing_is_discarded);

async fn letters_are_in_a_file_before_they_are_gone(bench: Bench) {
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    for id in ["a", "b", "c"] {
        bench.bury(id, Reason::Rejected, "no").await;
    }
    let file = bench.file("gone.ndjson");
    let ran = bench.dlq(&["discard", "orders.dead", "--export", &file, "--id", "b"]).await;
    assert!(ran.out.contains("1 would be discarded") && ran.out.contains("--go does it"), "{ran:?}");
    assert!(!std::path::Path::new(&file).exists());
    bench.has("orders.dead", 3).await;
    let ran = bench.dlq(&["discard", "orders.dead", "--export", &file, "--id", "b", "--go", "--json"]).await;
    let report = ran.json();
    assert_eq!((&report["discarded"], &report["not_wanted"]), (&1.into(), &2.into()), "{ran:?}");
    assert_eq!(bench.drain_ids("orders.dead").await, ["a", "c"]);
    let ran = bench.dlq(&["replay", "--from-file", &file, "--go", "--json"]).await;
    assert_eq!(ran.json()["replayed"], 1, "{ran:?}");
    assert_eq!(bench.drain_ids("orders").await, ["b"]);
}

async fn without_a_place_for_the_file_nothing_is_discarded(bench: Bench) {
    bench.classic("orders.dead").await;
    bench.bury("a", Reason::Rejected, "no").await;
    let nowhere = bench.file("no/such/folder.ndjson");
    let ran = bench.dlq(&["discard", "orders.dead", "--export", &nowhere, "--go"]).await;
    assert!(ran.code == Some(2) && ran.err.contains("cannot create"), "{ran:?}");
    let full = bench.dlq(&["discard", "orders.dead", "--go"]).await;
    assert_eq!(full.code, Some(2), "without --export it is an error of usage: {full:?}");
    bench.has("orders.dead", 1).await;
}

/// The connection is cut at the first ack. Every letter that is gone then is in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_gone_when_the_connection_ends_is_in_the_file() {
    let bench = Bench::embedded().await;
    bench.classic("orders.dead").await;
    for number in 0..50 {
        bench.bury(&format!("m{number}"), Reason::Rejected, "no").await;
    }
    let rule = Rule::new(Fault::Cut).at(Event::Settled).on_queue("orders.dead").after(9).times(1);
    bench.broker().faults().inject(rule).unwrap();
    let file = bench.file("gone.ndjson");
    let ran = bench.dlq(&["discard", "orders.dead", "--export", &file, "--go"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut left: Vec<String> = Vec::new();
    let until = std::time::Instant::now() + LIMIT;
    while left.is_empty() && std::time::Instant::now() < until {
        left = bench.drain_ids("orders.dead").await;
    }
    assert!(!left.is_empty() && left.len() < 50, "{}", left.len());
    for number in (0..50).map(|number| format!("m{number}")).filter(|id| !left.contains(id)) {
        assert!(text.contains(&format!("\"id\":\"{number}\"")), "{number} is neither in the queue nor in the file");
    }
}
