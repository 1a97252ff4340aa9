//! `restart_on_failure`: a steady flow of messages, and one thing after another dies under it.
//!
//! 1. a handler actor panics;
//! 2. the broker closes a channel over a 404;
//! 3. a connection is cut;
//! 4. the broker is stopped, and started again.
//!
//! Each time you see the part of the supervision tree before and after, what ended and why, how long its supervisor waited
//! before the restart (exponential backoff with full jitter, so never the same twice), and what became of the
//! messages in flight. A hundred numbered messages a second run through it all, and in the end every single one is
//! accounted for.
//!
//! Run it: `cargo run -p examples --bin restart_on_failure`; with `-- --rabbitmq` a private RabbitMQ node is broken instead of
//! the broker inside this process; with `RUST_LOG=info` the log tells the same story.
//!
//! Try: `kill` instead of `stop` in scene 4. A second consumer of the same queue in another terminal. `Confirms::Off`
//! on the route: what is lost now?
//!
//! Next: `ARCHITECTURE.md`, which draws the whole tree, and `docs/DECISIONS.md`, which says why it is like this.

mod flow;
mod node;
mod watch;

use std::{sync::Arc, time::Duration};

use clap::Parser;
use examples::{check, messages::Tick, say, wrapped};
use fluffle::{Error, prelude::*};

use crate::{
    flow::{Counter, Flow},
    node::Node,
    watch::Watch,
};

/// Breaks a service, piece by piece, under a steady flow of messages, and counts them.
#[derive(Parser)]
struct Arguments {
    /// Break a private RabbitMQ node instead of the broker inside this process (rabbitmq-server must be installed).
    #[arg(long)]
    rabbitmq: bool,
}

/// How long the broker stays away in the last scene.
const AWAY: Duration = Duration::from_secs(3);

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    // The narrative tells it all.
    examples::logging_from("off");
    let node = Node::start(arguments.rabbitmq)?;

    // An application would keep the default, waits of up to 10 s.
    let impatient = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2)).map_err(Error::other)?;
    let broker = node.client()?.name("lesson").reconnect(impatient);
    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("ticks").dead_letter()));
    // The deadline is how long a publish may take, outages included.
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
    say("A hundred messages a second are published, confirmed and handled. Now things begin to die.");

    scene("1. A handler panics", "Its supervisor makes a fresh actor; its sibling goes on with the work.");
    let watch = Watch::begin(&service, &flow, "app/handlers").await?;
    flow.panic_next.store(true, std::sync::atomic::Ordering::Relaxed);
    watch.end(1).await?;

    scene(
        "2. The broker closes a channel",
        "Another publisher publishes to an exchange that does not exist. The broker answers such a 404 by closing the \
         whole channel. The topology is declared again and the message tried once more; then it goes back to its sender.",
    );
    let watch = Watch::begin(&service, &flow, "app/publish").await?;
    let refused = astray.publish(Tick { number: 0 }).await;
    let heard = refused.as_ref().map_or_else(ToString::to_string, |_| "confirmed?".to_owned());
    println!("\n{}", wrapped(&format!("The sender hears: {heard}"), 2));
    check(refused.is_err(), "a message to nowhere was confirmed")?;
    // Its channel: once for each time the message was tried.
    watch.end(2).await?;

    outages(&service, &flow, &node).await?;

    let outcome = flow.finish(running).await;
    service.shutdown().await?;
    scene("The count", "Ids of messages, as published and as handled:");
    println!("{outcome}");
    check(outcome.is_whole(), "a message was lost")
}

/// What only the owner of a broker may do to it.
async fn outages(service: &Service, flow: &Flow, node: &Node) -> Result<(), Error> {
    scene(
        "3. A connection is cut",
        "The one that consumes; publishers have their own. What had been delivered and not acknowledged is the \
         broker's again, and comes once more.",
    );
    let watch = Watch::begin(service, flow, "app/consume").await?;
    node.close("lesson/consume-0").await?;
    watch.end(1).await?;

    scene("4. The broker is stopped, and started again", "Nothing connects, and everybody keeps trying.");
    let watch = Watch::begin(service, flow, "app").await?;
    node.stop().await?;
    tokio::time::sleep(AWAY).await;
    println!("\n  The broker has been away for {AWAY:?}; {} messages wait in the publisher:\n", flow.waiting());
    watch.draw();
    node.start_again().await?;
    // Both connections.
    watch.end(2).await
}

fn scene(title: &str, what: &str) {
    let line = "━".repeat(96_usize.saturating_sub(title.chars().count()));
    println!("\n━━ {title} {line}\n{}", wrapped(what, 0));
}
