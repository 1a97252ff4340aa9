//! Settings that do not go with a stream, and those that do.

use fluffle::prelude::*;

use super::*;
use crate::traps::tap::{BASIC_ACK, Tap};

#[actix::test]
async fn what_does_not_go_with_a_stream_is_refused_and_the_error_says_why() {
    let vhost = vhost();
    let store = Offsets::in_memory().unwrap();
    let of = || events(reader(&store));
    for (consume, words) in [
        (Consume::queue("events"), ["StreamReader", "offset"]),
        (of().guarantee(AtMostOnce), ["AtMostOnce", "guarantee"]),
        (of().lanes(2), ["lanes", "instances"]),
        (of().exclusive(), ["exclusive", "readers"]),
        (of().priority(3), ["priority", "readers"]),
        (Consume::queue("events").stream(StreamReader::new("", store.clone())), ["empty name", "StreamReader::new"]),
    ] {
        let (factory, _record) = handlers(|_| Act::Ok);
        let error = contradiction(reading(&vhost, consume, factory)).await;
        for word in words {
            assert!(error.contains("events") && error.contains(word), "{word}: {error}");
        }
    }
    let (factory, _record) = handlers(|_| Act::Ok);
    let app = app_with_q(vhost.url()).consume(Consume::<String>::queue("q").stream(reader(&store)), factory);
    assert!(contradiction(app).await.contains("Queue::stream"));
}

#[actix::test]
async fn a_reader_may_not_have_the_name_of_another_in_its_service() {
    let vhost = vhost();
    let store = Offsets::in_memory().unwrap();
    let (one, _record) = handlers(|_| Act::Ok);
    let (two, _record) = handlers(|_| Act::Ok);
    let app = reading(&vhost, events(reader(&store)), one).consume(events(reader(&store)), two);
    let error = app.start().await.err().expect("it is refused").to_string();
    assert!(error.contains("events.r") && error.contains("another name"), "{error}");
}

#[actix::test]
async fn a_queue_of_others_that_is_no_stream_ends_the_service_with_a_line_that_says_so() {
    let vhost = vhost();
    let raw = Raw::connect(vhost.url()).await;
    raw.channel().queue_declare("events".into(), Default::default(), Default::default()).await.unwrap();
    raw.put("events", b"x", Default::default()).await;
    let store = Offsets::in_memory().unwrap();
    let (factory, _record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url())).consume(events(reader(&store)), factory);
    let service = app.start().await.unwrap();
    let end = soon("the end", service.wait()).await.unwrap_err().to_string();
    assert!(end.contains("`events`") && end.contains("reads streams only"), "{end}");
    assert_eq!(raw.ready("events").await, 1, "the message is left where it was");
}

#[actix::test]
async fn a_paused_reader_goes_on_where_it_stopped() {
    let vhost = vhost();
    let (_publishing, out) = stream_of(&vhost, numbers(0..5)).await;
    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    texts(&mut record, 5).await;
    soon("paused", service.pause_consumer("events.r")).await.unwrap();
    publish_all(&out, numbers(5..8)).await;
    assert_eq!(store.kept("events", "r").await.unwrap(), Some(5));
    assert!(record.try_recv().is_err());
    assert!(service.resume_consumer("events.r").unwrap());
    assert_eq!(texts(&mut record, 3).await, ["5", "6", "7"]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_open_breaker_stops_a_reader_and_nothing_is_left_out() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..30)).await;
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(6));
    let (factory, mut record) = handlers(move |_| {
        let left =
            failing.fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() { Act::Err(Failure::retry("down")) } else { Act::Ok }
    });
    let store = Offsets::in_memory().unwrap();
    let breaker = CircuitBreaker::new("downstream").window(Window::last(4)).open_for(fast());
    let consume = events(reader(&store)).circuit_breaker(breaker).prefetch(4).retry(retry(10));
    let service = started(reading(&vhost, consume, factory)).await;
    let mut handled = std::collections::BTreeSet::new();
    let all = async {
        while handled.len() < 30 || record.try_recv().is_ok() {
            handled.insert(next(&mut record).await.text);
            if status(&service).kept == Some(30) {
                break;
            }
        }
    };
    soon("all are handled", all).await;
    until("all is kept", || status(&service).kept == Some(30)).await;
    service.shutdown().await.unwrap();
}

/// Changes the settings of a reader.
type Set = fn(StreamReader) -> StreamReader;

#[actix::test]
async fn a_filter_brings_the_messages_with_its_values_and_the_broker_leaves_out_chunks_without() {
    let vhost = vhost();
    let (publishing, out) = stream_of(&vhost, []).await;
    let (said, version) = version(&publishing);
    if version < (3, 13) {
        eprintln!("skipped: {said} has no filters");
        return;
    }
    // A message that is confirmed before the next one is published is a chunk of its own.
    let cities = || (0..30).map(|number| if number % 10 == 4 { "berlin" } else { "rome" }).chain(["", "berlin"]);
    for city in cities() {
        let valued = MessageOptions::new().header("x-stream-filter-value", city);
        let options = if city.is_empty() { MessageOptions::new() } else { valued };
        soon("published", out.publish_with(city.to_owned(), options)).await.unwrap();
    }
    let readers: [(Set, &[&str], std::ops::Range<u64>); 3] = [
        (|reader| reader.filter(["berlin"]), &["berlin"], 4..10),
        (|reader| reader.filter(["berlin"]).also_unfiltered(), &["berlin", ""], 5..10),
        (|reader| reader, &["berlin", "", "rome"], 32..33),
    ];
    for (set, wanted, delivered) in readers {
        let store = Offsets::in_memory().unwrap();
        let (factory, mut record) = handlers(|_| Act::Ok);
        let tap = Tap::before(vhost.port());
        let app = App::new(broker(&tap.url(vhost.url(), vhost.port())));
        let app = app.topology(Topology::new().queue(Queue::stream("events")));
        let service = started(app.consume(events(set(reader(&store))), factory)).await;
        until("all is read", || status(&service).kept == Some(32)).await;
        service.shutdown().await.unwrap();
        let mut seen = Vec::new();
        while let Ok(one) = record.try_recv() {
            seen.push(one.text);
        }
        assert_eq!(seen, cities().filter(|city| wanted.contains(city)).collect::<Vec<_>>());
        // The reader would leave out the others too. An ack says how many messages the broker has delivered.
        let tags = tap.all(BASIC_ACK).into_iter().map(|ack| u64::from_be_bytes(ack.arguments[..8].try_into().unwrap()));
        let last = tags.max().unwrap_or(0);
        assert!(delivered.contains(&last), "{last} were delivered, of {wanted:?}");
    }
}

#[actix::test]
async fn a_filter_on_a_broker_without_filters_ends_the_service_with_a_line_that_names_the_version() {
    let vhost = vhost();
    let (publishing, _out) = stream_of(&vhost, []).await;
    let (broker, version) = version(&publishing);
    let store = Offsets::in_memory().unwrap();
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = reading(&vhost, events(reader(&store).filter(["berlin"])), factory).start().await.unwrap();
    if version >= (3, 13) {
        return soon("ready", service.ready()).await.expect("the broker has filters");
    }
    let end = soon("the end", service.wait()).await.unwrap_err().to_string();
    assert!(end.contains("3.13") && end.contains(&broker) && end.contains("events.r"), "{end}");
}
