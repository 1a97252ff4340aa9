//! Where a reader begins, and that it goes on where it stopped.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fluffle::prelude::*;

use super::*;

#[actix::test]
async fn a_restarted_reader_goes_on_behind_the_last_message_that_is_done() {
    let vhost = vhost();
    let (_publishing, out) = stream_of(&vhost, numbers(0..10)).await;
    let store = Offsets::in_memory().unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    assert_eq!(texts(&mut record, 10).await, numbers(0..10).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
    assert_eq!(store.kept("events", "r").await.unwrap(), Some(10), "a shutdown keeps what is done");

    publish_all(&out, numbers(10..15)).await;
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    assert_eq!(texts(&mut record, 5).await, numbers(10..15).collect::<Vec<_>>());
    until("all is kept", || status(&service).kept == Some(15)).await;
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err(), "nothing is handled twice");
}

#[actix::test]
async fn a_cut_connection_repeats_only_what_is_not_done() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..20)).await;
    let (first, go) = (Arc::new(Mutex::new(true)), Arc::new(tokio::sync::Notify::new()));
    let told = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| {
        let is_first = seen.text == "3" && std::mem::take(&mut *first.lock().unwrap());
        if is_first { Act::Wait(Arc::clone(&told)) } else { Act::Ok }
    });
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    assert_eq!(texts(&mut record, 20).await.len(), 20);
    until("all before 3 is kept", || status(&service).kept == Some(3)).await;
    assert_eq!(store.kept("events", "r").await.unwrap(), Some(3));
    vhost.close_connections("a test cuts the connection");
    let again = next(&mut record).await;
    assert_eq!((&*again.text, again.attempt), ("3", 1));
    until("all is done", || status(&service).kept == Some(20)).await;
    go.notify_waiters();
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err(), "what was done behind it is not handled again");
}

#[actix::test]
async fn work_that_ends_after_its_channel_was_lost_counts() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..1)).await;
    let go = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go);
    let (factory, mut record) = handlers(move |_| Act::Wait(Arc::clone(&told)));
    let store = Offsets::in_memory().unwrap();
    // One at a time: the message that is delivered again waits for the handler that has it.
    let service = started(reading(&vhost, events(reader(&store)).concurrency(1), factory)).await;
    next(&mut record).await;
    vhost.close_connections("a test cuts the connection");
    until("connected again", || service.connections().iter().all(|one| one.connects == 2)).await;
    soon("ready again", service.ready()).await.unwrap();
    go.notify_waiters();
    until("it is done", || status(&service).kept == Some(1)).await;
    go.notify_waiters();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_reader_without_an_offset_begins_where_it_is_told_to() {
    let vhost = vhost();
    let (_publishing, out) = stream_of(&vhost, numbers(0..10)).await;
    let before = SystemTime::now() - Duration::from_secs(3600);
    for (begin, expected) in [
        (StreamOffset::First, "0"),
        (StreamOffset::Offset(4), "4"),
        (StreamOffset::Timestamp(before), "0"),
        (StreamOffset::Interval(Duration::from_secs(3600)), "0"),
    ] {
        let (factory, mut record) = handlers(|_| Act::Ok);
        let store = Offsets::in_memory().unwrap();
        let service = started(reading(&vhost, events(reader(&store).begin(begin)), factory)).await;
        assert_eq!(next(&mut record).await.text, expected, "{begin:?}");
        service.shutdown().await.unwrap();
    }
    for begin in [StreamOffset::Next, StreamOffset::Last] {
        let (factory, mut record) = handlers(|_| Act::Ok);
        let store = Offsets::in_memory().unwrap();
        let service = started(reading(&vhost, events(reader(&store).begin(begin)), factory)).await;
        let new = format!("new for {begin:?}");
        publish_all(&out, [new.clone()]).await;
        let first: usize = loop {
            let text = next(&mut record).await.text;
            if text == new {
                break record.len();
            }
            assert_eq!(begin, StreamOffset::Last, "{text} is older than the reader");
        };
        assert_eq!(first, 0);
        service.shutdown().await.unwrap();
    }
}

/// The time, as a broker is asked for it.
fn whole_second(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
}

#[actix::test]
async fn a_reader_begins_in_the_middle_of_a_stream_by_the_time_of_its_chunks() {
    let vhost = vhost();
    let (_publishing, out) = stream_of(&vhost, numbers(0..5)).await;
    let (written, second) = (SystemTime::now(), Duration::from_secs(1));
    until("a second behind the first chunks", || whole_second(SystemTime::now() - second) > written).await;
    let between = whole_second(SystemTime::now());
    // Begun before there are later messages, so that it does not matter how long its start takes.
    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    let begin = StreamOffset::Interval(second);
    let service = started(reading(&vhost, events(reader(&store).begin(begin)), factory)).await;
    publish_all(&out, numbers(5..10)).await;
    assert_eq!(texts(&mut record, 5).await, numbers(5..10).collect::<Vec<_>>());
    service.shutdown().await.unwrap();

    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    let begin = StreamOffset::Timestamp(between);
    let service = started(reading(&vhost, events(reader(&store).begin(begin)), factory)).await;
    assert_eq!(texts(&mut record, 5).await, numbers(5..10).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_reader_of_what_is_next_misses_nothing_of_an_outage_before_its_first_message() {
    let vhost = vhost();
    let (publishing, _out) = stream_of(&vhost, numbers(0..1)).await;
    publishing.shutdown().await.unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    // The reader is away for a second, and the message is published meanwhile.
    let second = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(1)).unwrap();
    let broker = Broker::new(vhost.url()).unwrap().reconnect(second);
    let consume = events(reader(&store).begin(StreamOffset::Next));
    let topology = Topology::new().queue(Queue::stream("events"));
    let service = started(App::new(broker).topology(topology).consume(consume, factory)).await;
    vhost.close_connections("a test cuts the connection");
    until("the reader is away", || !service.connections()[1].connected).await;
    let raw = Raw::connect(vhost.url()).await;
    raw.channel().confirm_select(Default::default()).await.unwrap();
    let options = lapin::options::BasicPublishOptions::default();
    let (body, properties) = encoded("new");
    let publish = raw.channel().basic_publish("".into(), "events".into(), options, &body, properties);
    publish.await.unwrap().await.unwrap();
    assert!(service.connections().iter().all(|one| one.connects == 1), "the reader is still away");
    while next(&mut record).await.text != "new" {}
    service.shutdown().await.unwrap();
}
