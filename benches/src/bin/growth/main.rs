//! Measures whether a message costs more with more queues, or with more messages in them, with Fluffle and with plain
//! lapin: the CPU time of this process for each message of 100 bytes, from the scheduler's account
//! (`/proc/self/task/*/schedstat`), in nanoseconds.
//!
//! `cargo run --release -p benches --bin growth`, on a private node of RabbitMQ, or the broker that `AMQP_URL` names.

mod by_hand;

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::prelude::{Failure as Refusal, *};
use fluffle_harness::Broker as Node;
use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
use tokio::{sync::Notify, time::timeout};

/// How many messages are published to each queue before the next one's turn.
const BURST: u64 = 50;

/// The most messages without a confirm, over all queues.
const WINDOW: usize = 4000;

/// The window of one publisher.
const OWN_WINDOW: usize = 1000;

const PREFETCH: u16 = 1000;

/// Messages in each round, over all queues.
const MESSAGES: u64 = 200_000;

/// Rounds for each number of queues, in turns. A short round before them warms up.
const ROUNDS: usize = 5;

const QUEUES: [u64; 4] = [1, 4, 16, 64];

/// Messages queued before the consumer starts, and how often.
const QUEUED: [(u64, usize); 4] = [(1_000, 25), (10_000, 9), (100_000, 3), (1_000_000, 1)];

/// Time limit of one round, in case something hangs.
const PATIENCE: Duration = Duration::from_secs(180);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let node = Node::from_env_or_private()?;
    let url = node.url();
    System::new().block_on(async {
        spread(&url, 1, MESSAGES / 10).await?;
        println!("{MESSAGES} messages spread over queues, each with a publisher and a consumer of its own");
        let (mut rounds, mut hand_written) = (vec![Vec::new(); QUEUES.len()], vec![Vec::new(); QUEUES.len()]);
        for round in 1..=ROUNDS {
            eprintln!("round {round} of {ROUNDS}");
            for (queues, (costs, by_hand_costs)) in QUEUES.into_iter().zip(rounds.iter_mut().zip(&mut hand_written)) {
                costs.push(spread(&url, queues, MESSAGES).await?);
                by_hand_costs.push(by_hand::spread(&url, queues, MESSAGES).await?);
            }
        }
        both("queues", QUEUES, rounds, hand_written);

        println!("\nwaiting messages of one queue, consumed");
        let (mut rounds, mut hand_written) = (Vec::new(), Vec::new());
        for (queued, times) in QUEUED {
            eprintln!("{queued} queued");
            let (mut costs, mut by_hand_costs) = (Vec::new(), Vec::new());
            for _ in 0..times {
                costs.push(backlog(&url, queued).await?);
                by_hand_costs.push(by_hand::backlog(&url, queued).await?);
            }
            rounds.push(costs);
            hand_written.push(by_hand_costs);
        }
        both("queued", QUEUED.map(|(queued, _)| queued), rounds, hand_written);
        Ok(())
    })
}

/// The cost of a message.
#[derive(Clone, Copy)]
struct Cost {
    processor: Duration,
    elapsed: Duration,
    messages: u64,
}

impl Cost {
    fn micros(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.messages as f64
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

fn both<const N: usize>(what: &str, sizes: [u64; N], ours: Vec<Vec<Cost>>, by_hand: Vec<Vec<Cost>>) {
    println!("\nwith Fluffle\n");
    table(what, sizes, ours);
    println!("\nwith hand-optimized lapin: two connections, a channel for each queue on both\n");
    table(what, sizes, by_hand);
}

fn table<const N: usize>(what: &str, sizes: [u64; N], rounds: Vec<Vec<Cost>>) {
    println!("{what:>10} {:>14} {:>12} {:>12}", "us/message", "to the first", "messages/s");
    let mut first = None;
    for (size, costs) in sizes.into_iter().zip(rounds) {
        let micros = median(costs.iter().map(Cost::micros));
        let rate = median(costs.iter().map(Cost::rate));
        let ratio = micros / *first.get_or_insert(micros);
        println!("{size:>10} {micros:>14.2} {ratio:>12.2} {rate:>12.0}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A point in time, with the CPU time so far.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    processor: Duration,
}

impl Mark {
    fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let used = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Self { at: Instant::now(), processor: Duration::from_nanos(used.sum()) }
    }

    fn until(&self, end: &Self, messages: u64) -> Cost {
        let processor = end.processor.saturating_sub(self.processor);
        Cost { processor, elapsed: end.at - self.at, messages }
    }
}

/// Shared by the handlers of one round.
struct Course {
    goal: u64,
    handled: AtomicU64,
    /// The marks at the first and the last message.
    marks: Mutex<Vec<Mark>>,
    done: Notify,
}

impl Course {
    fn new(goal: u64) -> Arc<Self> {
        Arc::new(Self { goal, handled: AtomicU64::new(0), marks: Mutex::default(), done: Notify::new() })
    }

    fn one(&self) {
        let handled = self.handled.fetch_add(1, Ordering::AcqRel) + 1;
        if handled == 1 || handled == self.goal {
            self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(Mark::now());
        }
        if handled == self.goal {
            self.done.notify_one();
        }
    }

    /// Waits until all messages are handled. Returns the cost from the first message on.
    async fn cost(&self) -> Result<Cost, Failure> {
        timeout(PATIENCE, self.done.notified()).await?;
        match self.marks.lock().unwrap_or_else(PoisonError::into_inner)[..] {
            [first, last] => Ok(first.until(&last, self.goal)),
            _ => Err("a round has a first message and a last one".into()),
        }
    }
}

struct Counter(Arc<Course>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counter {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.one();
        Ok(())
    }
}

fn name(queue: u64) -> String {
    format!("fluffle.growth.{}.{queue}", std::process::id())
}

fn topology(queues: u64) -> Topology {
    (0..queues).fold(Topology::new(), |topology, queue| topology.queue(Queue::classic(name(queue))))
}

fn route(queue: u64) -> Route<String> {
    Route::queue(name(queue)).confirms(Confirms::Window(OWN_WINDOW)).persistent(false)
}

fn consume(queue: u64) -> Consume<String> {
    Consume::queue(name(queue)).prefetch(PREFETCH).retry(Retry::none())
}

fn body() -> String {
    "x".repeat(98)
}

/// Publishes, confirms, handles and acks `messages`, spread over so many queues.
async fn spread(url: &str, queues: u64, messages: u64) -> Result<Cost, Failure> {
    let course = Course::new(messages);
    let mut app = App::new(Broker::new(url)?).topology(topology(queues));
    let mut publishers = Vec::new();
    for queue in 0..queues {
        publishers.push(app.publisher(route(queue)));
        let counted = Arc::clone(&course);
        app = app.consume(consume(queue), move || Counter(Arc::clone(&counted)));
    }
    let service = app.start().await?;
    service.ready().await?;
    let mut receipts = VecDeque::new();
    let mut left = messages;
    for publisher in publishers.iter().cycle() {
        let burst = left.min(BURST);
        left -= burst;
        for _ in 0..burst {
            receipts.push_back(publisher.enqueue(body()).await?);
        }
        while receipts.len() > WINDOW
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.confirmed().await?;
        }
        if left == 0 {
            break;
        }
    }
    for receipt in receipts {
        receipt.confirmed().await?;
    }
    let cost = course.cost().await?;
    service.shutdown().await?;
    clear(url, queues).await?;
    Ok(cost)
}

/// Handles and acks `messages` that all wait in the queue beforehand.
async fn backlog(url: &str, messages: u64) -> Result<Cost, Failure> {
    let app = App::new(Broker::new(url)?).topology(topology(1));
    let publisher = app.publisher(route(0));
    let service = app.start().await?;
    service.ready().await?;
    for _ in 0..messages {
        // All confirms are awaited together, below.
        drop(publisher.enqueue(body()).await?);
    }
    publisher.flush().await;
    let settled = publisher.stats();
    service.shutdown().await?;
    if settled.confirmed != messages {
        return Err(format!("{} of {messages} messages were confirmed", settled.confirmed).into());
    }
    let course = Course::new(messages);
    let counted = Arc::clone(&course);
    let app = App::new(Broker::new(url)?).topology(topology(1));
    let service = app.consume(consume(0), move || Counter(Arc::clone(&counted))).start().await?;
    let cost = course.cost().await?;
    service.shutdown().await?;
    clear(url, 1).await?;
    Ok(cost)
}

/// Deletes the queues and their dead-letter queues. RabbitMQ accepts the deletion of a missing queue.
async fn clear(url: &str, queues: u64) -> Result<(), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in 0..queues {
        for name in [name(queue), format!("{}.dead", name(queue))] {
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}
