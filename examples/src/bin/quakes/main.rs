//! `quakes`: a whole service that processes one week of the world's earthquakes.
//!
//! ```text
//!                quake.<class>.<network>                       ┌→ quakes.alerts  → Alerts ─→ alerts → siren → Siren
//! earthquakes.json → Quake (Protobuf) → exchange `quakes` ─────┼→ quakes.regions → Regions
//!                                       (topic)                └→ quakes.archive → Archive (NDJSON file)
//! ```
//!
//! It verifies itself: it counts every id that was published, confirmed and handled, and how often.
//!
//! Run it: `cargo run --release -p examples --bin quakes`, then with `-- --crash-every 50`. Handlers then panic, their
//! supervisors start fresh ones, the messages are delivered again, and the last line still says `lost=0 duplicates=0`.
//!
//! Watch it: `-- --status 127.0.0.1:9464 --pace 1m --keep-up 10m --crash-every 50`, and open http://127.0.0.1:9464/.
//!
//! Try: `--rate 300` with `RUST_LOG=info`; `--crash-every 5`; crashes without the `concurrency(1)` of the alerts. Why
//! are there duplicates now? See `Alerts` in `handlers.rs`.
//!
//! Next: `restart_on_failure`, in which connections and the broker fail, too.

mod handlers;
mod report;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{
    Progress, check,
    feed::{self, ALERT_FROM, class, routing_key},
    keep_up, say, status_page,
};
use fluffle::{Error, prelude::*};
use protos::usgs::{Alert, Quake};

use crate::{
    handlers::{Alerts, Archive, Desk, Ledger, Regions, Siren, sent_now},
    report::{Outcome, Report},
};

/// The classes of quakes that people feel. The alerts' queue gets these.
const FELT: [&str; 5] = ["light", "moderate", "strong", "major", "great"];

/// Sends one week of earthquakes through RabbitMQ, and counts the messages that arrive.
#[derive(Parser)]
struct Arguments {
    /// Handlers panic on every Nth message, at its first delivery.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    crash_every: Option<u64>,
    /// Quakes to publish per second; without it, as fast as possible.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Spreads the week over this time, so that there is something to watch; without it, as fast as possible.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "rate")]
    pace: Option<Duration>,
    /// Serves a live page of the service, with metrics and probes, at this address, for example 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS")]
    status: Option<String>,
    /// Keeps the service and its page up for this time after the week, or until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
    keep_up: Duration,
    /// File of the archive; without it, a new file in the temporary folder.
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
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

/// The counts of each handler. They are outside of the handler actors, because the fields of an actor are lost when it
/// crashes.
struct Desks {
    alerts: Desk,
    siren: Desk,
    regions: Desk,
    archive: Desk,
    ledger: Ledger,
}

impl Desks {
    fn new(crash_every: Option<u64>) -> Result<Self, Error> {
        let desk = || Desk::new(crash_every);
        Ok(Self { alerts: desk()?, siren: desk()?, regions: desk()?, archive: desk()?, ledger: Ledger::default() })
    }
}

/// Starts the service and waits until it is connected and consuming.
async fn start(
    broker: Broker,
    desks: &Desks,
    archive: &Path,
    status: Option<&str>,
) -> Result<(Service, Publisher<Quake>), Error> {
    let app = status_page(App::new(broker), status).topology(topology());
    let out = app.publisher::<Quake>(Route::exchange("quakes").key_by(routing_key).gzip(Gzip::on()));
    let alerts = app.publisher::<Alert>(Route::exchange("alerts"));
    let retry = Retry::exponential(5, Duration::from_millis(50), 2.0)?;
    // The deliberate crashes, every few milliseconds, must not cause the long delays of a crash loop.
    let backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(20)).map_err(Error::other)?;
    let consume = |queue| Consume::queue(queue).retry(retry.clone()).handler_backoff(backoff);

    // The factories make the handler actors, and fresh ones after crashes.
    let make_alerts = {
        let desk = desks.alerts.clone();
        move || Alerts { desk: desk.clone(), out: alerts.clone() }
    };
    let make_regions = {
        let (desk, ledger) = (desks.regions.clone(), desks.ledger.clone());
        move || Regions { desk: desk.clone(), ledger: ledger.clone() }
    };
    let make_archive = {
        let (desk, path) = (desks.archive.clone(), archive.to_owned());
        move || Archive { desk: desk.clone(), path: path.clone(), file: None }
    };
    let siren = desks.siren.clone();
    let service = app
        // One message at a time, so that a crash never interrupts another alert, and no alert is sent twice.
        .consume(consume("quakes.alerts").instances(2).concurrency(1), make_alerts)
        .consume(Consume::queue("siren").retry(retry.clone()).handler_backoff(backoff), move || Siren {
            desk: siren.clone(),
        })
        .consume(consume("quakes.regions"), make_regions)
        // Writing to a file blocks, so this handler gets its own thread.
        .consume(consume("quakes.archive").blocking(), make_archive)
        .start()
        .await?;
    service.ready().await?;
    Ok((service, out))
}

/// The ids of the published messages, and which of them each handler should receive.
#[derive(Default)]
struct Published {
    all: BTreeSet<String>,
    felt: BTreeSet<String>,
    strong: BTreeSet<String>,
    confirmed: usize,
}

/// `publish` would wait for each confirm in turn. `enqueue` waits only for room in the publisher's mailbox; its receipt
/// resolves with the confirm later.
async fn publish(out: &Publisher<Quake>, quakes: &[Quake], each: Option<Duration>) -> Result<Published, Error> {
    let mut pace = each.filter(|each| !each.is_zero()).map(tokio::time::interval);
    let mut receipts = Vec::with_capacity(quakes.len());
    for quake in quakes {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        receipts.push(out.enqueue_with(quake.clone(), sent_now()).await.map_err(Error::other)?);
    }
    let mut published = Published::default();
    for (quake, receipt) in quakes.iter().zip(receipts) {
        let id = receipt.id().to_owned();
        if receipt.confirmed().await.is_ok() {
            published.confirmed += 1;
        }
        if is_felt(quake) {
            published.felt.insert(id.clone());
        }
        if quake.magnitude() >= ALERT_FROM {
            published.strong.insert(id.clone());
        }
        published.all.insert(id);
    }
    Ok(published)
}

/// Whether the alerts' queue gets the quake.
fn is_felt(quake: &Quake) -> bool {
    FELT.contains(&class(quake))
}

fn bars(desks: &Desks, out: &Publisher<Quake>, quakes: &[Quake]) -> Progress {
    let felt = quakes.iter().filter(|quake| is_felt(quake)).count();
    let strong = quakes.iter().filter(|quake| quake.magnitude() >= ALERT_FROM).count();
    let mut progress = Progress::new();
    let out = out.clone();
    progress.bar("confirmed", quakes.len(), move || out.stats().confirmed);
    for (name, desk, total) in [
        ("regions", &desks.regions, quakes.len()),
        ("archive", &desks.archive, quakes.len()),
        ("alerts", &desks.alerts, felt),
        ("siren", &desks.siren, strong),
    ] {
        let seen = desk.seen.clone();
        progress.bar(name, total, move || seen.distinct() as u64);
    }
    progress
}

#[actix::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    // The deliberate crashes are counted below, so do not log each of them.
    examples::logging_from(if arguments.crash_every.is_some() { "error,lapin=off" } else { "warn,lapin=off" });
    let quakes = feed::read()?;
    let desks = Desks::new(arguments.crash_every)?;
    let own_file = || std::env::temp_dir().join(format!("quakes-{}.ndjson", std::process::id()));
    let archive = arguments.archive.unwrap_or_else(own_file);
    std::fs::write(&archive, "")?;
    let broker = Broker::from_env_or_embedded()?;
    let (service, out) = start(broker, &desks, &archive, arguments.status.as_deref()).await?;

    say(format!("One week of earthquakes, {} of them:", quakes.len()));
    let began = Instant::now();
    let mut progress = bars(&desks, &out, &quakes);
    let each = match (arguments.pace, arguments.rate) {
        (Some(pace), _) => Some(pace / u32::try_from(quakes.len()).unwrap_or(u32::MAX)),
        (None, rate) => rate.map(|rate| Duration::from_secs(1) / rate),
    };
    let published = publish(&out, &quakes, each).await?;
    let expected = [
        ("quakes.regions", &desks.regions, &published.all),
        ("quakes.archive", &desks.archive, &published.all),
        ("quakes.alerts", &desks.alerts, &published.felt),
        ("siren", &desks.siren, &published.strong),
    ];
    for (_, desk, ids) in expected {
        // Messages that do not come within a minute are counted as lost below.
        let _ = desk.seen.all_of(ids).await;
    }
    let took = began.elapsed();
    progress.finish();
    let tree = service.snapshot();
    keep_up(arguments.keep_up).await;
    service.shutdown().await?;

    let outcomes = expected.map(|(queue, desk, ids)| Outcome::new(queue, ids, desk, &tree));
    let report = Report { published: published.all.len(), confirmed: published.confirmed, outcomes, took };
    report.print(&quakes, &desks.ledger)?;
    let lines = std::fs::read_to_string(&archive)?.lines().count();
    println!("The archive, {}, has {lines} lines.", archive.display());
    println!("\n{report}");
    check(report.is_clean(), "something was lost, or handled twice")?;
    check(lines == desks.archive.seen.distinct(), "the archive's file has other lines than were handled")
}
