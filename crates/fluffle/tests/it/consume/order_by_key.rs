//! Order by key: several handler instances, each key handled by one of them in the order of the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fluffle::{
    amqp::{ConsumerStats, SeenError},
    prelude::*,
    supervise::NodeSnapshot,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use lapin::BasicProperties;
use tokio::sync::{Notify, mpsc};

use crate::support::*;

/// A consumer with order by key and three instances. Between attempts a message waits 50 ms in the process.
pub(super) fn by_key() -> Consume<String> {
    let retry = retry(3).in_process_below(Duration::from_secs(1)).unwrap();
    Consume::queue("q").instances(3).retry(retry).ordered_by(key)
}

/// The texts that handlers were given before `z`.
async fn texts_until_z(record: &mut Record) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let seen = next(record).await;
        if seen.text == "z" {
            return texts;
        }
        texts.push(seen.text);
    }
}

/// Records when it begins and when it ends. The earlier a message was published, the longer it takes.
struct Slow {
    instance: usize,
    record: mpsc::UnboundedSender<(String, usize, bool)>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Slow {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (instance, record) = (self.instance, self.record.clone());
        Box::pin(async move {
            record.send((text.clone(), instance, true))?;
            let number: u64 = text[1..].parse()?;
            actix::clock::sleep(Duration::from_millis(5 - number % 5)).await;
            record.send((text.clone(), instance, false))?;
            Ok(())
        })
    }
}

#[actix::test]
async fn messages_of_a_key_are_handled_one_after_the_other_by_one_instance_single_or_in_batches() {
    const KEYS: &str = "abcdefghijkl";
    let place = vhost();
    let app = app_with_q(place.url());
    let single = app.publisher::<String>(Route::queue("q"));
    let batched = app.publisher::<String>(Route::queue("q").batch(Batching::default().max_items(30)));
    let (record, mut handled) = mpsc::unbounded_channel();
    let instances = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let factory =
        move || Slow { instance: instances.fetch_add(1, std::sync::atomic::Ordering::SeqCst), record: record.clone() };
    let service = started(app.consume(by_key(), factory)).await;
    for number in 0..40 {
        let mut receipts = Vec::new();
        for key in KEYS.chars() {
            let out = if number < 20 { &single } else { &batched };
            receipts.push(out.enqueue(format!("{key}{number}")).await.unwrap());
        }
        for receipt in receipts {
            soon("confirmed", receipt.confirmed()).await.unwrap();
        }
    }
    let mut of_key: BTreeMap<char, Vec<(usize, bool)>> = BTreeMap::new();
    let mut instance_of: BTreeMap<char, BTreeSet<usize>> = BTreeMap::new();
    let (mut in_hand, mut most_in_hand) = (0_usize, 0);
    for _ in 0..KEYS.len() * 40 * 2 {
        let (text, instance, begins) = soon("a record", handled.recv()).await.unwrap();
        in_hand = if begins { in_hand + 1 } else { in_hand - 1 };
        most_in_hand = most_in_hand.max(in_hand);
        of_key.entry(key(&text)).or_default().push((text[1..].parse().unwrap(), begins));
        instance_of.entry(key(&text)).or_default().insert(instance);
    }
    let one_after_the_other: Vec<(usize, bool)> =
        (0..40).flat_map(|number| [(number, true), (number, false)]).collect();
    for (key, order) in of_key {
        assert_eq!(order, one_after_the_other, "key {key}");
    }
    assert!(instance_of.values().all(|instances| instances.len() == 1), "{instance_of:?}");
    assert_eq!(instance_of.values().flatten().collect::<BTreeSet<_>>().len(), 3, "every instance has keys");
    assert!(most_in_hand > 1, "no two messages were handled at the same time");
    until("all are counted", || stats(&service).handled == 12 * 40).await;
    assert!(stats(&service).batches > 0);
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_slow_message_holds_up_its_own_key_and_no_other() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "a1" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(by_key(), factory)).await;
    publish(&out, &["a1", "a2", "b1", "c1", "d1", "b2", "z"]).await;
    let mut others = texts_until_z(&mut record).await;
    others.sort_unstable();
    assert_eq!(others, ["a1", "b1", "b2", "c1", "d1"]);
    assert_eq!(stats(&service).received, 7);
    go.notify_one();
    assert_eq!(next(&mut record).await.text, "a2");
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_wait_between_attempts_in_this_process_holds_the_key() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("a1", 1) => Act::Err(Failure::retry("not yet")),
        ("a1", 2) => Act::Panic,
        _ => Act::Ok,
    });
    let service = started(app.consume(by_key(), factory)).await;
    let enqueued = [out.enqueue("a1".to_owned()).await.unwrap(), out.enqueue("a2".to_owned()).await.unwrap()];
    for receipt in enqueued {
        receipt.confirmed().await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let one = next(&mut record).await;
        seen.push((one.text, one.attempt));
    }
    let expected = [("a1", 1), ("a1", 2), ("a1", 3), ("a2", 1)];
    assert_eq!(seen, expected.map(|(text, attempt)| (text.to_owned(), attempt)));
    nothing_left(&place, service).await;
}

#[actix::test]
async fn what_waits_for_its_key_leaves_the_next_attempt_room_in_the_byte_budget() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|seen| {
        if (seen.text.as_str(), seen.attempt) == ("a1", 1) { Act::Err(Failure::retry("not yet")) } else { Act::Ok }
    });
    // The budget has room for one delivery. While `a1` waits for its next attempt, `a2` has the budget and waits for
    // the key of `a1`, and `a3` waits for both.
    let wait = Duration::from_millis(500);
    let retry = Retry::exponential(2, wait, 1.0).unwrap().in_process_below(2 * wait).unwrap();
    let service = started(app.consume(by_key().max_bytes_in_flight(1).retry(retry), factory)).await;
    publish(&out, &["a1", "a2", "a3"]).await;
    for expected in ["a1", "a1", "a2", "a3"] {
        assert_eq!(next(&mut record).await.text, expected);
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_retry_through_a_queue_frees_the_key() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|seen| {
        if (seen.text.as_str(), seen.attempt) == ("a1", 1) { Act::Err(Failure::retry("not yet")) } else { Act::Ok }
    });
    let patient = Retry::exponential(2, Duration::from_secs(2), 1.0).unwrap();
    let service = started(app.consume(by_key().retry(patient), factory)).await;
    publish(&out, &["a1", "a2"]).await;
    for expected in [("a1", 1), ("a2", 1), ("a1", 2)] {
        let seen = next(&mut record).await;
        assert_eq!((seen.text.as_str(), seen.attempt), expected);
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_message_that_hangs_its_handler_frees_its_key_when_its_time_is_over() {
    let place = vhost();
    let app = app_with_q(place.url());
    let (factory, mut record) = handlers(|seen| if seen.text.ends_with('1') { Act::Hang } else { Act::Ok });
    let consume = by_key().handler_timeout(Duration::from_millis(200)).retry(Retry::none());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.consume(consume, factory)).await;
    let raw = Raw::connect(place.url()).await;
    publish(&out, &["a1", "a2"]).await;
    assert_eq!(next(&mut record).await.text, "a1");
    assert_eq!(next(&mut record).await.text, "a2");
    raw.take("q.dead").await;
    send_batch(&raw, "batch", &["b1", "b2"]).await;
    assert_eq!(next(&mut record).await.text, "b1");
    assert_eq!(next(&mut record).await.text, "b2");
    assert_eq!(raw.take("q.dead").await.properties.message_id().as_ref().unwrap().as_str(), "batch/0");
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_panic_is_charged_to_its_message_and_what_waits_by_key_goes_to_the_next_incarnation() {
    let place = vhost();
    let app = app_with_q(place.url());
    let (factory, mut record) = handlers(|seen| if seen.text == "a2" { Act::Panic } else { Act::Ok });
    let service = started(app.consume(by_key().retry(Retry::none()), factory)).await;
    let raw = Raw::connect(place.url()).await;
    send_batch(&raw, "batch", &["a1", "a2", "a3", "a4"]).await;
    for expected in ["a1", "a2", "a3", "a4"] {
        assert_eq!(next(&mut record).await.text, expected);
    }
    assert_eq!(raw.take("q.dead").await.properties.message_id().as_ref().unwrap().as_str(), "batch/1");
    until("settled", || stats(&service).handled == 3).await;
    assert_eq!((stats(&service).crashed, stats(&service).dead_lettered), (1, 1));
    nothing_left(&place, service).await;
}

#[actix::test]
async fn what_has_no_key_is_a_dead_letter_by_itself() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(by_key(), factory)).await;
    let raw = Raw::connect(place.url()).await;
    publish(&out, &["a1", "!", "a2"]).await;
    assert_eq!(next(&mut record).await.text, "a1");
    assert_eq!(next(&mut record).await.text, "a2");
    let letter = raw.take("q.dead").await;
    assert_eq!(letter.header("x-fluffle-reason").as_deref(), Some("rejected"));
    assert!(letter.header("x-fluffle-error").unwrap().contains("ordered_by"));
    send_batch(&raw, "batch", &["b1", "!", "b2"]).await;
    assert_eq!(next(&mut record).await.text, "b1");
    assert_eq!(next(&mut record).await.text, "b2");
    assert_eq!(raw.take("q.dead").await.properties.message_id().as_ref().unwrap().as_str(), "batch/1");
    let unreadable = BasicProperties::default().with_content_type("text/html".into());
    raw.put("q", b"what is this", unreadable).await;
    assert_eq!(raw.take("q.dead").await.header("x-fluffle-reason").as_deref(), Some("undecodable"));
    assert_eq!(stats(&service).crashed, 0, "a handler crashed");
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_key_in_hand_when_its_connection_is_lost_is_finished_before_it_is_begun_again() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(
            move |seen| {
                if seen.text.ends_with('1') && !seen.redelivered { Act::Wait(Arc::clone(&gate)) } else { Act::Ok }
            },
        );
    let service = started(app.consume(by_key(), factory)).await;
    let raw = Raw::connect(place.url()).await;
    publish(&out, &["a1", "a2"]).await;
    send_batch(&raw, "batch", &["b1", "b2"]).await;
    let mut begun = [next(&mut record).await.text, next(&mut record).await.text];
    begun.sort_unstable();
    assert_eq!(begun, ["a1", "b1"]);
    place.close_connections("a test cuts the connection");
    until("all of it came again", || stats(&service).received >= 6).await;
    publish(&out, &["z"]).await;
    assert_eq!(texts_until_z(&mut record).await, [""; 0], "a message was begun although its key is in hand");
    until("what is the broker's again is forgotten", || waiting(&service.snapshot()) == 4).await;
    go.notify_waiters();
    let mut again = BTreeMap::<char, Vec<String>>::new();
    for _ in 0..4 {
        let text = next(&mut record).await.text;
        again.entry(key(&text)).or_default().push(text);
    }
    assert_eq!(again.into_values().collect::<Vec<_>>(), [["a1", "a2"], ["b1", "b2"]]);
    until("the work for the lost channel is counted", || stats(&service).work_done_ack_lost == 2).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_handler_that_hangs_while_its_connection_is_lost_frees_its_key_when_its_time_is_over() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|seen| if seen.redelivered { Act::Ok } else { Act::Hang });
    let service = started(app.consume(by_key().handler_timeout(Duration::from_secs(1)), factory)).await;
    let raw = Raw::connect(place.url()).await;
    publish(&out, &["a1"]).await;
    send_batch(&raw, "batch", &["b1"]).await;
    let mut texts = BTreeSet::from([next(&mut record).await.text, next(&mut record).await.text]);
    place.close_connections("a test cuts the connection");
    for _ in 0..2 {
        let seen = next(&mut record).await;
        assert!(seen.redelivered && texts.remove(&seen.text), "{seen:?}");
    }
    nothing_left(&place, service).await;
}

/// Keeps every delivery after it has answered. Texts that end in `later` are answered when the test says so.
struct Keeper {
    kept: Vec<Arc<Delivery<String>>>,
    record: mpsc::UnboundedSender<String>,
    go: Arc<Notify>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Keeper {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (text, go) = (Arc::new(text), Arc::clone(&self.go));
        self.kept.push(Arc::clone(&text));
        self.record.send(text.to_string()).unwrap();
        Box::pin(async move {
            if text.ends_with("later") && !text.redelivered() {
                go.notified().await;
            }
            if text.contains("fails") { Err(Failure::reject("no")) } else { Ok(()) }
        })
    }
}

#[actix::test]
async fn a_handler_that_keeps_what_it_was_given_keeps_no_key() {
    for guarantee in [AtLeastOnce, AtMostOnce] {
        let place = vhost();
        let app = app_with_q(place.url());
        let out = app.publisher::<String>(Route::queue("q"));
        let go = Arc::new(Notify::new());
        let (record, mut texts) = mpsc::unbounded_channel();
        let gate = Arc::clone(&go);
        let factory = move || Keeper { kept: Vec::new(), record: record.clone(), go: Arc::clone(&gate) };
        let service = started(app.consume(by_key().guarantee(guarantee), factory)).await;
        publish(&out, &["a handled", "a fails", "a fails later"]).await;
        for expected in ["a handled", "a fails", "a fails later"] {
            assert_eq!(soon("a delivery", texts.recv()).await.as_deref(), Some(expected));
        }
        until("two are settled", || {
            let ConsumerStats { handled, dead_lettered, dropped, .. } = stats(&service);
            (handled, dead_lettered + dropped) == (1, 1)
        })
        .await;
        place.close_connections("a test cuts the connection");
        until("it consumes again", || place.depth("q").consumers == 1).await;
        publish(&out, &["a4"]).await;
        go.notify_one();
        let again = if guarantee == AtLeastOnce { &["a fails later", "a4"][..] } else { &["a4"] };
        for expected in again {
            assert_eq!(soon("a delivery", texts.recv()).await.as_deref(), Some(*expected));
        }
        nothing_left(&place, service).await;
    }
}

/// Starts a consumer and sends two batches. The first one is begun, the second one waits for the key.
async fn one_begun_and_one_waits(place: &Place, consume: Consume<String>) -> (Service, Record, Arc<Notify>, Raw) {
    let app = app_with_q(place.url());
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (factory, mut record) =
        handlers(move |seen| if seen.text == "a1" { Act::Wait(Arc::clone(&gate)) } else { Act::Ok });
    let service = started(app.consume(consume, factory)).await;
    let raw = Raw::connect(place.url()).await;
    send_batch(&raw, "begun", &["a1", "a2"]).await;
    assert_eq!(next(&mut record).await.text, "a1");
    send_batch(&raw, "waits", &["a3", "a4"]).await;
    until("both are sorted", || waiting(&service.snapshot()) == 3).await;
    (service, record, go, raw)
}

#[actix::test]
async fn what_is_begun_of_a_key_is_finished_at_shutdown_and_what_waits_goes_back() {
    let place = vhost();
    let (service, mut record, go, raw) = one_begun_and_one_waits(&place, by_key()).await;
    let stopping = actix::spawn({
        let service = service.clone();
        async move { service.shutdown().await.unwrap() }
    });
    until("what is not begun goes back", || {
        let depth = place.depth("q");
        (depth.ready, depth.unacked) == (1, 1)
    })
    .await;
    go.notify_one();
    assert_eq!(next(&mut record).await.text, "a2", "a batch that was begun is finished");
    soon("stopped", stopping).await.unwrap();
    assert_eq!((stats(&service).handled, stats(&service).requeued), (2, 1));
    assert_eq!(raw.ready("q").await, 1);
}

#[actix::test]
async fn what_waits_too_long_for_its_key_goes_back_and_comes_again() {
    let place = vhost();
    let consume = by_key().give_back_after(Duration::from_secs(1));
    let (service, mut record, go, _raw) = one_begun_and_one_waits(&place, consume).await;
    until("it goes back", || stats(&service).requeued >= 1).await;
    until("it comes again", || stats(&service).received >= 3).await;
    go.notify_one();
    for expected in ["a2", "a3", "a4"] {
        assert_eq!(next(&mut record).await.text, expected);
    }
    nothing_left(&place, service).await;
}

/// Knows two items as handled. Answers a look-up of items when the test says so.
struct Store(Arc<Notify>);

impl SeenStore for Store {
    fn contains<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        ready(Ok(false)).boxed()
    }

    fn insert<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        ready(Ok(())).boxed()
    }

    fn contains_all<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<bool>, SeenError>> {
        Box::pin(async move {
            self.0.notified().await;
            Ok(keys.iter().map(|key| key.ends_with("one/0") || key.ends_with("one/1")).collect())
        })
    }
}

#[actix::test]
async fn items_handled_before_are_left_out_and_while_they_are_looked_up_nothing_overtakes_their_batch() {
    let place = vhost();
    let app = app_with_q(place.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let go = Arc::new(Notify::new());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(by_key().effectively_once(Arc::new(Store(Arc::clone(&go)))), factory)).await;
    let raw = Raw::connect(place.url()).await;
    send_batch(&raw, "one", &["a1", "a2", "a3"]).await;
    until("it is received", || stats(&service).received == 1).await;
    publish(&out, &["a4"]).await;
    until("it waits for its turn", || waiting(&service.snapshot()) == 1).await;
    go.notify_one();
    for expected in ["a3", "a4"] {
        assert_eq!(next(&mut record).await.text, expected);
    }
    until("counted", || stats(&service).handled == 2).await;
    assert_eq!(stats(&service).duplicates, 2);
    nothing_left(&place, service).await;
}

/// How many messages wait for handlers in the consumer of `q`.
fn waiting(tree: &NodeSnapshot) -> usize {
    node(tree, &["consume", "consume-0", "channels", "q", "consumer"]).mailbox.unwrap().waiting
}

#[actix::test]
async fn a_rate_limit_and_at_most_once_hold_in_order_by_key() {
    let place = vhost();
    // The waiting messages are acked already, so the drain waits for them, up to this limit.
    let app = app_with_q(place.url()).drain_within(Duration::from_millis(100));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) =
        handlers(|seen| if seen.text == "a1" { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let limit = RateLimit::per_minute(1, 3);
    let service = started(app.consume(by_key().guarantee(AtMostOnce).rate_limit(limit), factory)).await;
    publish(&out, &["a1", "a2", "a3", "a4"]).await;
    for expected in ["a1", "a2", "a3"] {
        assert_eq!(next(&mut record).await.text, expected);
    }
    until("all are received", || stats(&service).received == 4).await;
    until("three have ended", || stats(&service).handled == 2 && stats(&service).dropped == 1).await;
    assert!(record.try_recv().is_err(), "the rate limit allows three messages");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn there_is_an_instance_for_each_core_if_order_is_kept_by_key_and_one_if_it_is_not() {
    let place = vhost();
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("r"));
    let app = App::new(broker(place.url())).topology(topology);
    let ((by_key, _seen), (by_queue, _seen_too)) = (handlers(|_| Act::Ok), handlers(|_| Act::Ok));
    let app = app.consume(Consume::queue("q").ordered_by(key), by_key).consume(Consume::queue("r"), by_queue);
    let service = started(app).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(children(&service.snapshot(), &["handlers", "q"]).len(), cores);
    assert_eq!(children(&service.snapshot(), &["handlers", "r"]).len(), 1);
    service.shutdown().await.unwrap();
}
