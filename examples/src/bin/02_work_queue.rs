//! Lesson 2: several workers share a queue of jobs of very different lengths.
//!
//! Each worker takes the next job when it has finished the last. No job is assigned to a worker in advance, so a long
//! job delays no short ones. Two settings do this: `instances` is the number of workers, and `concurrency(1)` limits
//! each to one job at a time. `prefetch` is how many jobs the broker delivers to this process before they are
//! acknowledged.
//!
//! Run it: `cargo run -p examples --bin 02_work_queue`. With `-- --until-ctrl-c`, it shows how a service ends: it takes
//! no more jobs, finishes those it has begun, and leaves the rest in the queue.
//!
//! Try: `instances(1)`; then `prefetch(1)`, with which only one of the four workers is busy; press Ctrl-C twice.
//!
//! Next: `03_publish_subscribe`, in which every subscriber gets every message.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{Seen, check, messages::Job, say, table};
use fluffle::{Error, prelude::*};

const WORKERS: usize = 4;

/// Four workers share forty jobs of 5 to 400 ms.
#[derive(Parser)]
struct Arguments {
    /// Publish jobs until Ctrl-C, then finish those begun; a second Ctrl-C ends the process at once.
    #[arg(long)]
    until_ctrl_c: bool,
}

struct Worker {
    me: usize,
    done: Seen,
    all: Seen,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery<Job>> for Worker {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, job: Delivery<Job>, _: &mut Self::Context) -> Self::Result {
        let (me, done, all) = (self.me, self.done.clone(), self.all.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(job.milliseconds.into())).await;
            println!("  worker {me}: job {:>2} took {:>3} ms", job.number, job.milliseconds);
            done.note(&job);
            all.note(&job);
            Ok(())
        })
    }
}

/// Every tenth job is long.
fn job(number: u32) -> Job {
    Job { number, milliseconds: if number % 10 == 1 { 400 } else { 5 + number % 7 * 5 } }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    examples::logging_from("warn,lapin=off,fluffle_amqp::tree::running=info");
    let broker = Broker::from_env_or_embedded()?;

    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("jobs")));
    let out = app.publisher::<Job>(Route::queue("jobs"));
    let done: [Seen; WORKERS] = Default::default();
    let all = Seen::new();
    let (workers, together, hired) = (done.clone(), all.clone(), AtomicUsize::new(0));
    let app = app.consume(Consume::queue("jobs").instances(WORKERS).concurrency(1).prefetch(8), move || {
        let me = hired.fetch_add(1, Relaxed) % WORKERS;
        Worker { me, done: workers[me].clone(), all: together.clone() }
    });

    if arguments.until_ctrl_c {
        say("Jobs until you press Ctrl-C:");
        actix::spawn(async move {
            for number in 0.. {
                // Waits for the confirm, so it is never faster than the broker.
                if let Err(error) = out.publish(job(number)).await {
                    say(format!("No more jobs: {error}"));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        app.run_until_signal().await?;
        say(format!("02_work_queue: handled={} (all jobs that were begun are finished)", all.distinct()));
        return Ok(());
    }
    let service = app.start().await?;
    service.ready().await?;
    say("Forty jobs for four workers:");
    let began = Instant::now();
    // Wait for these ids, because a run ended by Ctrl-C may have left other jobs in the queue.
    let mut ids = BTreeSet::new();
    for number in 0..40 {
        ids.insert(out.publish(job(number)).await.map_err(Error::other)?.id.to_string());
    }
    all.all_of(&ids).await?;
    let (took, work) = (began.elapsed().as_millis(), (0..40).map(|number| u128::from(job(number).milliseconds)).sum());
    service.shutdown().await?;

    let rows = done.iter().enumerate().map(|(me, done)| vec![format!("worker {me}"), done.distinct().to_string()]);
    say(table(&["", "jobs"], rows));
    say(format!("02_work_queue: published=40 handled={} work={work}ms took={took}ms", 40 - all.missing(&ids)));
    check(done.iter().all(|one| one.distinct() > 0), "a worker had no job")?;
    check(took < work, "four workers should be faster than one")
}
