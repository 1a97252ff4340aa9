//! Open batches: who joins which, and when they are sent.

use std::{future::Future, pin::Pin};

use futures_util::future::join_all;

use super::*;
use crate::publish::send_queue::SendSettings;

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Claim, PublishErrorKind>> + 'a>>;

/// A message that has no trace, on its way into a batch.
fn joining<'a>(message: &'a String, key: &'a str) -> Joining<'a, String> {
    Joining { message, key, trace: None, cause: None }
}

fn batcher(terms: Batching, mailbox: usize) -> (Arc<Batcher<String>>, Arc<SendQueue>) {
    let batcher = Arc::new(Batcher::new(&Route::<String>::exchange("x"), terms));
    let send_queue = SendQueue::with(SendSettings {
        name: "test".to_owned(),
        mailbox,
        window: 10,
        confirm_limit: Duration::from_secs(1),
        bytes: 1 << 26,
        journal: None,
        batches: Some(Arc::clone(&batcher) as Arc<dyn OpenBatches>),
        republish: crate::publish::passing::Republish::default(),
    });
    (batcher, send_queue)
}

fn in_open(batcher: &Batcher<String>) -> usize {
    let mut items = 0;
    batcher.hold(&mut |open| items = open);
    items
}

/// How many messages each envelope in the mailbox has.
async fn sent(send_queue: &SendQueue) -> Vec<usize> {
    let mut inbox = send_queue.inbox().await;
    std::iter::from_fn(|| inbox.try_recv().ok()).map(|entry| entry.items()).collect()
}

#[tokio::test]
async fn who_waits_for_room_joins_the_batch_that_another_could_open() {
    let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_secs(60)), 1);
    let place = send_queue.reserve(1).await.unwrap();
    let texts = ["a", "b", "c"].map(str::to_owned);
    let all = texts.each_ref().map(|text| joining(text, "k"));
    let mut waiting: Vec<Opening<'_>> = Vec::new();
    for one in &all {
        waiting.push(Box::pin(batcher.open_with(&send_queue, one)));
    }
    for one in &mut waiting {
        assert!(poll!(one).is_pending());
    }
    drop(place);
    let claims =
        tokio::time::timeout(Duration::from_secs(10), join_all(waiting)).await.expect("room for one is room for all");
    assert!(claims.into_iter().all(|claim| claim.is_ok()));
    assert_eq!(in_open(&batcher), 3);
    batcher.send_open(&send_queue);
    assert_eq!(sent(&send_queue).await, [3]);
}

#[tokio::test]
async fn a_batch_that_waits_for_company_gives_its_place_to_who_waits_for_room() {
    let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_secs(60)), 1);
    batcher.open_with(&send_queue, &joining(&"a".to_owned(), "one")).await.unwrap();
    let text = "b".to_owned();
    let two = joining(&text, "two");
    let mut waiting: Opening<'_> = Box::pin(batcher.open_with(&send_queue, &two));
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(sent(&send_queue).await, [1]);
    let opened = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the mailbox was emptied");
    assert!(opened.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_sent_by_whoever_looks_and_the_rest_stays() {
    let (batcher, send_queue) = batcher(Batching::default().linger(Duration::from_millis(5)), 10);
    batcher.try_open_with(&send_queue, &joining(&"a".to_owned(), "one")).unwrap();
    // The first caller is gone before the batch is due, and with it the time that it was told.
    assert!(batcher.send_due(&send_queue, Instant::now()).is_some());
    tokio::time::advance(Duration::from_millis(3)).await;
    batcher.try_open_with(&send_queue, &joining(&"b".to_owned(), "two")).unwrap();
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(batcher.send_due(&send_queue, Instant::now()), Some(Instant::now() + Duration::from_millis(3)));
    assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], 1));
    let lingering = tokio::spawn({
        let send_queue = Arc::clone(&send_queue);
        async move { send_queue.linger().await }
    });
    tokio::time::advance(Duration::from_millis(3)).await;
    while in_open(&batcher) > 0 {
        tokio::task::yield_now().await;
    }
    batcher.try_open_with(&send_queue, &joining(&"c".to_owned(), "one")).unwrap();
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert_eq!(sent(&send_queue).await, [1, 1], "`linger` is told of the next batch");
    lingering.abort();
}

#[tokio::test]
async fn what_is_closed_has_sent_all_it_had_and_takes_nothing_more() {
    let (batcher, send_queue) = batcher(Batching::default(), 10);
    batcher.try_open_with(&send_queue, &joining(&"a".to_owned(), "k")).unwrap();
    let place = send_queue.reserve(1).await.unwrap();
    let first = batcher.first(&"late".to_owned()).unwrap();
    batcher.close(&send_queue);
    let late = batcher.put_up(&send_queue, place, first, &joining(&"late".to_owned(), "k"));
    assert!(matches!(late, Err(PublishErrorKind::NotSent(_))));
    assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], 0));
}

#[tokio::test]
async fn a_new_key_past_the_most_open_batches_sends_the_oldest() {
    let (batcher, send_queue) = batcher(Batching::default(), 1000);
    for key in 0..=MOST_OPEN {
        batcher.try_open_with(&send_queue, &joining(&"a".to_owned(), &key.to_string())).unwrap();
    }
    assert_eq!((sent(&send_queue).await, in_open(&batcher)), (vec![1], MOST_OPEN));
    assert!(batcher.add(&send_queue, &joining(&"a".to_owned(), "0")).unwrap().is_none(), "the oldest was sent");
    assert!(batcher.add(&send_queue, &joining(&"a".to_owned(), "1")).unwrap().is_some());
}
