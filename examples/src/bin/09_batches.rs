//! Lesson 9: hundreds of thousands of small messages.
//!
//! A small message costs a broker about as much as a large one. With [`Route::batch`], a publisher therefore gathers
//! small messages into *envelopes* of up to 64 KiB, so that RabbitMQ carries one message instead of hundreds.
//! [`Gzip::auto`] compresses the envelopes while that makes them smaller.
//!
//! Nothing else changes. Each message has its own receipt, and its own result at the handler; if one fails, it is tried
//! again by itself. A handler of [`Delivery`] does not notice batches. A handler of [`DeliveryBatch`] receives all
//! messages of an envelope at once, for example for a transaction or a bulk insert.
//!
//! Run it: `cargo run --release -p examples --bin 09_batches`, and with `-- --messages 1000000` for a million each.
//!
//! Try: remove `.batch(…)`; remove `.gzip(…)`; let one earthquake in a thousand fail, and see which messages come
//! again.
//!
//! Next: `10_several_types`, with more than one type of message in a queue.

use std::{
    borrow::Borrow,
    collections::VecDeque,
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{check, feed, say, table};
use fluffle::{Error, prelude::*};
use protos::usgs::Quake;
use tokio::{sync::watch, time::timeout};

/// The most messages that are published and whose confirm was not awaited yet.
const UNCONFIRMED: usize = 50_000;
/// How long to wait for the last messages.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes a week of earthquakes, over and over, in envelopes.
#[derive(Parser)]
struct Arguments {
    /// Number of messages for each of the two handlers.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
}

/// The number of handled messages, and the sum of their times, as a checksum.
#[derive(Clone, Default)]
struct Tally(watch::Sender<(usize, i64)>);

impl Tally {
    fn add(&self, quakes: impl IntoIterator<Item = impl Borrow<Quake>>) {
        let seconds = |quake: &Quake| quake.event_time.map_or(0, |time| time.seconds);
        let (count, sum) =
            quakes.into_iter().fold((0, 0), |(count, sum), quake| (count + 1, sum + seconds(quake.borrow())));
        self.0.send_modify(|so_far| *so_far = (so_far.0 + count, so_far.1 + sum));
    }

    async fn reaches(&self, count: usize) -> bool {
        timeout(PATIENCE, self.0.subscribe().wait_for(|so_far| so_far.0 >= count)).await.is_ok()
    }
}

struct Statistician(Tally);

impl Actor for Statistician {
    type Context = Context<Self>;
}

/// Receives one message after the other, whether they come in envelopes or not.
impl Handler<Delivery<Quake>> for Statistician {
    type Result = Result<(), Failure>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        self.0.add([&*quake]);
        Ok(())
    }
}

/// Receives all messages of an envelope at once.
impl Handler<DeliveryBatch<Quake>> for Statistician {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, quakes: DeliveryBatch<Quake>, _: &mut Self::Context) -> Self::Result {
        // The framework dead-letters messages that cannot be decoded, so skip them here.
        self.0.add(quakes.iter().flatten());
        Ok(ItemFailures::none())
    }
}

/// Publishes, and awaits every confirm; the oldest first, while newer messages are on their way.
async fn publish(out: &Publisher<Quake>, quakes: impl Iterator<Item = &Quake>) -> Result<(), Error> {
    let mut receipts = VecDeque::new();
    for quake in quakes {
        receipts.push_back(out.enqueue(quake.clone()).await?);
        if receipts.len() > UNCONFIRMED
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.confirmed().await?;
        }
    }
    for receipt in receipts {
        receipt.confirmed().await?;
    }
    Ok(())
}

#[actix::main]
async fn main() -> Result<(), Error> {
    let Arguments { messages } = Arguments::parse();
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;
    let week = feed::read()?;

    let queues = [Queue::temporary("one-by-one"), Queue::temporary("at-once")];
    let names = queues.each_ref().map(|queue| queue.name().to_owned());
    let app = App::new(broker).topology(queues.into_iter().fold(Topology::new(), Topology::queue));
    let route = |queue: &String| Route::queue(queue).batch(Batching::default()).gzip(Gzip::auto());
    let outs = names.each_ref().map(|queue| app.publisher::<Quake>(route(queue)));
    let tallies: [Tally; 2] = Default::default();
    let [one_by_one, at_once] = tallies.clone();
    let service = app
        .consume(Consume::<Quake>::queue(&names[0]), move || Statistician(one_by_one.clone()))
        .consume_batches(Consume::<Quake>::queue(&names[1]), move || Statistician(at_once.clone()))
        .start()
        .await?;
    service.ready().await?;

    say(format!("{messages} earthquakes for each of two handlers:"));
    let quakes = || week.iter().cycle().take(messages);
    let mut rows = Vec::new();
    for (index, way) in ["one by one", "all at once"].into_iter().enumerate() {
        let began = Instant::now();
        publish(&outs[index], quakes()).await?;
        check(tallies[index].reaches(messages).await, "some earthquakes did not arrive")?;
        let rate = messages as f64 / began.elapsed().as_secs_f64();
        let envelopes = service.consumers()[index].1.received;
        rows.push(vec![way.to_owned(), messages.to_string(), envelopes.to_string(), format!("{rate:.0}")]);
    }
    service.shutdown().await?;

    say(table(&["given", "messages", "envelopes", "messages/s"], rows));
    let sent = Tally::default();
    sent.add(quakes());
    let handled = tallies.each_ref().map(|tally| *tally.0.borrow());
    let counts = handled.map(|(count, _)| count.to_string()).join("+");
    say(format!("09_batches: published={messages}+{messages} handled={counts}"));
    check(handled.iter().all(|handled| *handled == *sent.0.borrow()), "each handler gets each earthquake once")
}
