//! Open batches: who joins which, and when they are sent.

use std::{future::Future, pin::Pin};

use futures_util::future::join_all;
use lapin::BasicProperties;

use super::*;
use crate::publish::{outcome::SendOutcome, send_queue::SendSettings};

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

/// A publisher whose batches form by themselves, without a channel: a test takes what was sent, and confirms it.
struct Adaptive {
    batcher: Arc<Batcher<String>>,
    send_queue: Arc<SendQueue>,
    begun: Instant,
}

impl Adaptive {
    fn new(terms: Batching) -> Self {
        let (batcher, send_queue) = batcher(terms, 100);
        Self { batcher, send_queue, begun: Instant::now() }
    }

    /// Sends due batches as the actor does, until the test ends.
    fn lingers(&self) {
        let send_queue = Arc::clone(&self.send_queue);
        tokio::spawn(async move { send_queue.linger().await });
    }

    /// Accepts a message as a publisher does. Says whether it went alone.
    fn accept(&self, text: &str, key: &str) -> bool {
        let (text, unconfirmed) = (text.to_owned(), self.batcher.goes_alone(key));
        if unconfirmed.is_none() {
            let joining = joining(&text, key);
            if self.batcher.add(&self.send_queue, &joining).unwrap().is_none() {
                self.batcher.try_open_with(&self.send_queue, &joining).unwrap();
            }
            return false;
        }
        let mut entry = lone(&text, key);
        entry.reply.keep_busy(unconfirmed);
        self.batcher.send_alone(&self.send_queue, self.send_queue.try_reserve(1).unwrap(), entry);
        true
    }

    async fn next(&self) -> Entry {
        self.send_queue.inbox().await.recv().await.unwrap()
    }

    /// Nothing is sent but what was taken, though everybody had a turn.
    async fn is_quiet(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(self.send_queue.inbox().await.try_recv().is_err());
    }

    fn waited(&self) -> Duration {
        self.begun.elapsed()
    }
}

fn lone(text: &str, key: &str) -> Entry {
    let message = Prepared::new(text, "x", key, BasicProperties::default(), text.to_owned().into());
    let reply = OutcomeSender::to_nobody(&message);
    Entry::new(message, reply, true)
}

fn confirm(entry: Entry) {
    entry.reply.settle(SendOutcome::Confirmed);
}

fn label(entry: &Entry) -> String {
    entry.message.amqp_properties().content_type().as_ref().unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn while_a_message_is_unconfirmed_the_next_of_its_key_gather_and_its_confirm_sends_them_together() {
    let adaptive = Adaptive::new(Batching::adaptive());
    adaptive.lingers();
    assert!(adaptive.accept("1", "k"));
    let first = adaptive.next().await;
    assert!(!adaptive.accept("2", "k") && !adaptive.accept("3", "k"));
    assert!(adaptive.accept("other", "other"), "of another key nothing is unconfirmed");
    assert_eq!(adaptive.next().await.message.id(), "other");
    adaptive.is_quiet().await;
    confirm(first);
    let batch = adaptive.next().await;
    assert_eq!((batch.items(), adaptive.waited()), (2, Duration::ZERO));
    assert!(label(&batch).ends_with("; encoding=delimited"));
    assert!(!adaptive.accept("4", "k"), "now the batch is unconfirmed");
    confirm(batch);
    let lone = adaptive.next().await;
    assert!(adaptive.batcher.goes_alone("k").is_none());
    confirm(lone);
    assert!(adaptive.accept("5", "k"));
    assert_eq!(adaptive.waited(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_gathered_alone_leaves_as_itself_under_the_id_that_its_sender_was_told() {
    let adaptive = Adaptive::new(Batching::adaptive());
    adaptive.lingers();
    adaptive.accept("1", "k");
    let first = adaptive.next().await;
    let text = "2".to_owned();
    let claim = adaptive.batcher.try_open_with(&adaptive.send_queue, &joining(&text, "k")).unwrap();
    confirm(first);
    let second = adaptive.next().await;
    assert_eq!((second.message.id(), second.items()), (claim.id(), 1));
    assert!(claim.id().ends_with("/0"));
    assert_eq!(label(&second), "application/vnd.google.protobuf; proto=google.protobuf.StringValue");
    let plain = Wire::<String>::protobuf().encode(&text).unwrap();
    assert_eq!(second.message.body(), &plain.body);
}

#[tokio::test(start_paused = true)]
async fn what_has_gathered_waits_for_a_confirm_no_longer_than_the_linger() {
    let adaptive = Adaptive::new(Batching::adaptive().linger(Duration::from_millis(7)));
    adaptive.lingers();
    adaptive.accept("1", "k");
    let _never_confirmed = adaptive.next().await;
    for text in ["2", "3"] {
        adaptive.accept(text, "k");
    }
    assert_eq!((adaptive.next().await.items(), adaptive.waited()), (2, Duration::from_millis(7)));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_waits_for_no_confirm() {
    let adaptive = Adaptive::new(Batching::adaptive().max_items(3));
    for text in 0..7 {
        adaptive.accept(&text.to_string(), "k");
    }
    assert_eq!(sent(&adaptive.send_queue).await, [1, 3, 3]);
    assert_eq!(adaptive.waited(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_all_of_its_key_is_confirmed_and_not_before() {
    let adaptive = Adaptive::new(Batching::adaptive().max_items(2));
    adaptive.lingers();
    for text in 0..4 {
        adaptive.accept(&text.to_string(), "k");
    }
    let (first, full) = (adaptive.next().await, adaptive.next().await);
    confirm(first);
    adaptive.is_quiet().await;
    assert_eq!((full.items(), in_open(&adaptive.batcher)), (2, 1));
    confirm(full);
    assert_eq!(adaptive.next().await.items(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_handed_back_or_never_accepted_keeps_nobody_waiting() {
    let adaptive = Adaptive::new(Batching::adaptive());
    adaptive.lingers();
    let mut refused = lone("1", "k");
    refused.reply.keep_busy(adaptive.batcher.goes_alone("k"));
    assert!(!adaptive.accept("2", "k"));
    refused.reply.settle(SendOutcome::Nacked);
    let second = adaptive.next().await;
    assert!(!adaptive.accept("3", "k"));
    // Its sender has withdrawn it.
    drop(second);
    adaptive.next().await;
    assert_eq!(adaptive.waited(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_key_became_free_while_it_waited_for_room_leaves_when_it_is_opened() {
    let adaptive = Adaptive::new(Batching::adaptive());
    adaptive.batcher.try_open_with(&adaptive.send_queue, &joining(&"1".to_owned(), "k")).unwrap();
    assert_eq!((sent(&adaptive.send_queue).await, adaptive.waited()), (vec![1], Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_message_with_options_of_its_own_takes_its_place_behind_what_has_gathered_and_keeps_its_key_busy() {
    let adaptive = Adaptive::new(Batching::adaptive());
    adaptive.lingers();
    adaptive.accept("1", "k");
    for text in ["2", "3"] {
        adaptive.accept(text, "k");
    }
    let place = adaptive.send_queue.try_reserve(1).unwrap();
    adaptive.batcher.send_alone(&adaptive.send_queue, place, lone("own", "k"));
    adaptive.accept("5", "k");
    let sent = [adaptive.next().await, adaptive.next().await, adaptive.next().await];
    assert_eq!(sent.each_ref().map(Entry::items), [1, 2, 1]);
    assert_eq!(sent[2].message.id(), "own");
    let [first, batch, own] = sent;
    confirm(first);
    confirm(batch);
    adaptive.is_quiet().await;
    confirm(own);
    assert_eq!(adaptive.next().await.items(), 1);
}
