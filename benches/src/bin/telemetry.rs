//! What telemetry costs beside the messages: `/metrics` of 64 queues while every handler's thread is blocked, the
//! threads of the status page while it is watched, and memory over ten million messages and ten thousand restarts.
//!
//! `cargo run --release -p benches --bin telemetry`, on the broker inside. About two minutes.

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{
    amqp::Receipt,
    broker::Broker as Embedded,
    prelude::{Failure as Refusal, *},
    supervise::{ActorSpec, Backoff, ExitError, Intensity, SupervisedContext, SupervisorSpec},
    telemetry::Telemetry,
};

type Failure = Box<dyn Error + Send + Sync>;

/// Queues with a consumer and a thread of handlers each.
const QUEUES: usize = 64;

/// How often `/metrics` is asked for.
const SCRAPES: usize = 21;

/// How long the page is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// Messages of the memory's measurement, in batches, and how many of them come between two looks at it.
const MESSAGES: u64 = 10_000_000;
const STEP: u64 = 1_000_000;

/// Confirms that may be outstanding there.
const WINDOW: usize = 20_000;

const RESTARTS: u64 = 10_000;

/// Time limit of each wait, in case something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<(), Failure> {
    System::new().block_on(async {
        scrape_while_blocked().await?;
        memory().await
    })
}

/// A handler that blocks its thread while somebody else holds the lock for writing.
struct Blocks(Arc<RwLock<()>>);

impl Actor for Blocks {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Blocks {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        drop(self.0.read());
        Ok(())
    }
}

#[allow(clippy::await_holding_lock, reason = "only handlers take it, on threads of their own")]
async fn scrape_while_blocked() -> Result<(), Failure> {
    let (embedded, telemetry) = (Embedded::start()?, Telemetry::new());
    let gate = Arc::new(RwLock::new(()));
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    let topology = names.iter().fold(Topology::new(), |topology, name| topology.queue(Queue::quorum(name)));
    let mut app = App::new(Broker::new(&embedded.url())?).topology(topology).telemetry(&telemetry);
    let out = app.publisher::<String>(Route::exchange("").key_by(|name: &String| name.clone()));
    for name in &names {
        let gate = Arc::clone(&gate);
        app = app.consume(Consume::queue(name), move || Blocks(Arc::clone(&gate)));
    }
    let service = app.start().await?;
    service.ready().await?;
    let server = telemetry.serve("127.0.0.1:0")?;
    for name in &names {
        out.publish(name.clone()).await?;
    }
    let blocked = gate.write().map_err(|_| "a handler panicked")?;
    for name in &names {
        out.publish(name.clone()).await?;
    }
    let longest = |telemetry: &Telemetry| {
        let threads = telemetry.service().map(|service| service.threads()).unwrap_or_default();
        threads.iter().filter(|thread| thread.consumer.is_some() && thread.lag > Duration::from_millis(100)).count()
    };
    wait(|| longest(&telemetry) == QUEUES, "every handler's thread to be blocked").await?;
    let address = server.address();
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        bytes = get(address, "/metrics")?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "/metrics of {QUEUES} queues, {QUEUES} handlers' threads blocked: median {:.1?}, longest {:.1?}, {bytes} bytes",
        times[SCRAPES / 2],
        times[SCRAPES - 1]
    );
    drop(blocked);
    watch(address, "64 queues")?;
    service.shutdown().await?;
    Ok(())
}

/// Reads the page's events for a while and prints what the threads of telemetry took of a core.
fn watch(address: SocketAddr, what: &str) -> Result<(), Failure> {
    let before = telemetry_cpu()?;
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (begun, mut buffer, mut bytes) = (Instant::now(), vec![0; 1 << 20], 0);
    while begun.elapsed() < WATCHED {
        bytes += stream.read(&mut buffer)?;
    }
    let used = telemetry_cpu()? - before;
    let share = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("page watched, {what}: {share:.2} % of a core, {} bytes a second", bytes as u64 / WATCHED.as_secs());
    Ok(())
}

/// CPU time of the threads that look and serve, by the scheduler's account.
fn telemetry_cpu() -> Result<Duration, Failure> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        let name = fs::read_to_string(path.join("comm"))?;
        if ["telemetry", "status"].iter().any(|own| name.starts_with(own)) {
            let account = fs::read_to_string(path.join("schedstat"))?;
            sum += account.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(sum))
}

fn get(address: SocketAddr, path: &str) -> Result<usize, Failure> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&answer[..answer.len().min(200)]).into());
    }
    Ok(answer.len())
}

/// A handler that counts.
struct Counts(Arc<AtomicU64>);

impl Actor for Counts {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Counts {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn memory() -> Result<(), Failure> {
    let (embedded, telemetry) = (Embedded::start()?, Telemetry::new());
    let topology = Topology::new().queue(Queue::classic("q"));
    let app = App::new(Broker::new(&embedded.url())?).topology(topology).telemetry(&telemetry);
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::default()).persistent(false));
    let handled = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&handled);
    let service = app.consume(Consume::queue("q"), move || Counts(Arc::clone(&counts))).start().await?;
    service.ready().await?;
    let mut receipts: VecDeque<Receipt<String>> = VecDeque::new();
    for number in 0..=MESSAGES {
        if number % STEP == 0 {
            while let Some(receipt) = receipts.pop_front() {
                receipt.confirmed().await?;
            }
            wait(|| handled.load(Ordering::Relaxed) >= number, "every message to be handled").await?;
            println!("{number:>10} messages: {:>6} KiB resident", resident()?);
        }
        receipts.push_back(out.enqueue("a message of some bytes".to_owned()).await?);
        if receipts.len() > WINDOW
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.confirmed().await?;
        }
    }
    service.shutdown().await?;
    restarts(&telemetry).await
}

/// An actor that fails when it starts, until all restarts are done.
struct Fails(Arc<AtomicU64>);

impl Actor for Fails {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.0.fetch_add(1, Ordering::SeqCst) <= RESTARTS {
            ctx.fail(ExitError::transient(std::io::Error::other("measured")));
        }
    }
}

/// The events of a supervisor whose child fails again and again, given to the observers of a telemetry.
async fn restarts(telemetry: &Telemetry) -> Result<(), Failure> {
    let listeners: Vec<_> = telemetry.observers().iter().filter_map(|observer| observer.nodes()).collect();
    let starts = Arc::new(AtomicU64::new(0));
    let begun = Arc::clone(&starts);
    let child =
        ActorSpec::new("fails", move || Fails(Arc::clone(&begun))).backoff(Backoff::none()).logs_exits(|_| false);
    let tree = SupervisorSpec::new("app")
        .intensity(Intensity::unlimited())
        .observe(move |event| listeners.iter().for_each(|listener| listener(event)))
        .child(child)
        .start();
    for step in 1..=5 {
        let until = RESTARTS / 5 * step;
        wait(|| starts.load(Ordering::SeqCst) >= until, "the restarts").await?;
        println!("{until:>10} restarts: {:>6} KiB resident", resident()?);
    }
    tree.shutdown().await;
    Ok(())
}

/// Resident memory of this process, in KiB.
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn wait(is_it: impl Fn() -> bool, what: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_it() {
        if Instant::now() >= deadline {
            return Err(format!("waited {PATIENCE:?} in vain for {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
