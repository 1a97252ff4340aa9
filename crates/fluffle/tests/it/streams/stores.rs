//! Stores of offsets that are away, and what a crash repeats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle::{amqp::OffsetError, prelude::*};
use futures_util::future::BoxFuture;

use super::*;

/// A store that the test switches off, and that counts its writes.
#[derive(Clone)]
struct Switched {
    store: Offsets,
    is_away: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
}

impl Switched {
    fn new(is_away: bool) -> Self {
        let is_away = Arc::new(AtomicBool::new(is_away));
        Self { store: Offsets::in_memory().unwrap(), is_away, writes: Arc::default() }
    }

    fn switch(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn look(&self) -> Result<(), OffsetError> {
        if self.is_away.load(Ordering::SeqCst) { Err("the test has switched it off".into()) } else { Ok(()) }
    }
}

impl OffsetStore for Switched {
    fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>> {
        Box::pin(async move {
            self.look()?;
            Ok(self.store.kept(stream, reader).await?)
        })
    }

    fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>> {
        Box::pin(async move {
            self.look()?;
            self.writes.fetch_add(1, Ordering::SeqCst);
            Ok(self.store.keep(stream, reader, next).await?)
        })
    }
}

#[actix::test]
async fn a_store_that_is_away_at_the_start_is_waited_for() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..10)).await;
    let store = Switched::new(true);
    store.store.keep("events", "r", 4).await.unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    let consume = events(StreamReader::new("r", store.clone()));
    let service = reading(&vhost, consume, factory).start().await.unwrap();
    // The other consumer of the service, of the queue for retries, is ready.
    until("the rest runs", || service.connections().iter().all(|one| one.connected)).await;
    assert!(record.try_recv().is_err(), "without its offset a reader does not begin");
    store.switch(false);
    assert_eq!(next(&mut record).await.text, "4");
    soon("ready", service.ready()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn while_the_store_is_away_reading_stops_and_goes_on_when_it_is_back() {
    const MESSAGES: usize = 300;
    let vhost = vhost();
    let store = Switched::new(false);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let consume = events(StreamReader::new("r", store.clone()).keep_every(10)).prefetch(5);
    let service = started(reading(&vhost, consume, factory)).await;
    let (_publishing, out) = stream_of(&vhost, numbers(0..1)).await;
    texts(&mut record, 1).await;
    until("it is kept", || status(&service).kept == Some(1)).await;
    store.switch(true);
    // One by one, so that each is a chunk of its own and the broker delivers no more than the prefetch.
    for text in numbers(1..MESSAGES) {
        soon("published", out.publish(text)).await.unwrap();
    }
    until("reading has stopped", || status(&service).next >= Some(1 + 2 * 10)).await;
    let delivered = status(&service).delivered.unwrap();
    assert!(delivered <= 1 + 2 * 10 + 1 + 5, "{delivered}: a crash may repeat two groups and the prefetch, no more");
    assert_eq!(status(&service).kept, Some(1));
    store.switch(false);
    assert_eq!(texts(&mut record, MESSAGES - 1).await, numbers(1..MESSAGES).collect::<Vec<_>>());
    until("all is kept", || status(&service).kept == Some(MESSAGES as u64)).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn many_offsets_are_kept_with_few_writes() {
    const MESSAGES: usize = 5_000;
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..MESSAGES)).await;
    let store = Switched::new(false);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let reader = StreamReader::new("r", store.clone()).keep_every(1_000).keep_within(Duration::from_secs(30));
    let service = started(reading(&vhost, events(reader), factory)).await;
    texts(&mut record, MESSAGES).await;
    until("all but the last group is kept", || status(&service).kept >= Some(4_000)).await;
    service.shutdown().await.unwrap();
    let writes = store.writes.load(Ordering::SeqCst);
    assert!(writes <= 8, "{writes} writes: one at the beginning, one for each group, one at the end");
    assert_eq!(store.store.kept("events", "r").await.unwrap(), Some(MESSAGES as u64));
}

#[actix::test]
async fn a_done_offset_is_kept_in_time_though_its_group_is_not_full() {
    let vhost = vhost();
    let (_publishing, _out) = stream_of(&vhost, numbers(0..3)).await;
    let store = Switched::new(false);
    let (factory, mut record) = handlers(|_| Act::Ok);
    let reader = StreamReader::new("r", store.clone()).keep_every(1_000).keep_within(Duration::from_millis(50));
    let service = started(reading(&vhost, events(reader), factory)).await;
    texts(&mut record, 3).await;
    until("it is kept", || status(&service).kept == Some(3)).await;
    service.shutdown().await.unwrap();
}
