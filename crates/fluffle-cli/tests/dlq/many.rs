//! Dead-letter queues of very many letters: a replay is killed in the middle and goes on, and its memory does not grow.

use std::{
    collections::HashSet,
    env, fs,
    process::Child,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lapin::{options::BasicConsumeOptions, types::FieldTable};

use crate::{
    killed::{BATCH, LETTERS, bury_many, has_at_least, kill, start_with},
    support::*,
};

/// The memory of the process may be so much larger at the end than when a tenth was done, in KiB.
const GROWTH: u64 = 16 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_20_000_letters_that_is_killed_in_the_middle_loses_none_and_tells_its_doubles() {
    replay(20_000, BATCH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some ten minutes: docs/TESTING.md has the command, and docs/OPERATIONS.md figures"]
async fn a_million_letters_are_replayed_in_a_memory_that_stays_flat() {
    let letters = env::var(LETTERS).ok().map_or(1_000_000, |count| count.parse().unwrap());
    replay(letters, 1000).await;
}

/// Replays so many letters in two runs, the first of which is killed in the middle.
async fn replay(letters: u64, batch: u64) {
    let bench = Bench::rabbitmq().await;
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    let mut clock = Instant::now();
    bury_many(&bench, letters).await;
    let filled = lap(&mut clock);

    let mut child = start_with(&bench, batch);
    has_at_least(&bench, &mut child, "orders", letters / 10).await;
    let early = peak(&child);
    has_at_least(&bench, &mut child, "orders", letters / 2).await;
    let first = peak(&child);
    kill(child);
    assert!(bench.has_journal());

    // Near its end, because the memory of a process that has ended cannot be read.
    let mut child = start_with(&bench, batch);
    has_at_least(&bench, &mut child, "orders", letters - letters / 100).await;
    let second = peak(&child);
    let ran = finish(child).await;
    let replayed = lap(&mut clock);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["replayed_in_all"], &report["end"]), (&letters.into(), &"complete".into()), "{report:#}");
    assert!(ran.err.contains("ended early, after ") && ran.err.contains("going on"), "{}", ran.err);
    bench.has("orders.dead", 0).await;

    let (mut ids, mut twice) = (HashSet::new(), Vec::new());
    for id in consume_all(&bench, "orders").await {
        if let Some(id) = ids.replace(id) {
            twice.push(id);
        }
    }
    let lost = letters - ids.len() as u64;
    let told = report["may_be_twice"].as_u64().unwrap();
    println!(
        "{letters} letters, filled in {filled:?}, replayed in {replayed:?} with one kill in the middle: lost={lost}, \
         doubles={}, told: at most {told}. Peak of the process's memory: {early} KiB after a tenth, {first} KiB after \
         a half, {second} KiB in the second run. Standard error of the second run:\n{}",
        twice.len(),
        ran.err
    );
    assert_eq!(lost, 0);
    assert!(twice.len() as u64 <= told && told <= batch, "{} twice, told: {told}", twice.len());
    let ids_told: HashSet<&str> =
        report["may_be_twice_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(twice.iter().all(|id| ids_told.contains(id.as_str())), "{twice:?}, told: {ids_told:?}");
    assert!(first < early + GROWTH && second < early + GROWTH, "{early}, {first}, {second}");
    assert!(bench.is_over());
}

fn lap(clock: &mut Instant) -> Duration {
    std::mem::replace(clock, Instant::now()).elapsed()
}

/// The most memory that the process has had resident so far, in KiB.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The ids of all messages of a queue.
async fn consume_all(bench: &Bench, queue: &str) -> Vec<String> {
    let count = bench.ready(queue).await as usize;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = bench.channel.basic_consume(queue.into(), "all".into(), options, FieldTable::default()).await;
    let mut deliveries = consumer.unwrap().take(count);
    let mut ids = Vec::with_capacity(count);
    while let Some(delivery) = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("all messages come") {
        ids.push(id_of(&delivery.unwrap()));
    }
    ids
}
