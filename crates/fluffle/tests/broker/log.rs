//! What an operator reads in the log of a service, at `info` and above: of a start, and of an outage of the broker. The
//! service runs in a process of its own, so that its log is its own.

use std::{
    io::BufRead,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use fluffle_harness::RabbitMq;

use crate::support::{
    process::{Log, Process, SECONDS, service, this_test},
    *,
};

/// The queues. A fanout exchange gives each of them every message.
const QUEUES: [&str; 4] = ["mails", "bills", "parcels", "audit"];

/// The longest that the service may take to recover and to settle all that it published.
const LONG: Duration = Duration::from_secs(90);

/// The password of the broker's user, which must be in no line.
const PASSWORD: &str = "hunter2";

/// The body of each message, which must be in no line.
const SECRET: &str = "card 4111";

/// Takes 5 ms for each message, and counts it.
struct Counter {
    tally: Tally,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counter {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let tally = self.tally.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tally.add(&text);
            Ok(())
        })
    }
}

/// Publishes numbered messages to four queues and consumes them, until a line comes on stdin. Then waits until each
/// message is confirmed and was handled by each consumer, and says so.
async fn shop() -> Result<(), fluffle::Error> {
    let topology = QUEUES.iter().fold(Topology::new().exchange(Exchange::fanout("orders")), |topology, queue| {
        topology.queue(Queue::quorum(*queue).dead_letter().bind("orders", ""))
    });
    let mut app = App::new(Broker::from_env()?.name("shop")).topology(topology);
    let out = app.publisher::<String>(Route::exchange("orders").deadline(LONG));
    let tallies: Vec<Tally> = QUEUES.iter().map(|_| Tally::default()).collect();
    for (queue, tally) in QUEUES.iter().zip(tallies.clone()) {
        app = app.consume(Consume::queue(*queue).prefetch(32), move || Counter { tally: tally.clone() });
    }
    let service = started(app).await;
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().next();
        told.store(true, SeqCst);
    });
    let mut receipts = Vec::new();
    while !enough.load(SeqCst) {
        receipts.push(out.enqueue(format!("{SECRET} {}", receipts.len())).await.expect("accepted"));
        if receipts.len() % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if receipts.len() == 500 {
            eprintln!("the stream flows");
        }
    }
    let published = receipts.len();
    for receipt in receipts {
        receipt.confirmed().await.expect("confirmed");
    }
    let all = || tallies.iter().all(|tally| tally.distinct() == published);
    tokio::time::timeout(LONG, until("all are handled", all)).await.expect("all are handled");
    let republished = out.stats().republished;
    let copies: usize = tallies.iter().map(|tally| tally.total() - tally.distinct()).sum();
    eprintln!("published={published} lost=0 republished={republished} handled_again={copies}");
    service.shutdown().await?;
    Ok(())
}

/// The log lines among `lines`, without their times: those at `info` and above.
fn log(lines: &[String]) -> Vec<String> {
    let level = |line: &String| [" INFO ", " WARN ", "ERROR "].iter().find_map(|level| line.find(level));
    lines.iter().filter_map(|line| level(line).map(|at| line[at..].trim_start().to_owned())).collect()
}

#[test]
fn an_outage_of_the_broker_is_one_story() {
    let program = service(this_test!(), Log::On, shop);
    let node = RabbitMq::start().unwrap();
    node.add_user("shop", PASSWORD, "/", [".*", ".*", ".*"]).unwrap();
    let url = node.url().replace("guest:guest", &format!("shop:{PASSWORD}"));
    let mut process = program.env("AMQP_URL", &url).start();
    process.line(&["the stream flows"], SECONDS);
    let at_start = log(&process.lines());
    println!("START\n{}", at_start.join("\n"));
    let begun = Instant::now();
    node.kill().unwrap();
    std::thread::sleep(Duration::from_secs(8));
    node.start_again().unwrap();
    println!("away for {:?}", begun.elapsed());
    std::thread::sleep(Duration::from_secs(12));
    process.tell("enough");
    process.line(&["lost=0"], LONG);
    println!("OUTAGE\n{}", log(&process.lines())[at_start.len()..].join("\n"));
    let (_, lines) = process.ended(LONG);
    println!("ALL\n{}", lines.iter().rev().take(30).cloned().collect::<Vec<_>>().join("\n"));
}
