//! `discard`: letters are in a file before they leave the queue.

use std::time::{Duration, Instant};

use fluffle::wire::headers::Reason;
use fluffle_broker::{Direction, Event, Fault, Rule};

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
    assert!(ran.code == Some(3) && ran.err.contains("cannot create"), "{ran:?}");
    let full = bench.dlq(&["discard", "orders.dead", "--go"]).await;
    assert_eq!(full.code, Some(3), "without --export it is an error of usage: {full:?}");
    bench.has("orders.dead", 1).await;
}

/// Killed when the first batch of 256 letters is acked and the next is being taken: every letter that is gone is in
/// the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_gone_when_the_process_is_killed_is_in_the_file() {
    let bench = Bench::embedded().await;
    bench.classic("orders.dead").await;
    for number in 0..300 {
        bench.bury(&format!("m{number}"), Reason::Rejected, "no").await;
    }
    let stall = Fault::Stall { direction: Direction::ToBroker, time: Duration::from_secs(600) };
    let rule = Rule::new(stall).at(Event::Settled).on_queue("orders.dead").after(255).times(1);
    let rule = bench.broker().faults().inject(rule).unwrap();
    let file = bench.file("gone.ndjson");
    let mut child = bench.command(&["discard", "orders.dead", "--export", &file, "--go"]).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while rule.fired() == 0 {
        assert!(Instant::now() < until, "no ack came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.broker().faults().heal_all().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    while bench.broker().snapshot().unwrap().queue("orders.dead").unwrap().unacked > 0 {
        assert!(Instant::now() < until, "what the process held was not put back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let left = bench.drain_ids("orders.dead").await;
    assert!(left.len() < 300, "some are gone");
    for id in (0..300).map(|number| format!("m{number}")).filter(|id| !left.contains(id)) {
        assert!(text.contains(&format!("\"id\":\"{id}\"")), "{id} is neither in the queue nor in the file");
    }
}
