//! Readers of streams: where they begin, what they keep, and what becomes of messages that fail.

mod failures;
mod flow;
mod offsets;
mod process_deaths;
mod retention;
mod settings;
mod stores;

use fluffle::{amqp::StreamStatus, prelude::*};

use crate::support::*;

/// A stream `events` with these messages, and a publisher that goes on with it.
async fn stream_of(place: &Place, texts: impl IntoIterator<Item = String>) -> (Service, Publisher<String>) {
    let app = App::new(broker(place.url())).topology(Topology::new().queue(Queue::stream("events")));
    let out = app.publisher::<String>(Route::queue("events"));
    let service = started(app).await;
    publish_all(&out, texts).await;
    (service, out)
}

async fn publish_all(out: &Publisher<String>, texts: impl IntoIterator<Item = String>) {
    let mut receipts = Vec::new();
    for text in texts {
        receipts.push(out.enqueue(text).await.expect("accepted"));
    }
    for receipt in receipts {
        soon("published", receipt.confirmed()).await.expect("confirmed");
    }
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

/// A reader named `r`, which keeps each offset.
fn reader(store: &Offsets) -> StreamReader {
    StreamReader::new("r", store.clone()).keep_every(1)
}

/// An app that reads `events`.
fn reading(place: &Place, consume: Consume<String>, factory: impl Fn() -> Scripted + Send + Sync + 'static) -> App {
    let topology = Topology::new().queue(Queue::stream("events"));
    App::new(broker(place.url())).topology(topology).consume(consume, factory)
}

fn events(reader: StreamReader) -> Consume<String> {
    Consume::queue("events").stream(reader).retry(retry(3))
}

/// The texts of the next deliveries.
async fn texts(record: &mut Record, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(next(record).await.text);
    }
    texts
}

fn status(service: &Service) -> StreamStatus {
    service.status().consumers.into_iter().find_map(|consumer| consumer.stream).expect("a reader")
}
