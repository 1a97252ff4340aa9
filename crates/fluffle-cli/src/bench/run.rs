//! Executes a run: starts the service and the producers, watches them, waits until the messages in flight have arrived,
//! and summarizes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fluffle::{
    prelude::*,
    supervise::{NodeSnapshot, State},
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    bench::args::Ack,
    bench::{
        consumer::Verifier,
        live::Live,
        message::Message,
        payload::Payload,
        plan::{Plan, Workload},
        producer::{Pace, Producer},
        progress::End,
        schedule::Pacer,
        state::Run,
        summary::Summary,
        watch::Watcher,
    },
    common::failure::Failure,
};

/// How many ids `effectively-once` remembers.
const REMEMBERED: u64 = 1_000_000;

/// The broker to load.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) broker: Broker,
    /// Its name in the report.
    pub(crate) name: String,
}

/// Runs the plan.
pub(crate) async fn execute(plan: Plan, place: &Place) -> Result<Summary, Failure> {
    let payload = Payload::new(&plan.args.payload, &plan.args.size, plan.args.seed)?;
    let broker = place.broker.clone();
    let workload = plan.workload(place.name.clone(), payload.records());
    let run = Arc::new(Run::new(plan, payload));
    let folder = tempfile::Builder::new().prefix("fluffle-bench-").tempdir()?;
    let app = App::new(broker).topology(run.plan.topology()).drain_within(run.plan.args.drain);
    let publishers: Vec<_> = (0..run.plan.producers).map(|_| app.publisher(run.plan.route())).collect();
    let app = consumers(app, &run, folder.path())?;
    let service = app.start().await?;
    let summary = match ready(&service, run.plan.args.connect_within).await {
        Ok(()) => load(&run, &service, publishers, workload).await,
        Err(failure) => Err(failure),
    };
    // The error is ignored, because the summary or the failure already says if the service has ended by itself.
    let _ = service.shutdown().await;
    summary
}

impl Place {
    /// The broker of `--url`, else of `AMQP_URL`, else one in this process.
    pub(crate) fn new(url: Option<&str>) -> Result<Self, Failure> {
        let (broker, embedded) = match url {
            Some(url) => (Broker::new(url).map_err(|error| Failure::new(format!("--url: {error}")))?, false),
            None => {
                let embedded = Broker::from_env_if_set()?.is_none();
                (Broker::from_env_or_embedded()?, embedded)
            }
        };
        let places: Vec<String> = broker.endpoints().iter().map(ToString::to_string).collect();
        let name = if embedded { "embedded".to_owned() } else { places.join(", ") };
        Ok(Self { broker: broker.name("fluffle-bench"), name })
    }
}

fn consumers(mut app: App, run: &Arc<Run>, folder: &std::path::Path) -> Result<App, Failure> {
    if run.plan.consumers == 0 {
        return Ok(app);
    }
    let seen = match run.plan.args.ack {
        Ack::EffectivelyOnce => Some(Arc::new(SeenIds::options().max_ids(REMEMBERED).open(folder.join("seen"))?)),
        Ack::AtLeastOnce | Ack::AtMostOnce => None,
    };
    for queue in 0..run.plan.queues {
        let consume = run.plan.consume(queue);
        let consume = match &seen {
            Some(seen) => consume.effectively_once(seen.clone()),
            None => consume,
        };
        let (run, whole) = (Arc::clone(run), run.plan.args.whole_batches);
        let verifier = move || Verifier { queue, meter: run.meters.add(), run: Arc::clone(&run) };
        app = if whole { app.consume_batches(consume, verifier) } else { app.consume(consume, verifier) };
    }
    Ok(app)
}

/// Waits until the service is ready. The error says what is not ready.
async fn ready(service: &Service, within: Duration) -> Result<(), Failure> {
    tokio::select! {
        ready = timeout(within, service.ready()) => match ready {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(Failure::new(format!(
                "the broker was not ready within {within:?} ({}): is it running, and is the URL right? A larger \
                 --connect-within waits longer",
                what_is_missing(&service.snapshot())
            ))),
        },
        signalled = tokio::signal::ctrl_c() => {
            signalled?;
            Err(Failure::new("interrupted before the broker was ready"))
        }
    }
}

/// The reason of the first node in the tree that is not running.
fn what_is_missing(node: &NodeSnapshot) -> String {
    fn walk(node: &NodeSnapshot) -> Option<String> {
        let below = node.children.iter().find_map(walk);
        let exit = node.last_exit.as_ref().filter(|_| node.state != State::Running);
        below.or_else(|| exit.map(|exit| format!("{}: {exit}", node.path)))
    }
    walk(node).unwrap_or_else(|| "it does not answer".to_owned())
}

/// Starts the load and waits for its end.
async fn load(
    run: &Arc<Run>,
    service: &Service,
    publishers: Vec<Publisher<Message>>,
    workload: Workload,
) -> Result<Summary, Failure> {
    let live = Live::new(&run.plan, &workload)?;
    let start = Instant::now();
    let from = start + run.plan.warm_up;
    run.measure(from, run.plan.args.count.is_none().then(|| from + run.plan.time));
    let pacer = run.plan.schedule().map(|schedule| Pacer::start(schedule, start)).transpose()?;
    let producers: Vec<Producer> = publishers
        .into_iter()
        .enumerate()
        .map(|(number, out)| {
            let pace = match (run.plan.schedule(), &pacer) {
                (Some(schedule), Some(pacer)) => Pace::Open { schedule, start, wake: pacer.wake(number) },
                _ if run.plan.args.batch.is_some() => Pace::Unbridled,
                _ => Pace::Closed(Arc::new(Semaphore::new(run.plan.window()))),
            };
            Producer { number, out, meter: run.meters.add(), pace, run: Arc::clone(run) }
        })
        .collect();
    let done = start_producers(producers)?;
    let mut watcher = Watcher::new(run, service, live, start, from)?;
    let end = watcher.watch(done).await;
    run.stop();
    drop(pacer);
    let (seconds, measured) = watcher.finish();
    if let (End::ServiceEnded(why), 0) = (&end, measured.counts.handled) {
        return Err(Failure::new(format!("the service gave up: {why}")));
    }
    Ok(Summary::new(run, service, workload, &end, seconds, &measured))
}

/// Starts the producers on threads of their own, at most one for each core. Resolves when all producers are done.
fn start_producers(producers: Vec<Producer>) -> Result<oneshot::Receiver<()>, Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(producers.len());
    let mut crews: Vec<Vec<Producer>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, producer) in producers.into_iter().enumerate() {
        crews[index % cores].push(producer);
    }
    let mut threads = Vec::with_capacity(cores);
    for (index, crew) in crews.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let work = move || {
            runtime.block_on(futures_util::future::join_all(crew.into_iter().map(Producer::work)));
        };
        threads.push(thread::Builder::new().name(format!("producers-{index}")).spawn(work)?);
    }
    let (done, all) = oneshot::channel();
    thread::Builder::new().name("producers".to_owned()).spawn(move || {
        for thread in threads {
            // A thread that panicked has already printed its panic. Its messages stay unconfirmed in the ledger.
            let _ = thread.join();
        }
        let _ = done.send(());
    })?;
    Ok(all)
}
