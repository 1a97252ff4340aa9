//! `cluster`: three RabbitMQ nodes and a service of four processes on this machine; a node dies under load.
//!
//! Four processes of one service share a quorum queue. While jobs are published at a steady rate, the node that leads
//! the queue is killed with SIGKILL, and started again later. At the end every job is checked.
//!
//! What to look for: each process is connected to several nodes, so only some connections are lost; the others go on
//! while the remaining nodes elect a leader. No publish fails, because a refusal that an election explains is published
//! again (`Route::republish`).
//!
//! Run it: `cargo xtask example cluster`. It takes about a minute. It needs `rabbitmq-server`
//! (`apt-get install rabbitmq-server`), which need not run.
//!
//! Try: `--jobs 30000`, and kill one of the four processes meanwhile; a classic queue instead of the quorum queue, and
//! see its jobs wait for their node.
//!
//! Next: `docs/SCALING.md`, which says when more nodes or more processes help.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{check, messages::Job, say, table};
use fluffle::{Error, prelude::*};
use fluffle_harness::{Cluster, HarnessError};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const PROCESSES: usize = 4;

/// Longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a cluster of three nodes and a service of four processes, and kills a node under load.
#[derive(Parser)]
struct Arguments {
    /// How many jobs are published, 200 a second.
    #[arg(long, default_value_t = 2_000)]
    jobs: u32,
    /// Be one of the four processes, on the broker at these URLs.
    #[arg(long, hide = true)]
    process_on: Option<String>,
}

/// Says the number of each job on standard output.
struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery<Job>> for Worker {
    type Result = Result<(), Failure>;

    fn handle(&mut self, job: Delivery<Job>, _: &mut Self::Context) -> Self::Result {
        println!("{}", job.number);
        Ok(())
    }
}

fn app(urls: &str) -> Result<App, Error> {
    let broker = Broker::new(urls).map_err(Error::other)?;
    Ok(App::new(broker).topology(Topology::new().queue(Queue::quorum("jobs").dead_letter())))
}

/// Which process handled which job, and when.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<(usize, u32, Instant)>>>);

impl Ledger {
    fn note(&self, process: usize, job: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((process, job, Instant::now()));
    }

    /// How often each job was handled.
    fn jobs(&self) -> BTreeMap<u32, usize> {
        let mut jobs = BTreeMap::new();
        let handled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handled.iter().for_each(|(_, job, _)| *jobs.entry(*job).or_default() += 1);
        jobs
    }

    fn of(&self, process: usize) -> usize {
        let handled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handled.iter().filter(|(by, ..)| *by == process).count()
    }

    fn longest_pause(&self) -> Duration {
        let handled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handled.windows(2).map(|two| two[1].2 - two[0].2).max().unwrap_or_default()
    }
}

/// Starts one of the four processes, and notes what it handles.
fn start_process(number: usize, urls: &str, ledger: &Ledger) -> Result<Child, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--process-on", urls]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let lines = child.stdout.take().ok_or_else(|| Error::other("the process has no output"))?;
    let (mut lines, ledger) = (BufReader::new(lines).lines(), ledger.clone());
    actix::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            line.parse().into_iter().for_each(|job| ledger.note(number, job));
        }
    });
    Ok(child)
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, HarnessError> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(act).await.map_err(Error::other)?.map_err(Error::other)
}

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    examples::logging_from("error,lapin=off");
    if let Some(urls) = arguments.process_on {
        return app(&urls)?.consume(Consume::queue("jobs").prefetch(16), || Worker).run_until_signal().await;
    }
    say("Three nodes boot, and join (up to half a minute) ...");
    let cluster = Arc::new(blocking(Cluster::start).await?);
    let (urls, ledger) = (cluster.url(), Ledger::default());
    let app = app(&urls)?;
    let out = app.publisher::<Job>(Route::queue("jobs").deadline(PATIENCE));
    let service = app.start().await?;
    service.ready().await?;
    let processes: Vec<Child> =
        (0..PROCESSES).map(|number| start_process(number, &urls, &ledger)).collect::<Result<_, Error>>()?;
    say(format!("{PROCESSES} processes start; {} jobs are published, 200 a second.", arguments.jobs));

    let (kill_at, start_at) = (arguments.jobs / 3, arguments.jobs * 2 / 3);
    let mut victim = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    for number in 0..arguments.jobs {
        pace.tick().await;
        if number == kill_at {
            victim = kill_leader(&cluster).await?;
            say(format!("job {number}: node {victim}, which led the queue, is killed with SIGKILL"));
        }
        if number == start_at {
            say(format!("job {number}: node {victim} is started again"));
            let cluster = Arc::clone(&cluster);
            actix::spawn(blocking(move || cluster.node(victim)?.start_again()));
        }
        out.publish(Job { number, milliseconds: 0 }).await.map_err(Error::other)?;
    }
    let all = async {
        while ledger.jobs().len() < arguments.jobs as usize {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await.is_ok();
    drop(processes);
    service.shutdown().await?;

    let rows = (0..PROCESSES).map(|process| vec![format!("process {process}"), ledger.of(process).to_string()]);
    say(table(&["", "jobs"], rows));
    let jobs = ledger.jobs();
    let (again, lost) = (jobs.values().filter(|times| **times > 1).count(), arguments.jobs as usize - jobs.len());
    let pause = ledger.longest_pause().as_millis();
    say(format!(
        "cluster: published={} handled={} again={again} longest_pause={pause}ms lost={lost}",
        arguments.jobs,
        jobs.len()
    ));
    check(in_time && lost == 0, "a job is lost")
}

/// Kills the node that leads the queue, and gives its number.
async fn kill_leader(cluster: &Arc<Cluster>) -> Result<usize, Error> {
    let cluster = Arc::clone(cluster);
    blocking(move || {
        let leader = cluster.leader("/", "jobs")?.unwrap_or_default();
        cluster.node(leader)?.kill()?;
        Ok(leader)
    })
    .await
}
