//! A partitioned queue grows from four partitions to eight, and the order of each key holds.

use std::collections::BTreeMap;

use fluffle::prelude::*;

use crate::{
    effects::*,
    support::{
        broker,
        process::{Log, Process, Program, SECONDS, service, this_test},
        started, until, vhost,
    },
};

const KEYS: usize = 24;
const PROCESSES: usize = 2;

/// The first generation has four partitions, the second one eight.
fn topology() -> Topology {
    Topology::new().partitioned("orders.1", 4).partitioned("orders.2", 8)
}

/// Consumes the generation that it is told.
async fn a_consumer() -> Result<(), fluffle::Error> {
    let (url, database) = broker_and_database();
    let generation = std::env::var("GENERATION").unwrap();
    let partitions = if generation == "1" { 4 } else { 8 };
    let pool = Once::connect(&database).await;
    let mut app = App::new(broker(&url)).topology(topology());
    for queue in Topology::partitions(&format!("orders.{generation}"), partitions) {
        let pool = pool.clone();
        app = app.consume(Consume::<String>::queue(queue).concurrency(1), move || Once::new(pool.clone()));
    }
    app.run_until_signal().await
}

/// Publishes each key's next `count` numbers, as `key:number`.
async fn publish(out: &Publisher<String>, numbers: std::ops::Range<usize>) {
    let mut receipts = Vec::new();
    for number in numbers {
        for key in 0..KEYS {
            receipts.push(out.enqueue(format!("{key}:{number}")).await.unwrap());
        }
    }
    for receipt in receipts {
        receipt.confirmed().await.unwrap();
    }
}

/// The steps are those of `Topology::partitioned`, "To grow and keep the order".
#[test]
fn a_partitioned_queue_grows_from_four_to_eight_while_processes_come_and_go_and_each_key_keeps_its_order() {
    let name = this_test!();
    let program = || service(name, Log::On, a_consumer);
    let first = program();
    let vhost = vhost();
    let system = actix::System::new();
    let effects = system.block_on(Effects::start());
    let start = |program: Program, generation: &str| {
        let process = told(program, vhost.url(), &effects).env("GENERATION", generation).start();
        process.line(&["consuming"], SECONDS);
        process
    };
    let mut consumers: Vec<Process> = vec![start(first, "1")];
    consumers.extend((1..PROCESSES).map(|_| start(program(), "1")));

    let app = App::new(broker(vhost.url())).topology(topology());
    let key = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
    let to = |generation: &str| app.publisher::<String>(Route::exchange(format!("orders.{generation}")).key_by(key));
    let (to_first, to_second) = (to("1"), to("2"));
    let publishing = system.block_on(started(app));
    system.block_on(publish(&to_first, 0..12));
    // The publishers change over. What they publish from now on waits.
    system.block_on(publish(&to_second, 12..24));
    // The first generation runs empty, while a process is killed and another takes its place.
    drop(consumers.remove(0));
    consumers.push(start(program(), "1"));
    system.block_on(until("the first generation is empty", || {
        Topology::partitions("orders.1", 4).all(|queue| {
            let depth = vhost.depth(&queue);
            (depth.ready, depth.unacked) == (0, 0)
        })
    }));
    // The consumers change over.
    for _ in 0..PROCESSES {
        let old = consumers.remove(0);
        old.signal("TERM");
        let (code, lines) = old.ended(SECONDS);
        assert_eq!(code, 0, "{lines:#?}");
        consumers.push(start(program(), "2"));
    }
    system.block_on(async {
        publish(&to_second, 24..30).await;
        effects.handled(KEYS * 30).await;
        let mut next: BTreeMap<String, usize> = BTreeMap::new();
        for text in effects.texts().await {
            let (key, number) = text.split_once(':').unwrap();
            let expected = next.entry(key.to_owned()).or_default();
            assert_eq!(number.parse::<usize>().unwrap(), *expected, "of key {key}");
            *expected += 1;
        }
        publishing.shutdown().await.unwrap();
    });
}
