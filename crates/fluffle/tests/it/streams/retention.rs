//! Messages that retention has removed before the reader saw them.

use fluffle::{prelude::*, telemetry::Telemetry};

use super::*;
use crate::telemetry::value;

/// Small segments, of which the stream keeps about two.
fn short() -> Queue {
    Queue::stream("events").max_bytes(40_000).segment_bytes(20_000)
}

#[actix::test]
async fn a_reader_whose_offset_was_removed_goes_on_with_the_first_there_is_and_says_how_many_are_gone() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(short()));
    let out = app.publisher::<String>(Route::queue("events"));
    let _publishing = started(app).await;
    let store = Offsets::in_memory().unwrap();
    store.keep("events", "r", 2).await.unwrap();
    // One chunk each, because the broker deletes whole segments, and only when it begins a new one.
    for number in 0..300 {
        soon("published", out.publish(format!("{number} {}", "x".repeat(1_000)))).await.unwrap();
    }
    let (factory, mut record) = handlers(|_| Act::Ok);
    let topology = Topology::new().queue(short());
    let telemetry = Telemetry::new();
    let app = App::new(broker(vhost.url())).topology(topology).consume(events(reader(&store)), factory);
    let app = app.telemetry(&telemetry);
    let service = started(app).await;
    let first = next(&mut record).await.text;
    let first: u64 = first.split(' ').next().unwrap().parse().unwrap();
    assert!(first > 10, "the stream still has {first}");
    // RabbitMQ begins a segment with a record of its own, which has an offset too: about twenty messages fill one.
    let removed = stats(&service).offsets_removed;
    assert!(
        (first - 2..first - 2 + 300 / 10).contains(&removed),
        "{removed}: those from 2 on, and the first is {first}"
    );
    texts(&mut record, 300 - 1 - first as usize).await;
    until("the rest is kept", || status(&service).kept == status(&service).delivered).await;
    assert_eq!(stats(&service).offsets_removed, removed, "told once");
    let end = status(&service).delivered.unwrap() as f64;
    for offset in ["fluffle_stream_offset_next", "fluffle_stream_offset_delivered", "fluffle_stream_offset_kept"] {
        assert_eq!(value(&telemetry, offset, &["events.r"]), end, "{offset}");
    }
    assert_eq!(value(&telemetry, "fluffle_stream_offsets_removed_total", &["events.r"]), removed as f64);
    service.shutdown().await.unwrap();
}
