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
    log_lines::{field, log, number, with},
    process::{Log, SECONDS, service, this_test},
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

/// Takes 40 ms for each message, and counts it. It takes 10 s for the first one, so that each consumer has a message in
/// hand when the broker is killed.
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
        let takes = if text.ends_with(" 0") { Duration::from_secs(10) } else { Duration::from_millis(40) };
        Box::pin(async move {
            tokio::time::sleep(takes).await;
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
    let (mut receipts, mut flows) = (Vec::new(), false);
    while !enough.load(SeqCst) {
        receipts.push(out.enqueue(format!("{SECRET} {}", receipts.len())).await.expect("accepted"));
        if receipts.len() % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !flows && receipts.len() >= 500 && tallies.iter().all(|tally| tally.total() > 0) {
            flows = true;
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

const CONNECTIONS: [&str; 2] = ["consume-0", "publish-0"];

#[test]
fn an_outage_of_the_broker_is_one_story_that_says_what_was_repeated() {
    let program = service(this_test!(), Log::On, shop);
    let node = RabbitMq::start().unwrap();
    node.add_user("shop", PASSWORD, "/", [".*", ".*", ".*"]).unwrap();
    let url = node.url().replace("guest:guest", &format!("shop:{PASSWORD}"));
    let mut process = program.env("AMQP_URL", &url).start();
    process.line(&["the stream flows"], SECONDS);
    let begun = Instant::now();
    node.kill().unwrap();
    process.line(&["no connection to the broker"], SECONDS);
    node.start_again().unwrap();
    for connection in CONNECTIONS {
        process.line(&["connection back", &format!("connection={connection} ")], LONG);
    }
    let away = begun.elapsed();
    process.tell("enough");
    let books = process.line(&["lost=0"], LONG);
    let (code, lines) = process.ended(LONG);
    assert_eq!(code, 0, "{lines:#?}");
    let story = log(lines.split(|line| *line == books).next().unwrap());
    println!("away for {away:?}; {books}\n{}", story.join("\n"));

    // A start of four consumers and a publisher.
    let (start, outage) = story.split_at(with(&story, "INFO ").len());
    assert!((6..=10).contains(&start.len()), "{start:#?}");
    assert_eq!(with(start, "connected").len(), 2, "{start:#?}");
    for queue in QUEUES {
        assert_eq!(with(start, &format!("consuming queue={queue} ")).len(), 1, "{start:#?}");
    }

    // One line that each connection is lost, one that it is back, and few in between.
    assert!(outage.iter().all(|line| line.starts_with("WARN")), "{outage:#?}");
    assert!(outage.len() <= 8, "{outage:#?}");
    let (lost, back) = (with(outage, "connection lost"), with(outage, "connection back"));
    for lines in [&lost, &back] {
        let mut connections: Vec<&str> = lines.iter().map(|line| field(line, "connection")).collect();
        connections.sort_unstable();
        assert_eq!(connections, CONNECTIONS, "{outage:#?}");
    }
    let between = with(outage, "no connection to the broker");
    assert_eq!(outage.len(), lost.len() + between.len() + back.len(), "{outage:#?}");
    for line in &between {
        assert!(line.contains("refused") && line.contains("next_try_in="), "{line}");
    }

    // No line lies: the publisher's own books have the same number, and handlers saw at least what came again.
    let sum = |lines: &[&String], name: &str| lines.iter().map(|line| number(line, name)).sum::<usize>();
    assert_eq!(sum(&back, "republished"), number(&format!(" {books}"), "republished"), "{books} {outage:#?}");
    assert!(sum(&lost, "unconfirmed") > 0 && sum(&lost, "unacked") > 0, "nothing was under way: {lost:#?}");
    assert!(sum(&back, "redelivered") > 0, "{back:#?}");

    for secret in [PASSWORD, SECRET] {
        assert!(with(&lines, secret).is_empty(), "{:#?}", with(&lines, secret));
    }
}
