//! `replay` that is not killed.

use std::time::{Duration, Instant};

use fluffle::wire::headers::Reason;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};

use crate::{on_both, support::*};

on_both!(
    a_replay_rehearses_until_it_is_told_to_go,
    what_is_not_wanted_stays,
    a_letter_without_an_origin_needs_a_queue,
    a_letter_whose_queue_is_gone_stays,
    a_canary_that_comes_back_ends_the_replay,
    letters_that_come_back_later_end_the_replay,
    a_canary_that_stays_away_lets_the_rest_go,
    at_a_rate_no_letter_is_sent_before_its_time,
    ctrl_c_ends_a_replay_in_order,
);

async fn bury(bench: &Bench, count: u32) {
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    for number in 0..count {
        bench.bury(&format!("m{number}"), Reason::AttemptsExhausted, "away").await;
    }
}

/// Consumes from `orders`, and puts each message into `orders.dead` again if `fails` says so.
async fn consumer(bench: &Bench, fails: impl Fn(u32) -> bool + Send + 'static) {
    use futures_util::StreamExt;
    let channel = bench.connection.create_channel().await.unwrap();
    let mut deliveries = channel
        .basic_consume("orders".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(Ok(delivery)) = deliveries.next().await {
            if fails(number) {
                let mut table = delivery.properties.headers().clone().unwrap_or_default();
                let again = letter("-", Reason::AttemptsExhausted, "still away");
                for (name, value) in again.headers().as_ref().unwrap().inner() {
                    table.insert(name.clone(), value.clone());
                }
                let properties = delivery.properties.clone().with_headers(table);
                let options = BasicPublishOptions::default();
                channel
                    .basic_publish("".into(), "orders.dead".into(), options, &delivery.data, properties)
                    .await
                    .unwrap();
            }
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            number += 1;
        }
    });
}

async fn a_replay_rehearses_until_it_is_told_to_go(bench: Bench) {
    bury(&bench, 3).await;
    let ran = bench.dlq(&["replay", "orders.dead"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("3 would be replayed") && ran.out.contains("nothing was done; --go does it"), "{ran:?}");
    assert_eq!((bench.ready("orders").await, bench.ready("orders.dead").await), (0, 3));
    let ran = bench.dlq(&["replay", "orders.dead", "--replay-id", "monday", "--go"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("3 replayed") && ran.out.contains("replay monday"), "{ran:?}");
    let back = bench.drain("orders").await;
    assert_eq!(back.iter().map(id_of).collect::<Vec<_>>(), ["m0", "m1", "m2"]);
    assert_eq!(header(&back[0], "x-fluffle-replay").as_deref(), Some("monday"));
    assert_eq!(header(&back[0], "tenant").as_deref(), Some("eu"));
    for past in ["x-fluffle-reason", "x-fluffle-error", "x-fluffle-attempt"] {
        assert_eq!(header(&back[0], past), None, "{past}");
    }
    bench.has("orders.dead", 0).await;
    assert!(!bench.has_journal(), "a replay that is over leaves none");
}

async fn what_is_not_wanted_stays(bench: Bench) {
    bury(&bench, 5).await;
    let ran = bench.dlq(&["replay", "orders.dead", "--replay-id", "x", "--text", "body of m3", "--go", "--json"]).await;
    let report = ran.json();
    assert_eq!((&report["replayed"], &report["not_wanted"]), (&1.into(), &4.into()), "{ran:?}");
    assert_eq!(bench.drain_ids("orders").await, ["m3"]);
    bench.has("orders.dead", 4).await;
    assert_eq!(bench.drain_ids("orders.dead").await, ["m0", "m1", "m2", "m4"], "in their order");
}

async fn a_letter_without_an_origin_needs_a_queue(bench: Bench) {
    bench.classic("orders").await;
    bench.classic("strange.dead").await;
    bench.publish("strange.dead", BasicProperties::default(), b"from nowhere").await;
    let ran = bench.dlq(&["replay", "strange.dead", "--go"]).await;
    assert!(ran.out.contains("1 without an origin; they stay, --to QUEUE replays them"), "{ran:?}");
    bench.has("strange.dead", 1).await;
    let ran = bench.dlq(&["replay", "strange.dead", "--to", "orders", "--go", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["replayed"]), (Some(0), &1.into()), "{ran:?}");
    bench.has("orders", 1).await;
}

async fn a_letter_whose_queue_is_gone_stays(bench: Bench) {
    bench.classic("orders.dead").await;
    bench.bury("m0", Reason::Rejected, "no").await;
    let ran = bench.dlq(&["replay", "orders.dead", "--json"]).await;
    let problem = ran.json()["targets"]["orders"]["problem"].to_string();
    assert!(problem.contains("does not exist"), "the rehearsal says it: {ran:?}");
    let ran = bench.dlq(&["replay", "orders.dead", "--go", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["refused"]), (Some(1), &1.into()), "{ran:?}");
    assert!(ran.json()["refusals"].to_string().contains("NO_ROUTE"), "{ran:?}");
    bench.has("orders.dead", 1).await;
    assert!(!bench.has_journal());
}

async fn a_canary_that_comes_back_ends_the_replay(bench: Bench) {
    bury(&bench, 20).await;
    consumer(&bench, |_| true).await;
    let ran = bench.dlq(&["replay", "orders.dead", "--go", "--json", "--canary", "3", "--canary-wait", "30s"]).await;
    let report = ran.json();
    assert_eq!((ran.code, &report["end"]), (Some(1), &"stopped".into()), "{ran:?}");
    assert_eq!((&report["replayed"], &report["came_back"]), (&3.into(), &3.into()), "{ran:?}");
    let why = report["stopped_because"].as_str().unwrap();
    assert!(why.contains("3 letters came back") && why.contains("still away"), "{why}");
    bench.has("orders.dead", 20).await;
}

async fn letters_that_come_back_later_end_the_replay(bench: Bench) {
    bury(&bench, 60).await;
    consumer(&bench, |number| number >= 3).await;
    let slowly = ["--canary", "3", "--canary-wait", "1s", "--rate", "20", "--stop-at", "5"];
    let ran = bench.dlq(&[&["replay", "orders.dead", "--go", "--json"], &slowly[..]].concat()).await;
    let report = ran.json();
    assert_eq!((ran.code, &report["end"]), (Some(1), &"stopped".into()), "{ran:?}");
    let replayed = report["replayed"].as_u64().unwrap();
    assert!((8..60).contains(&replayed), "{report:#}");
    bench.has("orders.dead", 57).await;
    assert!(!bench.has_journal(), "it ended in order, so that the next replay begins anew");
}

async fn a_canary_that_stays_away_lets_the_rest_go(bench: Bench) {
    bury(&bench, 200).await;
    consumer(&bench, |_| false).await;
    let ran = bench.dlq(&["replay", "orders.dead", "--go", "--json", "--canary-wait", "1s"]).await;
    let report = ran.json();
    assert_eq!((ran.code, &report["replayed"]), (Some(0), &200.into()), "{ran:?}");
    assert_eq!(report["targets"]["orders"]["consumers"], 1);
    assert!(ran.err.contains("canary: 5 letters replayed; waiting 1s"), "{ran:?}");
    bench.has("orders.dead", 0).await;
}

/// A rate bounds the time from below: between three letters there are two pauses.
async fn at_a_rate_no_letter_is_sent_before_its_time(bench: Bench) {
    bury(&bench, 3).await;
    let begun = Instant::now();
    let ran = bench.dlq(&["replay", "orders.dead", "--go", "--json", "--rate", "4", "--canary", "0"]).await;
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(ran.json()["replayed"], 3, "{ran:?}");
}

async fn ctrl_c_ends_a_replay_in_order(bench: Bench) {
    bury(&bench, 30).await;
    let child =
        bench.command(&["replay", "orders.dead", "--go", "--json", "--rate", "10", "--canary", "0"]).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while bench.ready("orders").await < 3 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = finish(child).await;
    let report = ran.json();
    assert_eq!((ran.code, &report["end"]), (Some(1), &"interrupted".into()), "{ran:?}");
    let replayed = report["replayed"].as_u64().unwrap() as u32;
    assert!(replayed < 30, "{ran:?}");
    bench.has("orders", replayed).await;
    bench.has("orders.dead", 30 - replayed).await;
    let report = bench.dlq(&["replay", "orders.dead", "--go", "--json", "--canary", "0"]).await.json();
    assert_eq!((&report["replayed_in_all"], &report["may_be_twice"]), (&30.into(), &0.into()), "{report:#}");
    bench.has("orders", 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replays_of_one_queue_do_not_run_at_the_same_time() {
    let bench = Bench::embedded().await;
    bury(&bench, 30).await;
    let slow = ["replay", "orders.dead", "--go", "--json", "--rate", "5", "--canary", "0"];
    let first = bench.command(&slow).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while bench.ready("orders").await < 1 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = bench.dlq(&["replay", "orders.dead", "--go"]).await;
    assert!(second.code == Some(3) && second.err.contains("another replay uses it now"), "{second:?}");
    assert_eq!(finish(first).await.code, Some(0));
    bench.has("orders", 30).await;
}
