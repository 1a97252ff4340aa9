//! The cost of the journal and of de-duplication: the same publisher with and without a journal, and the same consumer
//! with and without a store of seen ids, in turns on one broker.
//!
//! `cargo run --release -p benches --bin journal`; the broker is a private RabbitMQ node, or the one that `AMQP_URL`
//! names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use fluffle_harness::Broker as Node;
use tokio::{sync::Notify, time::timeout};

/// Messages in each round.
const MESSAGES: usize = 20_000;

/// Counted rounds. One more before them warms up.
const ROUNDS: usize = 5;

/// Time limit of one round, in case something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Counter {
    left: Arc<AtomicUsize>,
    done: Arc<Notify>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counter {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

/// One way of publishing or consuming, and its rate in each round.
struct Contestant {
    name: &'static str,
    rates: Vec<f64>,
}

impl Contestant {
    fn new(name: &'static str) -> Self {
        Self { name, rates: Vec::new() }
    }

    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

#[actix::main]
async fn main() -> Result<(), fluffle::Error> {
    let node = Node::from_env_or_private().map_err(fluffle::Error::other)?;
    let folder = tempfile::tempdir()?;
    println!(
        "{MESSAGES} messages of 100 bytes a round, each confirmed (publishing) or handled and acked (consuming)\n"
    );

    let mut publishing = [Contestant::new("confirmed"), Contestant::new("journaled, grouped flush")];
    let mut consuming = [Contestant::new("at least once"), Contestant::new("effectively once, on disk")];
    for round in 0..=ROUNDS {
        for (index, contestant) in publishing.iter_mut().enumerate() {
            let journal = folder.path().join(format!("{round}.journal"));
            let route = Route::queue("bench.publish");
            let route = if index == 0 { route } else { route.journal(open(&journal)?) };
            let rate = publish(&node.url(), route).await?;
            contestant.rates.extend((round > 0).then_some(rate));
        }
        for (index, contestant) in consuming.iter_mut().enumerate() {
            let consume = Consume::queue("bench.consume").prefetch(512);
            let store = folder.path().join(format!("{round}.seen"));
            let consume = if index == 0 { consume } else { consume.effectively_once(Arc::new(seen(&store)?)) };
            let rate = handle(&node.url(), consume).await?;
            contestant.rates.extend((round > 0).then_some(rate));
        }
    }
    for [plain, durable] in [&publishing, &consuming] {
        println!("{:<28} {:>8.0}/s", plain.name, plain.median());
        println!("{:<28} {:>8.0}/s", durable.name, durable.median());
        println!("{:<28} {:>8.2}\n", "ratio", durable.median() / plain.median());
    }
    Ok(())
}

fn open(path: &std::path::Path) -> Result<Journal, fluffle::Error> {
    Journal::options().open(path).map_err(fluffle::Error::other)
}

fn seen(path: &std::path::Path) -> Result<SeenIds, fluffle::Error> {
    SeenIds::options().open(path).map_err(fluffle::Error::other)
}

fn topology() -> Topology {
    // Bounded, because nobody reads it; classic, so that the broker's disk is not measured.
    let unread = Queue::classic("bench.publish").max_length(1000);
    Topology::new().queue(unread).queue(Queue::classic("bench.consume"))
}

/// Messages a second, from the first publish to the last confirm.
async fn publish(url: &str, route: Route<String>) -> Result<f64, fluffle::Error> {
    let app = App::new(Broker::new(url)?).topology(topology());
    let out = app.publisher(route.persistent(false));
    let service = app.start().await?;
    service.ready().await?;
    let began = Instant::now();
    send(&out).await?;
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    service.shutdown().await?;
    Ok(rate)
}

async fn send(out: &Publisher<String>) -> Result<(), fluffle::Error> {
    let body = "x".repeat(100);
    let sending = async {
        let mut receipts = std::collections::VecDeque::new();
        for _ in 0..MESSAGES {
            receipts.push_back(out.enqueue(body.clone()).await?);
            if receipts.len() > 2048
                && let Some(oldest) = receipts.pop_front()
            {
                oldest.confirmed().await?;
            }
        }
        for receipt in receipts {
            receipt.confirmed().await?;
        }
        Ok(())
    };
    timeout(PATIENCE, sending).await.map_err(fluffle::Error::other)?
}

/// Messages a second, from the moment the consumer starts on a filled queue to the last message handled.
async fn handle(url: &str, consume: Consume<String>) -> Result<f64, fluffle::Error> {
    let app = App::new(Broker::new(url)?).topology(topology());
    let out = app.publisher(Route::queue("bench.consume").persistent(false));
    let filling = app.start().await?;
    filling.ready().await?;
    send(&out).await?;
    filling.shutdown().await?;

    let (left, done) = (Arc::new(AtomicUsize::new(MESSAGES)), Arc::new(Notify::new()));
    let factory = {
        let (left, done) = (Arc::clone(&left), Arc::clone(&done));
        move || Counter { left: Arc::clone(&left), done: Arc::clone(&done) }
    };
    let began = Instant::now();
    let service = App::new(Broker::new(url)?).topology(topology()).consume(consume, factory).start().await?;
    timeout(PATIENCE, done.notified()).await.map_err(fluffle::Error::other)?;
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    service.shutdown().await?;
    Ok(rate)
}
