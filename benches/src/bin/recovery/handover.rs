//! A queue with a single active consumer passes from one process to the other.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use fluffle_harness::RabbitMq;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    load::Load,
    shared::{Failure, PATIENCE, blocking},
};

fn topology() -> Topology {
    Topology::new().queue(Queue::quorum("one").single_active_consumer())
}

/// Says each message on standard output.
struct Saying;

impl Actor for Saying {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Saying {
    type Result = Result<(), fluffle::prelude::Failure>;

    fn handle(&mut self, number: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        println!("{}", *number);
        Ok(())
    }
}

/// The process that consumes, until it is told to end.
pub(crate) async fn consume(url: &str) -> Result<(), Failure> {
    let app = App::new(Broker::new(url)?).topology(topology());
    app.consume(Consume::queue("one"), || Saying).run_until_signal().await?;
    Ok(())
}

struct Consumer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Consumer {
    fn start(url: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--consume", url]).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    /// The next number that it handles.
    async fn next(&mut self) -> Result<usize, Failure> {
        let line = timeout(PATIENCE, self.lines.next_line()).await??;
        Ok(line.ok_or("the process has ended")?.parse()?)
    }
}

pub(crate) async fn measure() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let node = blocking(RabbitMq::start).await?;
    let vhost = node.fresh_vhost()?;
    let url = vhost.url().to_owned();
    let app = App::new(Broker::new(&url)?).topology(topology());
    let out = app.publisher::<String>(Route::queue("one").deadline(PATIENCE));
    let service = app.start().await?;
    service.ready().await?;
    let load = Load::begin(out);
    let mut active = Consumer::start(&url)?;
    let mut last = active.next().await?;
    let mut results = Vec::new();
    for (what, signal) in [
        ("single active consumer: process killed with SIGKILL", "-KILL"),
        ("single active consumer: process ended in order (SIGTERM)", "-TERM"),
    ] {
        let mut standby = Consumer::start(&url)?;
        // Until it is a consumer of the queue, there is nobody to hand over to.
        while vhost.queue_depths()?.get("one").is_none_or(|depth| depth.consumers < 2) {
            last = active.next().await?;
        }
        let pid = active.child.id().ok_or("it has ended")?.to_string();
        let told = Instant::now();
        Command::new("kill").args([signal, &pid]).status().await?;
        let first = standby.next().await?;
        results.push((what, told.elapsed()));
        while let Ok(number) = active.next().await {
            last = number;
        }
        if first > last + 1 {
            return Err(format!("order_broken or lost: {last} was the last, and then came {first}").into());
        }
        active = standby;
    }
    load.end().await?;
    service.shutdown().await?;
    Ok(results)
}
