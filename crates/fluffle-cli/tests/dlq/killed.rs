//! A replay whose process is killed: nothing is lost, and what is told of doubles is true.

use std::{
    collections::{HashMap, HashSet},
    env,
    process::Child,
    time::{Duration, Instant},
};

use fluffle::wire::headers::Reason;
use fluffle_broker::{Direction, Event, Fault, Rule};
use lapin::options::BasicPublishOptions;

use crate::{on_both, support::*};

on_both!(a_replay_that_is_killed_five_times_loses_nothing_and_tells_its_doubles);

/// How many letters are replayed. Large runs set the variable: 100000 take some minutes.
pub(crate) const LETTERS: &str = "FLUFFLE_DLQ_LETTERS";

const KILLS: u64 = 5;

/// Letters that are published before their confirms are waited for.
const UNCONFIRMED: usize = 5000;

/// Letters of a batch.
pub(crate) const BATCH: u64 = 64;

pub(crate) async fn bury_many(bench: &Bench, count: u64) {
    let mut confirms = Vec::new();
    for number in 0..count {
        let properties = letter(&format!("m{number}"), Reason::AttemptsExhausted, "away");
        let options = BasicPublishOptions::default();
        let sent = bench.channel.basic_publish("".into(), "orders.dead".into(), options, b"seven", properties).await;
        confirms.push(sent.unwrap());
        if confirms.len() == UNCONFIRMED || number + 1 == count {
            for confirm in confirms.drain(..) {
                assert!(confirm.await.unwrap().is_ack());
            }
        }
    }
}

fn start(bench: &Bench) -> Child {
    start_with(bench, BATCH)
}

pub(crate) fn start_with(bench: &Bench, batch: u64) -> Child {
    bench.command(&["replay", "orders.dead", "--go", "--json", "--batch", &batch.to_string()]).spawn().unwrap()
}

pub(crate) fn kill(mut child: Child) {
    assert!(child.try_wait().unwrap().is_none(), "the replay has ended before it could be killed");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn read(pipe: Option<impl std::io::Read>) -> String {
    let mut text = String::new();
    pipe.unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Waits until the replay has put so many messages into the queue. Fails if it puts none there for [`LIMIT`].
pub(crate) async fn has_at_least(bench: &Bench, child: &mut Child, queue: &str, count: u64) {
    let (mut most, mut until) = (0, Instant::now() + LIMIT);
    loop {
        let ready = u64::from(bench.ready(queue).await);
        if ready >= count {
            return;
        }
        if ready > most {
            (most, until) = (ready, Instant::now() + LIMIT);
        }
        if child.try_wait().unwrap().is_some() {
            panic!("the replay has ended early: {:?} {:?}", read(child.stdout.take()), read(child.stderr.take()));
        }
        assert!(Instant::now() < until, "`{queue}` has {most} of {count}, and no more come");
        tokio::time::sleep(Duration::from_millis(1 + count / 10_000)).await;
    }
}

async fn a_replay_that_is_killed_five_times_loses_nothing_and_tells_its_doubles(bench: Bench) {
    let letters: u64 = env::var(LETTERS).ok().map_or(3000, |count| count.parse().unwrap());
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    bury_many(&bench, letters).await;
    let begun = Instant::now();
    for number in 1..=KILLS {
        let mut child = start(&bench);
        has_at_least(&bench, &mut child, "orders", letters * number / (KILLS + 1)).await;
        // So that the kills meet different steps of a batch.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        kill(child);
        assert!(bench.has_journal());
    }
    let ran = finish(start(&bench)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let took = begun.elapsed();
    let report = ran.json();
    bench.has("orders.dead", 0).await;

    let mut arrived: HashMap<String, u64> = HashMap::new();
    for id in bench.drain_ids("orders").await {
        *arrived.entry(id).or_default() += 1;
    }
    let lost = letters - arrived.len() as u64;
    let doubles: u64 = arrived.values().map(|copies| copies - 1).sum();
    let told = report["may_be_twice"].as_u64().unwrap();
    let ids: HashSet<&str> =
        report["may_be_twice_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    println!(
        "{letters} letters, {KILLS} kills, {took:?}: lost={lost}, doubles={doubles}, told: at most {told}, \
         {} only acked in the last run",
        report["already_there"]
    );
    assert_eq!(lost, 0);
    assert!(doubles <= told, "{doubles} are there twice, told: {told}");
    assert!(told <= KILLS * BATCH, "{told}");
    for (id, _) in arrived.iter().filter(|(_, copies)| **copies > 1) {
        assert!(ids.contains(id.as_str()), "{id} is there twice, and not among those told");
    }
    assert_eq!(report["replayed_in_all"], letters, "{report:#}");
    assert_eq!((&report["resumed"], &report["end"]), (&true.into(), &"complete".into()));
}

/// Killed between publishing and hearing of it, with all copies in the queue: the count is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_no_confirm_was_heard_of_are_told_one_by_one() {
    let bench = Bench::embedded().await;
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    bury_many(&bench, 200).await;
    let faults = bench.broker().faults();
    // The canary and the first whole batch are confirmed.
    faults.inject(Rule::new(Fault::DropConfirm).on_queue("orders").after(5 + BATCH)).unwrap();
    let mut child = start(&bench);
    has_at_least(&bench, &mut child, "orders", 5 + 2 * BATCH).await;
    kill(child);
    faults.heal_all().unwrap();
    let ran = finish(start(&bench)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["may_be_twice"], &report["replayed_in_all"]), (&BATCH.into(), &200.into()), "{report:#}");
    let arrived = bench.drain_ids("orders").await;
    assert_eq!(arrived.len() as u64, 200 + BATCH);
    assert_eq!(arrived.iter().collect::<HashSet<_>>().len(), 200);
    assert!(!bench.has_journal(), "the replay is over");
}

/// Killed between the confirms and the acks: no copy is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_whose_copies_were_confirmed_are_acked_and_not_sent_again() {
    let bench = Bench::embedded().await;
    bench.classic("orders").await;
    bench.classic("orders.dead").await;
    bury_many(&bench, 200).await;
    let faults = bench.broker().faults();
    let stall = Fault::Stall { direction: Direction::ToBroker, time: Duration::from_secs(600) };
    let rule = Rule::new(stall).at(Event::Settled).on_queue("orders.dead").after(5).times(1);
    let rule = faults.inject(rule).unwrap();
    let mut child = start(&bench);
    let until = Instant::now() + LIMIT;
    while rule.fired() == 0 {
        assert!(Instant::now() < until, "no ack came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    has_at_least(&bench, &mut child, "orders", 5 + BATCH).await;
    kill(child);
    faults.heal_all().unwrap();
    let ran = finish(start(&bench)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.json();
    let already = report["already_there"].as_u64().unwrap();
    assert!((1..BATCH).contains(&already), "{report:#}");
    assert_eq!((&report["may_be_twice"], &report["replayed_in_all"]), (&0.into(), &200.into()), "{report:#}");
    let arrived = bench.drain_ids("orders").await;
    assert_eq!(arrived.len(), 200, "none twice");
    assert_eq!(arrived.iter().collect::<HashSet<_>>().len(), 200);
}

/// Letters without an id that look the same may be different messages: none is acked because of another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_look_the_same_are_not_taken_for_one_another() {
    let bench = Bench::embedded().await;
    bench.classic("orders.dead").await;
    bench.classic("orders").await;
    let nameless = lapin::BasicProperties::default().with_delivery_mode(2);
    for _ in 0..100 {
        bench.publish("orders.dead", nameless.clone(), b"ping").await;
    }
    let faults = bench.broker().faults();
    let stall = Fault::Stall { direction: Direction::ToBroker, time: Duration::from_secs(600) };
    let rule = faults.inject(Rule::new(stall).at(Event::Settled).on_queue("orders.dead").after(9).times(1)).unwrap();
    let arguments = ["replay", "orders.dead", "--to", "orders", "--go", "--json"];
    let child = bench.command(&arguments).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while rule.fired() == 0 {
        assert!(Instant::now() < until, "no ack came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kill(child);
    faults.heal_all().unwrap();
    let ran = bench.dlq(&arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.json();
    assert_eq!(report["already_there"], 0, "{report:#}");
    let arrived = bench.drain_ids("orders").await.len() as u64;
    let told = report["may_be_twice"].as_u64().unwrap();
    assert!((100..=100 + told).contains(&arrived), "{arrived} arrived, {report:#}");
    bench.has("orders.dead", 0).await;
}
