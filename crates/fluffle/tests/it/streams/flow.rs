//! Batches, order, drains, ids of handled messages and large streams: as for queues.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle::prelude::*;

use super::*;

#[actix::test]
async fn a_stream_of_100_000_messages_is_read_whole_in_order_with_no_more_in_hand_than_prefetch_and_a_chunk() {
    const MESSAGES: usize = 100_000;
    const PREFETCH: u16 = 200;
    /// More than the broker writes as one chunk.
    const CHUNK: usize = 5_000;
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..MESSAGES)).await;
    let store = Offsets::in_memory().unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let reader = StreamReader::new("r", store.clone());
    let service = started(reading(&vhost, events(reader).prefetch(PREFETCH), factory)).await;
    let mut most = 0;
    for number in 0..MESSAGES {
        assert_eq!(next(&mut record).await.text, number.to_string());
        most = most.max(service.status().consumers[0].in_hand);
    }
    assert!(most <= usize::from(PREFETCH) + CHUNK, "{most} in hand");
    until("all is kept", || status(&service).kept == Some(MESSAGES as u64)).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_slow_message_holds_up_the_stream_when_the_prefetch_is_delivered_behind_it() {
    let vhost = vhost();
    let store = Offsets::in_memory().unwrap();
    let go = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "0" { Act::Wait(Arc::clone(&told)) } else { Act::Ok });
    let service = started(reading(&vhost, events(reader(&store)).prefetch(5), factory)).await;
    let (_publishing, out) = stream_of(&vhost, []).await;
    // One by one, so that each is a chunk of its own and the broker delivers no more than the prefetch.
    for text in numbers(0..50) {
        soon("published", out.publish(text)).await.unwrap();
    }
    assert_eq!(texts(&mut record, 5).await, numbers(0..5).collect::<Vec<_>>());
    until("the four behind it are done", || service.status().consumers[0].in_hand == 1).await;
    // Of a queue, the four would be acked by themselves after 100 ms, and more would come.
    assert!(
        tokio::time::timeout(Duration::from_millis(500), record.recv()).await.is_err(),
        "nothing more is delivered"
    );
    go.notify_waiters();
    texts(&mut record, 45).await;
    until("all is kept", || status(&service).kept == Some(50)).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_is_one_offset_and_its_failed_messages_are_retried_alone() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::stream("events")));
    let batching = Batching::default().max_items(3).linger(Duration::from_secs(20));
    let out = app.publisher::<String>(Route::queue("events").batch(batching));
    let _publishing = started(app).await;
    publish_all(&out, ["a", "b", "c"].map(str::to_owned)).await;
    let (factory, mut record) =
        handlers(|seen| if seen.text == "b" && seen.attempt == 1 { Act::Err(Failure::retry("once")) } else { Act::Ok });
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    assert_eq!(texts(&mut record, 4).await, ["a", "b", "c", "b"]);
    until("it is kept", || status(&service).kept == Some(1)).await;
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err());
}

#[actix::test]
async fn with_several_instances_the_messages_of_a_key_stay_in_order() {
    let vhost = vhost();
    let all = (0..200).map(|number| format!("{}{number:03}", char::from(b'a' + (number % 5) as u8)));
    let (_publishing, _out) = stream_of(&vhost, all).await;
    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    let consume = events(reader(&store)).ordered_by(key).instances(3);
    let service = started(reading(&vhost, consume, factory)).await;
    let mut last = HashMap::<char, String>::new();
    for _ in 0..200 {
        let text = next(&mut record).await.text;
        let before = last.insert(key(&text), text.clone());
        assert!(before.is_none_or(|before| before < text), "{text}");
    }
    assert_eq!(last.len(), 5);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_shutdown_finishes_what_is_in_hand_and_leaves_the_rest_to_the_next_process() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..10)).await;
    let go = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "2" { Act::Wait(Arc::clone(&told)) } else { Act::Ok });
    let store = Offsets::in_memory().unwrap();
    let service = started(reading(&vhost, events(reader(&store)).concurrency(1), factory)).await;
    texts(&mut record, 3).await;
    let ending = actix::spawn({
        let service = service.clone();
        async move { service.shutdown().await }
    });
    until("it drains", || service.status().consumers[0].waiting == 0).await;
    go.notify_waiters();
    soon("the end", ending).await.unwrap().unwrap();
    assert_eq!(store.kept("events", "r").await.unwrap(), Some(3));
    assert!(record.try_recv().is_err(), "nothing is begun while it drains");
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(reading(&vhost, events(reader(&store)), factory)).await;
    assert_eq!(texts(&mut record, 7).await, numbers(3..10).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn with_effectively_once_a_message_that_was_published_twice_is_handled_once() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::stream("events")));
    let out = app.publisher::<String>(Route::queue("events"));
    let _publishing = started(app).await;
    for text in ["a", "a", "b"] {
        let options = MessageOptions::new().id(format!("id-{text}"));
        soon("published", out.publish_with(text.to_owned(), options)).await.unwrap();
    }
    let (factory, mut record) = handlers(|_| Act::Ok);
    let store = Offsets::in_memory().unwrap();
    let seen = Arc::new(SeenIds::options().in_memory().unwrap());
    let service = started(reading(&vhost, events(reader(&store)).effectively_once(seen), factory)).await;
    assert_eq!(texts(&mut record, 2).await, ["a", "b"]);
    until("all is kept", || status(&service).kept == Some(3)).await;
    assert_eq!(stats(&service).duplicates, 1);
    service.shutdown().await.unwrap();
    assert!(record.try_recv().is_err());
}

#[actix::test]
async fn two_readers_of_a_stream_have_offsets_of_their_own_and_each_sees_all() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..5)).await;
    let store = Offsets::in_memory().unwrap();
    let (one, mut first) = handlers(|_| Act::Ok);
    let (two, mut second) = handlers(|_| Act::Ok);
    let other = StreamReader::new("other", store.clone()).begin(StreamOffset::Offset(3));
    let app = reading(&vhost, events(reader(&store)), one).consume(events(other), two);
    let service = started(app).await;
    assert_eq!(texts(&mut first, 5).await, ["0", "1", "2", "3", "4"]);
    assert_eq!(texts(&mut second, 2).await, ["3", "4"]);
    service.shutdown().await.unwrap();
    assert_eq!(store.kept("events", "r").await.unwrap(), Some(5));
    assert_eq!(store.kept("events", "other").await.unwrap(), Some(5));
}

#[actix::test]
async fn handlers_that_take_too_long_fail_their_message_and_the_stream_goes_on() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..3)).await;
    let hung = Arc::new(AtomicUsize::new(0));
    let hangs = Arc::clone(&hung);
    let (factory, mut record) = handlers(move |seen| match seen.text == "1" && seen.attempt == 1 {
        true => {
            hangs.fetch_add(1, Ordering::SeqCst);
            Act::Hang
        }
        false => Act::Ok,
    });
    let store = Offsets::in_memory().unwrap();
    let consume = events(reader(&store)).handler_timeout(Duration::from_millis(200));
    let service = started(reading(&vhost, consume, factory)).await;
    let seen = Mutex::new(texts(&mut record, 4).await);
    assert_eq!(seen.lock().unwrap().iter().filter(|text| *text == "1").count(), 2);
    until("all is kept", || status(&service).kept == Some(3)).await;
    assert_eq!(hung.load(Ordering::SeqCst), 1);
    service.shutdown().await.unwrap();
}
