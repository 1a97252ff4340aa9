//! Lesson 11: a stream is read, the reader is stopped in the middle, and a new one goes on where it was.
//!
//! A queue forgets a message when it is acknowledged. A *stream* keeps all messages, for as long as its retention says,
//! and any number of readers read it, each in its own time. So a reader must remember how far it is. Its *offset* is
//! kept in a store: here a file, written after the work. A reader that is started again, after a deploy or a crash,
//! begins there.
//!
//! Failed messages are not written back into the stream. They wait for their next attempt in the queue
//! `quakes.magnitudes`, which the same handlers read.
//!
//! Run it: `cargo run -p examples --bin 11_stream_reader`
//!
//! Try: another name for the second reader, and see where it begins; `.begin(StreamOffset::Next)`; a failure for one
//! earthquake in a hundred.
//!
//! Next: `12_settings`, with what operators may change.

use std::{path::Path, time::Duration};

use examples::{Seen, check, feed, say};
use fluffle::{Error, prelude::*};
use protos::usgs::Quake;

/// How many earthquakes the first reader is let to read before it is stopped.
const FIRST: usize = 500;

struct Magnitudes(Seen);

impl Actor for Magnitudes {
    type Context = Context<Self>;
}

impl Handler<Delivery<Quake>> for Magnitudes {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        let seen = self.0.clone();
        Box::pin(async move {
            // The work, which takes its time.
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.note(&quake);
            Ok(())
        })
    }
}

/// A service that declares the stream, and the description of it.
fn stream(broker: &Broker) -> App {
    let quakes = Queue::stream("quakes").max_age(Duration::from_secs(3600)).max_bytes(100_000_000);
    App::new(broker.clone()).topology(Topology::new().queue(quakes))
}

/// Reads until `enough` earthquakes are counted, and stops then. Returns the offset that is kept. Each reader opens the
/// file of offsets itself, as a process that is started again does.
async fn read(broker: &Broker, offsets: &Path, seen: &Seen, enough: usize) -> Result<u64, Error> {
    let offsets = Offsets::open(offsets).map_err(Error::other)?;
    let reader = StreamReader::new("magnitudes", offsets.clone()).begin(StreamOffset::First);
    let counted = seen.clone();
    let consume = Consume::<Quake>::queue("quakes").stream(reader).prefetch(20);
    let service = stream(broker).consume(consume, move || Magnitudes(counted.clone())).start().await?;
    let counted = seen.count(enough).await;
    service.shutdown().await?; // finishes what is in hand, and keeps the offset
    counted?;
    let kept = offsets.kept("quakes", "magnitudes").await.map_err(Error::other)?;
    offsets.close().await.map_err(Error::other)?;
    Ok(kept.unwrap_or(0))
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;
    let week = feed::read()?;
    let publishing = stream(&broker);
    let out = publishing.publisher::<Quake>(Route::queue("quakes"));
    let publishing = publishing.start().await?;
    let mut receipts = Vec::new();
    for quake in &week {
        receipts.push(out.enqueue(quake.clone()).await?);
    }
    for receipt in receipts {
        receipt.confirmed().await?;
    }
    publishing.shutdown().await?;

    let folder = tempfile::tempdir()?;
    let offsets = folder.path().join("magnitudes.offsets");
    let seen = Seen::new();
    let stopped = read(&broker, &offsets, &seen, FIRST).await?;
    let first = seen.distinct();
    println!("  the first reader was stopped after {first} earthquakes; offset {stopped} is kept");
    let end = read(&broker, &offsets, &seen, week.len()).await?;
    println!("  the second one went on there, and is at offset {end}");

    let (second, repeats) = (seen.distinct() - first, seen.repeats());
    check(first < week.len(), "the first reader was stopped in the middle")?;
    check(repeats == 0, format!("{repeats} earthquakes were handled twice"))?;
    say(format!("11_stream_reader: published={} first={first} second={second} repeats={repeats}", week.len()));
    Ok(())
}
