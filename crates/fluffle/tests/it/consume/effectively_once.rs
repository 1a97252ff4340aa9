//! Effectively once: a message that was handled is not handled again, and no message that was not handled is lost.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use fluffle::{
    amqp::{ConsumerStats, SeenError},
    broker::{Fault, Target},
    prelude::*,
    testing::TestBroker,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::Notify;

use crate::support::{Act, Record, handlers, next, retry, soon, started, until};

/// A store in memory. The next `failing` calls end in an error.
#[derive(Default)]
struct Store {
    keys: Mutex<HashSet<String>>,
    failing: AtomicUsize,
}

impl Store {
    fn fail(&self) -> Result<(), SeenError> {
        let failed = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failed.is_ok() { Err("the disk is on fire".into()) } else { Ok(()) }
    }
}

impl SeenStore for Store {
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        ready(self.fail().map(|()| self.keys.lock().unwrap().contains(key))).boxed()
    }

    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        let inserted = self.fail().map(|()| {
            self.keys.lock().unwrap().insert(key.to_owned());
        });
        ready(inserted).boxed()
    }
}

struct Bench {
    broker: TestBroker,
    service: Service,
    out: Publisher<String>,
    record: Record,
    store: Arc<Store>,
}

impl Bench {
    async fn start(script: impl Fn(&crate::support::Seen) -> Act + Send + Sync + 'static) -> Self {
        let broker = TestBroker::start().unwrap();
        let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
        let out = app.publisher(Route::queue("q"));
        let store = Arc::new(Store::default());
        let (factory, record) = handlers(script);
        let consume = Consume::queue("q").retry(retry(3)).effectively_once(store.clone());
        let service = started(app.consume(consume, factory)).await;
        Self { broker, service, out, record, store }
    }

    async fn publish(&self, text: &str, id: &str) {
        self.publish_with(text, MessageOptions::new().id(id)).await;
    }

    async fn publish_with(&self, text: &str, options: MessageOptions) {
        soon("published", self.out.publish_with(text.to_owned(), options)).await.unwrap();
    }

    fn stats(&self) -> ConsumerStats {
        self.service.consumers()[0].1
    }

    /// Waits until everything is settled, shuts down, and returns the handled messages that the test has not read yet.
    async fn rest(mut self) -> Vec<String> {
        self.broker.settled(&self.service).await.unwrap();
        self.service.shutdown().await.unwrap();
        std::iter::from_fn(|| self.record.try_recv().ok()).map(|seen| seen.text).collect()
    }
}

#[actix::test]
async fn a_message_published_twice_is_handled_once() {
    let bench = Bench::start(|_| Act::Ok).await;
    bench.publish("first", "1").await;
    bench.broker.settled(&bench.service).await.unwrap();
    bench.publish("again", "1").await;
    bench.publish("another", "2").await;
    bench.broker.settled(&bench.service).await.unwrap();
    assert_eq!((bench.stats().handled, bench.stats().duplicates), (2, 1));
    assert_eq!(bench.rest().await, ["first", "another"]);
}

#[actix::test]
async fn a_duplicate_waits_while_its_original_is_in_hand_and_holds_nobody_else_up() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let mut bench =
        Bench::start(move |seen| if seen.text == "slow" { Act::Wait(Arc::clone(&wait)) } else { Act::Ok }).await;
    bench.publish("slow", "1").await;
    assert_eq!(next(&mut bench.record).await.text, "slow");
    bench.publish("again", "1").await;
    bench.publish("other", "2").await;
    assert_eq!(next(&mut bench.record).await.text, "other");
    until("the duplicate is held", || bench.broker.snapshot().unwrap().queue("q").unwrap().unacked == 2).await;
    go.notify_one();
    bench.broker.settled(&bench.service).await.unwrap();
    // The broker receives the ack a moment before the service counts it.
    until("the duplicate is counted", || bench.stats().duplicates == 1).await;
    assert!(bench.rest().await.is_empty());
}

#[actix::test]
async fn a_failed_message_is_not_taken_for_a_handled_one() {
    let bench = Bench::start(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("no")) } else { Act::Ok }).await;
    bench.publish("once more", "1").await;
    bench.broker.settled(&bench.service).await.unwrap();
    assert_eq!((bench.stats().retried, bench.stats().handled, bench.stats().duplicates), (1, 1, 0));
    assert_eq!(bench.rest().await, ["once more", "once more"]);
}

#[actix::test]
async fn work_finished_for_a_lost_connection_is_not_done_again() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let mut bench = Bench::start(move |_| Act::Wait(Arc::clone(&wait))).await;
    bench.publish("slow", "1").await;
    next(&mut bench.record).await;
    bench.broker.kill().unwrap();
    bench.broker.start_again().unwrap();
    until("delivered again", || bench.stats().received == 2).await;
    go.notify_one();
    bench.broker.settled(&bench.service).await.unwrap();
    let stats = bench.stats();
    assert_eq!((stats.work_done_ack_lost, stats.handled, stats.duplicates), (1, 0, 1));
    assert!(bench.rest().await.is_empty());
}

/// The work is done before the connection is lost, and the store fails several times before it takes the mark.
#[actix::test]
async fn a_connection_lost_while_a_message_is_remembered_does_not_stop_that() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let mut bench = Bench::start(move |_| Act::Wait(Arc::clone(&wait))).await;
    bench.publish("once", "1").await;
    next(&mut bench.record).await;
    bench.store.failing.store(4, Ordering::SeqCst);
    go.notify_one();
    until("it is being remembered", || bench.store.failing.load(Ordering::SeqCst) < 4).await;
    bench.broker.faults().strike(Fault::Cut, Target::all()).unwrap();
    until("delivered again", || bench.stats().received == 2).await;
    until("known", || bench.stats().duplicates == 1).await;
    bench.broker.settled(&bench.service).await.unwrap();
    assert!(bench.rest().await.is_empty(), "not handled again");
}

#[actix::test]
async fn a_deliberate_replay_passes() {
    let bench = Bench::start(|_| Act::Ok).await;
    bench.publish("original", "1").await;
    bench.broker.settled(&bench.service).await.unwrap();
    bench.publish_with("replay", MessageOptions::new().id("1").header("x-fluffle-replay", "monday")).await;
    bench.broker.settled(&bench.service).await.unwrap();
    bench.publish_with("the same replay", MessageOptions::new().id("1").header("x-fluffle-replay", "monday")).await;
    // This is a dead letter that somebody moved back, with all its headers.
    bench.publish_with("put back", MessageOptions::new().id("1").header("x-fluffle-reason", "rejected")).await;
    assert_eq!(bench.rest().await, ["original", "replay", "put back"]);
}

#[actix::test]
async fn while_the_store_cannot_answer_messages_wait_and_are_neither_lost_nor_repeated() {
    let bench = Bench::start(|_| Act::Ok).await;
    bench.store.failing.store(3, Ordering::SeqCst);
    bench.publish("patience", "1").await;
    bench.broker.settled(&bench.service).await.unwrap();
    bench.store.failing.store(2, Ordering::SeqCst);
    bench.publish("again", "1").await;
    bench.broker.settled(&bench.service).await.unwrap();
    until("both counted", || (bench.stats().handled, bench.stats().duplicates) == (1, 1)).await;
    assert_eq!(bench.rest().await, ["patience"]);
}

#[actix::test]
async fn queues_that_share_a_store_do_not_swallow_each_others_messages() {
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new()
        .exchange(Exchange::fanout("all"))
        .queue(Queue::quorum("a").bind("all", ""))
        .queue(Queue::quorum("b").bind("all", ""));
    let app = App::new(broker.client().unwrap()).topology(topology);
    let out = app.publisher::<String>(Route::exchange("all"));
    let store = Arc::new(Store::default());
    let (factory, _record) = handlers(|_| Act::Ok);
    let first = started(app.consume(Consume::queue("a").effectively_once(store.clone()), factory)).await;
    out.publish("to both".to_owned()).await.unwrap();
    until("handled from a", || first.consumers()[0].1.handled == 1).await;

    let app = App::new(broker.client().unwrap());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let second = started(app.consume(Consume::queue("b").effectively_once(store), factory)).await;
    assert_eq!(next(&mut record).await.text, "to both");
    for service in [first, second] {
        service.shutdown().await.unwrap();
    }
}

/// Works until the test says so, or until its connection is lost. Reports what became of the delivery.
struct Careful {
    go: Arc<Notify>,
    begun: Arc<Notify>,
    ends: tokio::sync::mpsc::UnboundedSender<(&'static str, Settled)>,
}

impl Actor for Careful {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Careful {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, delivery: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (go, ends, settled) = (Arc::clone(&self.go), self.ends.clone(), delivery.settled());
        self.begun.notify_one();
        Box::pin(async move {
            let done = delivery
                .unless_lost(async {
                    go.notified().await;
                    Ok::<_, Failure>(())
                })
                .await;
            let end = if done.is_ok() { "done" } else { "dropped" };
            actix::spawn(async move {
                let _ = ends.send((end, settled.await));
            });
            done
        })
    }
}

#[actix::test]
async fn a_delivery_whose_connection_is_lost_while_it_is_settled_is_told_so_and_holds_no_later_one_up() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let (go, begun, store) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Store::default()));
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let (resume, started_work) = (Arc::clone(&go), Arc::clone(&begun));
    let app = app.consume(Consume::queue("q").effectively_once(store.clone()), move || Careful {
        go: Arc::clone(&resume),
        begun: Arc::clone(&started_work),
        ends: ends.clone(),
    });
    let service = started(app).await;
    out.publish("work".to_owned()).await.unwrap();
    soon("begun", begun.notified()).await;
    // The message is handled, but the store fails, so the delivery stays in the middle of its settlement.
    store.failing.store(usize::MAX, Ordering::SeqCst);
    go.notify_one();
    until("it is to be remembered", || store.failing.load(Ordering::SeqCst) < usize::MAX).await;
    broker.kill().unwrap();
    assert_eq!(soon("told", ended.recv()).await, Some(("done", Settled::Lost)));
    store.failing.store(0, Ordering::SeqCst);
    broker.start_again().unwrap();
    // The redelivered message waits until the store has the mark of its first delivery, and no longer.
    until("known", || service.consumers()[0].1.duplicates == 1).await;
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_learns_that_its_connection_was_lost_and_may_drop_its_work() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let (go, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let (resume, started_work) = (Arc::clone(&go), Arc::clone(&begun));
    let app = app.consume(Consume::queue("q"), move || Careful {
        go: Arc::clone(&resume),
        begun: Arc::clone(&started_work),
        ends: ends.clone(),
    });
    let service = started(app).await;
    out.publish("work".to_owned()).await.unwrap();
    soon("begun", begun.notified()).await;
    broker.kill().unwrap();
    broker.start_again().unwrap();
    assert_eq!(soon("told", ended.recv()).await, Some(("dropped", Settled::Lost)));
    soon("begun again", begun.notified()).await;
    go.notify_one();
    assert_eq!(soon("told", ended.recv()).await, Some(("done", Settled::Acked)));
    broker.settled(&service).await.unwrap();
    let stats = service.consumers()[0].1;
    assert_eq!((stats.handled, stats.retried, stats.work_done_ack_lost), (1, 0, 0));
    service.shutdown().await.unwrap();
}

/// Takes too long on the first attempt and then fails. Succeeds on later attempts.
struct Late {
    go: Arc<Notify>,
    handled: Arc<AtomicUsize>,
}

impl Actor for Late {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Late {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, delivery: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (go, handled) = (Arc::clone(&self.go), Arc::clone(&self.handled));
        Box::pin(async move {
            if delivery.attempt() == 1 {
                go.notified().await;
                return Err(Failure::retry("too late, and not done"));
            }
            handled.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

#[actix::test]
async fn a_late_no_is_not_taken_for_a_yes() {
    for in_process in [false, true] {
        let broker = TestBroker::start().unwrap();
        let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
        let out = app.publisher::<String>(Route::queue("q"));
        let (go, handled) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let wait = std::time::Duration::from_millis(400);
        let mut retry = Retry::exponential(3, wait, 1.0).unwrap();
        if in_process {
            retry = retry.in_process_below(wait * 2).unwrap();
        }
        let consume = Consume::queue("q")
            .retry(retry)
            .handler_timeout(std::time::Duration::from_millis(100))
            .effectively_once(Arc::new(Store::default()));
        let factory = {
            let (go, handled) = (Arc::clone(&go), Arc::clone(&handled));
            move || Late { go: Arc::clone(&go), handled: Arc::clone(&handled) }
        };
        let service = started(app.consume(consume, factory)).await;
        out.publish("work".to_owned()).await.unwrap();
        until("its attempt has failed", || service.consumers()[0].1.retried == 1).await;
        // The next attempt is still waiting when the handler of the first one fails.
        go.notify_one();
        broker.settled(&service).await.unwrap();
        assert_eq!(handled.load(Ordering::SeqCst), 1, "with a wait in the process: {in_process}");
        assert_eq!(service.consumers()[0].1.duplicates, 0);
        service.shutdown().await.unwrap();
    }
}

/// The first attempt fails when the test says so; the second one succeeds when the test says so.
struct Twice {
    begun: tokio::sync::mpsc::UnboundedSender<u32>,
    go: [Arc<Notify>; 2],
}

impl Actor for Twice {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Twice {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, delivery: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let _ = self.begun.send(delivery.attempt());
        let go = self.go.clone();
        Box::pin(async move {
            if delivery.attempt() == 1 {
                go[0].notified().await;
                return Err(Failure::retry("too late"));
            }
            go[1].notified().await;
            Ok(())
        })
    }
}

#[actix::test]
async fn a_late_answer_is_not_taken_for_that_of_the_attempt_in_hand() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let (begun, mut attempts) = tokio::sync::mpsc::unbounded_channel();
    let go = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let short = std::time::Duration::from_millis(10);
    let retry = Retry::exponential(5, short, 1.0).unwrap().in_process_below(short * 2).unwrap();
    let consume = Consume::queue("q").retry(retry).handler_timeout(std::time::Duration::from_secs(2));
    let factory = {
        let go = go.clone();
        move || Twice { begun: begun.clone(), go: go.clone() }
    };
    let service = started(app.consume(consume, factory)).await;
    out.publish("work".to_owned()).await.unwrap();
    for attempt in [1, 2] {
        assert_eq!(soon("begun", attempts.recv()).await, Some(attempt));
    }
    go[0].notify_one();
    until("the late answer has come", || service.consumers()[0].1.late == 1).await;
    go[1].notify_one();
    broker.settled(&service).await.unwrap();
    let stats = service.consumers()[0].1;
    assert_eq!((stats.handled, stats.retried, stats.dead_lettered), (1, 1, 0));
    service.shutdown().await.unwrap();
}
