//! `quakes`, the flagship: one week of the world's earthquakes through a whole service.
//!
//! ```text
//!                      quake.<class>.<network>                       ┌→ quakes.alerts  → Alerts ─→ alerts → siren → Siren
//! earthquakes.json → Quake (Protobuf, gzip) → exchange `quakes` ─────┼→ quakes.regions → Regions
//!                                             (topic)                └→ quakes.archive → Archive (NDJSON file)
//! ```
//!
//! It counts what it claims: every id that was published, confirmed and handled, and how often.
//!
//! Run it: `cargo run --release -p examples --bin quakes`, then with `-- --crash-every 50`: handlers panic, their
//! supervisors start fresh ones, the messages come back, and the last line still says `lost=0 duplicates=0`.
//!
//! Try: `--rate 300` with `RUST_LOG=info`. `--crash-every 5`. Take `concurrency(1)` away from the alerts, and crash: why are
//! there duplicates now? (A crash takes down what else the actor had begun; see `Alerts` in `handlers.rs`.)
//!
//! Next: `restart_on_failure`, where connections and the broker die too.

mod feed;
mod handlers;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{Progress, check, say};
use fluffle::{Error, prelude::*};
use protos::usgs::{Alert, Quake};

use crate::{
    feed::{ALERT_FROM, class, routing_key},
    handlers::{Alerts, Archive, Desk, Ledger, Regions, Siren, sent_now},
    report::{Outcome, Report},
};

/// Replays one week of earthquakes through RabbitMQ and counts what arrives.
#[derive(Parser)]
struct Arguments {
    /// Handlers panic when they first see every Nth message.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    crash_every: Option<u64>,
    /// Quakes to publish per second; as fast as it goes if not given.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Where the archive is written.
    #[arg(long, value_name = "FILE", default_value_os_t = std::env::temp_dir().join("quakes.ndjson"))]
    archive: PathBuf,
}

fn topology() -> Topology {
    let felt = ["light", "moderate", "strong", "major", "great"];
    let alerts = felt
        .iter()
        .fold(Queue::quorum("quakes.alerts"), |queue, class| queue.bind("quakes", format!("quake.{class}.#")));
    Topology::new()
        .exchange(Exchange::topic("quakes"))
        .exchange(Exchange::fanout("alerts"))
        .queue(alerts.dead_letter())
        .queue(Queue::quorum("quakes.regions").bind("quakes", "quake.#").dead_letter())
        .queue(Queue::quorum("quakes.archive").bind("quakes", "quake.#").dead_letter())
        .queue(Queue::quorum("siren").bind("alerts", "").dead_letter())
}

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    // Crashes on purpose are counted below, not told one by one.
    examples::logging_from(if arguments.crash_every.is_some() { "off" } else { "warn,lapin=off" });
    let quakes = feed::read()?;
    std::fs::write(&arguments.archive, "")?;
    let (broker, _node) = examples::broker()?;

    // All that must survive the crash of a handler lives outside of it: an actor's fields die with the actor.
    let mut desks: BTreeMap<&str, Desk> = BTreeMap::new();
    for queue in ["quakes.alerts", "siren", "quakes.regions", "quakes.archive"] {
        desks.insert(queue, Desk::new(arguments.crash_every)?);
    }
    let regions = Ledger::default();

    let app = App::new(broker).topology(topology());
    let out = app.publisher::<Quake>(Route::exchange("quakes").key_by(routing_key).gzip(Gzip::on()));
    let alerts = app.publisher::<Alert>(Route::exchange("alerts"));
    // A crash every few milliseconds is not a crash loop here: do not back off as if it were.
    let retry = Retry::exponential(5, Duration::from_millis(50), 2.0)?;
    let backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(20)).map_err(Error::other)?;
    let service = app
        .consume(
            // One at a time each: a crash then interrupts no half-done alert, and nobody is alarmed twice.
            Consume::queue("quakes.alerts").instances(2).concurrency(1).retry(retry.clone()).handler_backoff(backoff),
            {
                let desk = desks["quakes.alerts"].clone();
                move || Alerts { desk: desk.clone(), out: alerts.clone() }
            },
        )
        .consume(Consume::queue("siren").retry(retry.clone()).handler_backoff(backoff), {
            let desk = desks["siren"].clone();
            move || Siren { desk: desk.clone() }
        })
        .consume(Consume::queue("quakes.regions").retry(retry.clone()).handler_backoff(backoff), {
            let (desk, ledger) = (desks["quakes.regions"].clone(), regions.clone());
            move || Regions { desk: desk.clone(), ledger: ledger.clone() }
        })
        .consume(
            // Writing to a file blocks the thread: it gets one of its own.
            Consume::queue("quakes.archive").blocking().retry(retry).handler_backoff(backoff),
            {
                let (desk, path) = (desks["quakes.archive"].clone(), arguments.archive.clone());
                move || Archive { desk: desk.clone(), path: path.clone(), file: None }
            },
        )
        .start()
        .await?;
    service.ready().await?;

    say(format!("One week of earthquakes, {} of them:", quakes.len()));
    let began = Instant::now();
    let felt = quakes.iter().filter(|quake| !matches!(class(quake), "micro" | "minor")).count();
    let strong = quakes.iter().filter(|quake| quake.magnitude() >= ALERT_FROM).count();
    let (total, stats) = (quakes.len() as u64, out.clone());
    let mut progress = Progress::new();
    progress.bar("confirmed", total, move || stats.stats().confirmed);
    for (name, queue, total) in [
        ("regions", "quakes.regions", quakes.len()),
        ("archive", "quakes.archive", quakes.len()),
        ("alerts", "quakes.alerts", felt),
        ("siren", "siren", strong),
    ] {
        let seen = desks[queue].seen.clone();
        progress.bar(name, total as u64, move || seen.distinct() as u64);
    }

    // `publish` would wait for each confirm. `enqueue` waits for room in the mailbox only; the receipt tells of the confirm.
    let mut pace = arguments.rate.map(|rate| tokio::time::interval(Duration::from_secs(1) / rate as u32));
    let mut receipts = Vec::with_capacity(quakes.len());
    for quake in quakes.iter().cloned() {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let alarming = (class(&quake), quake.magnitude() >= ALERT_FROM);
        let receipt = out.enqueue_with(quake, sent_now()).await.map_err(Error::other)?;
        receipts.push((alarming, receipt));
    }
    let published = receipts.len();
    let (mut all, mut felt, mut strong) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut confirmed = 0;
    for ((class, is_strong), receipt) in receipts {
        let id = receipt.id().to_owned();
        confirmed += usize::from(receipt.confirmed().await.is_ok());
        if !matches!(class, "micro" | "minor") {
            felt.insert(id.clone());
        }
        if is_strong {
            strong.insert(id.clone());
        }
        all.insert(id);
    }
    let expected =
        [("quakes.regions", all.clone()), ("quakes.archive", all), ("quakes.alerts", felt), ("siren", strong)];
    for (queue, ids) in &expected {
        // What does not come within a minute is counted as lost below.
        let _ = desks[queue].seen.all_of(ids).await;
    }
    progress.finish();
    let took = began.elapsed();
    let tree = service.snapshot();
    service.shutdown().await?;

    let outcomes = expected.map(|(queue, ids)| Outcome::new(queue, &ids, &desks[queue], &tree));
    let report = Report { published, confirmed, outcomes, took };
    report.print(&quakes, &regions)?;
    let lines = std::fs::read_to_string(&arguments.archive)?.lines().count();
    println!("The archive, {}, has {lines} lines.", arguments.archive.display());
    println!("\n{report}");
    check(report.is_clean(), "something was lost, or handled twice")?;
    check(lines == desks["quakes.archive"].seen.distinct(), "the archive's file has other lines than were handled")
}
