//! What consumers cost that have nothing to do, how long they take to start, and how they come back together.
//!
//! `cargo run --release -p benches --bin idle`, on a private node of RabbitMQ. Each consumer has a queue of its own and
//! the default settings; with `--shared`, all of them have one thread for their handlers. Memory and processor time are
//! those of this process.

use std::{
    error::Error,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use fluffle::prelude::{Failure as Refusal, *};
use fluffle_harness::RabbitMq;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn Error + Send + Sync>;

/// Measures consumers at rest: memory, processor time, start-up, reconnect.
#[derive(Parser)]
struct Arguments {
    /// How many consumers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    consumers: u32,

    /// How long their processor time is measured, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Whether their handlers share one thread (`Consume::on_thread`)
    #[arg(long)]
    shared: bool,
}

/// The longest that a start or a reconnect may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The pause between a start and the first measurement.
const REST: Duration = Duration::from_secs(3);

/// The pause between two looks at the service or the broker.
const LOOK: Duration = Duration::from_millis(10);

/// A handler that is given nothing.
struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Idle {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Failure> {
    let Arguments { consumers, seconds, shared } = Arguments::parse();
    let node = Arc::new(RabbitMq::start()?);

    let (service, _) = start(&node, 1, shared).await?;
    sleep(REST).await;
    let one = Rest::now()?;
    service.shutdown().await?;

    let (service, first) = start(&node, consumers, shared).await?;
    println!("start of {consumers} consumers, which declares their queues: {first:.2?}");
    service.shutdown().await?;
    let (service, again) = start(&node, consumers, shared).await?;
    println!("start of {consumers} consumers, whose queues are there:      {again:.2?}");

    sleep(REST).await;
    let all = Rest::now()?;
    let each = all.resident_kib.saturating_sub(one.resident_kib) as f64 / f64::from(consumers - 1);
    println!("memory for each further consumer:                   {each:.1} KiB, {} threads in all", all.threads);
    sleep(Duration::from_secs(seconds.into())).await;
    let used = Rest::now()?.processor - all.processor;
    let share = used.as_secs_f64() / f64::from(seconds) * 100.0;
    println!("processor time at rest, over {seconds} s:                {share:.2} % of a core");

    let (open, connects) = (connections(&node).await?, connects(&service));
    let cut = Instant::now();
    eval(&node, "rabbit_networking:close_all_connections(\"measurement\"), \"ok\"").await?;
    let back = async {
        while connects_since(&service, connects) < open || service.ready().await.is_err() {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, back).await.map_err(|_| "the consumers did not come back")?;
    println!("all {open} connections closed, until all consumers are back: {:.2?}", cut.elapsed());
    sleep(REST).await;
    let (left, tried) = (connections(&node).await?, connects_since(&service, connects));
    println!("connections then: {left}, after {tried} that were made");
    service.shutdown().await?;
    Ok(())
}

/// Starts a service with so many consumers, and says how long that took.
async fn start(node: &RabbitMq, consumers: u32, shared: bool) -> Result<(Service, Duration), Failure> {
    let names: Vec<String> = (0..consumers).map(|number| format!("idle.{number}")).collect();
    let topology = names.iter().fold(Topology::new(), |topology, name| topology.queue(Queue::classic(name)));
    let app = App::new(Broker::new(&node.url())?).topology(topology);
    let consume = |name: &String| match Consume::<String>::queue(name) {
        consume if shared => consume.on_thread("idle"),
        consume => consume,
    };
    let app = names.iter().fold(app, |app, name| app.consume(consume(name), || Idle));
    let began = Instant::now();
    let service = app.start().await?;
    timeout(PATIENCE, service.ready()).await.map_err(|_| "the consumers did not start")??;
    Ok((service, began.elapsed()))
}

/// How often connections of the service were established.
fn connects(service: &Service) -> u64 {
    service.connections().iter().map(|one| one.connects).sum()
}

fn connects_since(service: &Service, before: u64) -> u64 {
    connects(service).saturating_sub(before)
}

/// How many connections the broker has.
async fn connections(node: &Arc<RabbitMq>) -> Result<u64, Failure> {
    Ok(eval(node, "integer_to_list(length(rabbit_networking:connections()))").await?.parse()?)
}

async fn eval(node: &Arc<RabbitMq>, expression: &'static str) -> Result<String, Failure> {
    let node = Arc::clone(node);
    Ok(tokio::task::spawn_blocking(move || node.eval(expression)).await??)
}

/// What this process has taken so far.
struct Rest {
    resident_kib: u64,
    threads: u64,
    processor: Duration,
}

impl Rest {
    fn now() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).ok_or("no such field in /proc")
        };
        let mut processor = Duration::ZERO;
        for task in fs::read_dir("/proc/self/task")? {
            let account = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos: u64 = account.split_whitespace().next().ok_or("no schedstat")?.parse()?;
            processor += Duration::from_nanos(nanos);
        }
        Ok(Self { resident_kib: field("VmRSS:")?, threads: field("Threads:")?, processor })
    }
}
