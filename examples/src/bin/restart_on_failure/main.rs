//! `restart_on_failure`: one part after another fails during a steady flow of messages.
//!
//! 1. a handler actor panics;
//! 2. the broker closes a channel over a 404;
//! 3. a connection is cut;
//! 4. the broker is stopped, and started again.
//!
//! For each failure, the example shows the affected part of the supervision tree before and after, which parts ended
//! and why, how long their supervisor waited before the restart (exponential backoff with full jitter, so the delays
//! differ each time), and what happened to the messages in flight. A hundred numbered messages a second are published
//! throughout, and at the end every one is checked.
//!
//! Run it: `cargo run -p examples --bin restart_on_failure`. With `-- --rabbitmq`, it breaks a private RabbitMQ node
//! instead of the embedded broker. With `RUST_LOG=info`, the log shows the same events.
//!
//! Watch it: `-- --status 127.0.0.1:9464 --keep-up 10m`, and open http://127.0.0.1:9464/.
//!
//! Try: `kill` instead of `stop` in scene 4; a second consumer of the same queue in another terminal; `Confirms::Off`
//! on the route, and see what is lost.
//!
//! Next: `ARCHITECTURE.md`, which draws the whole tree, and `docs/DECISIONS.md`, which says why it is like this.

mod flow;
mod node;
mod watch;

use std::{sync::Arc, time::Duration};

use clap::Parser;
use examples::{check, keep_up, messages::Tick, say, status_page, wrapped};
use fluffle::{Error, prelude::*};

use crate::{
    flow::{Counter, Flow},
    node::Node,
    watch::Watch,
};

/// Breaks a service part by part during a steady flow of messages, and counts them.
#[derive(Parser)]
struct Arguments {
    /// Break a private RabbitMQ node instead of the embedded broker (rabbitmq-server must be installed).
    #[arg(long)]
    rabbitmq: bool,
    /// Serves a live page of the service, with metrics and probes, at this address, for example 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS")]
    status: Option<String>,
    /// Keeps the service, its messages and its page up for this time after the last scene, or until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
    keep_up: Duration,
}

/// How long the broker stays away in the last scene.
const AWAY: Duration = Duration::from_secs(3);

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    // The output already shows everything that the log would.
    examples::logging_from("off");
    let node = Node::start(arguments.rabbitmq)?;

    // Short delays, for the example only. An application would keep the default of up to 10 s.
    let impatient = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2)).map_err(Error::other)?;
    let broker = node.client()?.name("lesson").reconnect(impatient);
    let app = status_page(App::new(broker), arguments.status.as_deref())
        .topology(Topology::new().queue(Queue::quorum("ticks").dead_letter()));
    // The deadline must be longer than the outages, because it includes them.
    let out = app.publisher::<Tick>(Route::queue("ticks").deadline(Duration::from_secs(120)));
    let astray = app.publisher::<Tick>(Route::exchange("nowhere"));
    let flow = Flow::new(out);
    let (seen, panic_next) = (flow.seen.clone(), Arc::clone(&flow.panic_next));
    let redelivered = Arc::clone(&flow.redelivered);
    let retry = Retry::exponential(5, Duration::from_millis(200), 2.0)?;
    let service = app
        .consume(Consume::queue("ticks").instances(2).retry(retry), move || Counter {
            seen: seen.clone(),
            redelivered: Arc::clone(&redelivered),
            panic_next: Arc::clone(&panic_next),
        })
        .start()
        .await?;
    service.ready().await?;
    let running = flow.run();
    say("A hundred messages a second are published, confirmed and handled. Now one part after another fails.");

    scene("1. A handler panics", "Its supervisor starts a fresh actor. The other handler goes on with the work.");
    let watch = Watch::begin(&service, &flow, "app/handlers").await?;
    flow.panic_next.store(true, std::sync::atomic::Ordering::Relaxed);
    watch.end(1).await?;

    scene(
        "2. The broker closes a channel",
        "Another publisher publishes to an exchange that does not exist. The broker answers such a 404 by closing the \
         whole channel. The topology is declared again, and the message is tried once more. Then it goes back to its \
         sender.",
    );
    let watch = Watch::begin(&service, &flow, "app/publish").await?;
    let refused = astray.publish(Tick { number: 0 }).await;
    let heard = refused.as_ref().map_or_else(ToString::to_string, |_| "confirmed?".to_owned());
    println!("\n{}", wrapped(&format!("The sender gets: {heard}"), 2));
    check(refused.is_err(), "a message to nowhere was confirmed")?;
    // The channel ends once for each of the two tries.
    watch.end(2).await?;

    outages(&service, &flow, &node).await?;

    keep_up(arguments.keep_up).await;
    let outcome = flow.finish(running).await;
    service.shutdown().await?;
    scene("The count", "Ids of messages, as published and as handled:");
    println!("{outcome}");
    check(outcome.is_whole(), "a message was lost")
}

/// The failures that only the owner of a broker can cause.
async fn outages(service: &Service, flow: &Flow, node: &Node) -> Result<(), Error> {
    scene(
        "3. A connection is cut",
        "It is the connection that consumes; publishers have another. The broker delivers unacknowledged messages \
         again.",
    );
    let watch = Watch::begin(service, flow, "app/consume").await?;
    node.close("lesson/consume-0").await?;
    watch.end(1).await?;

    scene("4. The broker is stopped, and started again", "No connection succeeds, and every part keeps trying.");
    let watch = Watch::begin(service, flow, "app").await?;
    node.stop().await?;
    tokio::time::sleep(AWAY).await;
    println!("\n  The broker has been away for {AWAY:?}; {} messages wait in the publisher:\n", flow.waiting());
    watch.draw();
    node.start_again().await?;
    // Both connections end.
    watch.end(2).await
}

fn scene(title: &str, what: &str) {
    let line = "━".repeat(96_usize.saturating_sub(title.chars().count()));
    println!("\n━━ {title} {line}\n{}", wrapped(what, 0));
}
