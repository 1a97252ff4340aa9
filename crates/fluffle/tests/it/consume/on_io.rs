//! Handlers on the thread where deliveries arrive, and their move when one of them blocks it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use fluffle::{
    amqp::{ConsumerLabels, ConsumerStatus, DeliveryEvent, Listener, Observer},
    prelude::*,
};
use tokio::sync::{Notify, mpsc};

use crate::support::{
    log_lines::{field, log, with},
    process::{Log, SECONDS, service, this_test},
    *,
};

/// Longer than one step of a handler may take.
const TOO_LONG: Duration = Duration::from_millis(150);

/// The threads on which deliveries arrive.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<ThreadId>>>);

impl Observer for Arrivals {
    fn consumer(&self, _: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        let arrivals = Arc::clone(&self.0);
        Some(Arc::new(move |event| {
            if matches!(event, DeliveryEvent::Received { .. }) {
                arrivals.lock().unwrap().push(thread::current().id());
            }
        }))
    }
}

/// A message that a handler was given: its text, its attempt, and the handler's thread.
type Given = (String, u32, ThreadId);

/// What handlers record, and what the texts of their messages tell them to do: `block` the thread, `wait` for the test,
/// `fail` or `panic` at the first attempt.
#[derive(Clone)]
struct Told {
    record: mpsc::UnboundedSender<Given>,
    go: Arc<Notify>,
}

impl Told {
    fn new() -> (Self, mpsc::UnboundedReceiver<Given>) {
        let (record, given) = mpsc::unbounded_channel();
        (Self { record, go: Arc::default() }, given)
    }

    fn handle(&self, text: &Delivery<String>) -> impl Future<Output = Result<(), Failure>> + use<> {
        let waits = text.contains("wait").then(|| Arc::clone(&self.go).notified_owned());
        self.record.send((text.to_string(), text.attempt(), thread::current().id())).unwrap();
        if text.contains("block") {
            thread::sleep(TOO_LONG);
        }
        let first = text.attempt() == 1;
        assert!(!first || !text.contains("panic"), "the first attempt");
        let fails = first && text.contains("fail");
        async move {
            if let Some(waits) = waits {
                waits.await;
            }
            if fails { Err(Failure::retry("the first attempt")) } else { Ok(()) }
        }
    }
}

/// Its futures run apart from the actor.
struct Apart(Told);

impl Actor for Apart {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Apart {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.0.handle(&text))
    }
}

/// Its futures run in the actor's context.
struct InContext(Told);

impl Actor for InContext {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for InContext {
    type Result = ResponseActFuture<Self, Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.0.handle(&text).into_actor(self))
    }
}

fn on_io() -> Consume<String> {
    Consume::queue("q").on_io()
}

async fn given(record: &mut mpsc::UnboundedReceiver<Given>) -> Given {
    soon("a message", record.recv()).await.unwrap()
}

fn status(service: &Service) -> ConsumerStatus {
    service.status().consumers.swap_remove(0)
}

/// Each text came once, at its first attempt, and none was given up, retried or charged.
fn nothing_was_lost(service: &Service, messages: u64) {
    let stats = stats(service);
    let left = [stats.crashed, stats.retried, stats.late, stats.dead_lettered, stats.requeued];
    assert_eq!((stats.handled, left), (messages, [0; 5]), "{stats:?}");
}

#[actix::test]
async fn handlers_on_io_run_where_deliveries_arrive_and_others_do_not() {
    for asked in [true, false] {
        let vhost = vhost();
        let (app, out) = app(vhost.url());
        let (arrivals, (told, mut record)) = (Arrivals::default(), Told::new());
        let consume = if asked { on_io() } else { Consume::queue("q") };
        let app = app.observe(Arc::new(arrivals.clone())).consume(consume, move || Apart(told.clone()));
        let service = started(app).await;
        publish(&out, &["a", "b"]).await;
        for _ in 0..2 {
            let (_, _, thread) = given(&mut record).await;
            let arrived = arrivals.0.lock().unwrap().clone();
            assert!(arrived.iter().all(|arrived| (*arrived == thread) == asked), "{thread:?} of {arrived:?}");
        }
        until("acked", || stats(&service).handled == 2).await;
        assert_eq!((status(&service).on_io, status(&service).blocked_io), (asked, None));
        let threads = service.threads();
        assert_eq!(threads.iter().any(|thread| thread.name == "q/0"), !asked, "{threads:?}");
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn a_handler_that_blocks_costs_its_consumer_the_place_and_no_message_while_others_go_on() {
    let vhost = vhost();
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("other"));
    let app = App::new(broker(vhost.url()).heartbeat(Duration::from_secs(1))).topology(topology);
    let (out, to_other) = (app.publisher::<String>(Route::queue("q")), app.publisher(Route::queue("other")));
    let ((told, mut record), (other_told, mut other_record)) = (Told::new(), Told::new());
    let app = app
        .consume(on_io(), move || Apart(told.clone()))
        .consume(Consume::<String>::queue("other").on_io(), move || Apart(other_told.clone()));
    let service = started(app).await;
    publish(&out, &["before"]).await;
    let (_, _, io) = given(&mut record).await;
    // The messages behind it are in the process while the handler blocks, and are handled in their order.
    let behind: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let mut receipts = vec![out.enqueue("block".to_owned()).await.unwrap()];
    for text in &behind {
        receipts.push(out.enqueue(text.clone()).await.unwrap());
    }
    let mut handled = Vec::new();
    for _ in 0..51 {
        handled.push(given(&mut record).await);
    }
    let texts: Vec<&str> = handled.iter().map(|(text, ..)| &**text).collect();
    assert_eq!(texts[1..], behind, "in order");
    assert_eq!((texts[0], handled[0].2), ("block", io));
    let apart = handled.last().unwrap().2;
    assert_ne!(apart, io);
    until("all are acked", || stats(&service).handled == 52).await;
    nothing_was_lost(&service, 52);
    let moved = status(&service);
    assert!(!moved.on_io && moved.blocked_io.is_some_and(|blocked| blocked.took >= TOO_LONG), "{moved:?}");
    let health = service.health();
    assert!(health.is_ready() && health.to_string().contains("consumer q: its handlers are not on"), "{health}");
    // It goes on blocking, for longer than a heartbeat may take, and only its own thread.
    let blocks_until = Instant::now() + Duration::from_secs(4);
    let (mut blocked, mut others) = (0, 0);
    while Instant::now() < blocks_until {
        receipts.push(out.enqueue("block".to_owned()).await.unwrap());
        blocked += 1;
        soon("published", to_other.publish("go".to_owned())).await.unwrap();
        let (.., thread) = given(&mut other_record).await;
        assert_eq!(thread, io, "the other consumer keeps its promise and its place");
        others += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(others > 10, "the other consumer handled only {others}");
    for _ in 0..blocked {
        assert_eq!(given(&mut record).await.2, apart, "it stays there");
    }
    for connection in service.connections() {
        assert_eq!(connection.connects, 1, "{connection:?}");
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn messages_of_a_key_stay_in_order_over_a_move_single_or_in_batches() {
    const KEYS: &str = "abcdef";
    let vhost = vhost();
    let app = app_with_q(vhost.url());
    let single = app.publisher::<String>(Route::queue("q"));
    let batched = app.publisher::<String>(Route::queue("q").batch(Batching::default().max_items(20)));
    let (told, mut record) = Told::new();
    let consume = on_io().instances(3).ordered_by(key);
    let service = started(app.consume(consume, move || InContext(told.clone()))).await;
    let mut receipts = Vec::new();
    for number in 0..40 {
        for key in KEYS.chars() {
            let out = if number % 10 < 5 { &single } else { &batched };
            // One handler blocks in the middle of a batch.
            let block = if (key, number) == ('c', 17) { " block" } else { "" };
            receipts.push(out.enqueue(format!("{key}{number}{block}")).await.unwrap());
        }
        for receipt in receipts.drain(..) {
            receipt.confirmed().await.unwrap();
        }
    }
    let mut numbers = BTreeMap::<char, Vec<u32>>::new();
    for _ in 0..KEYS.len() * 40 {
        let (text, attempt, _) = given(&mut record).await;
        assert_eq!(attempt, 1, "{text}");
        let number = text[1..].split(' ').next().unwrap().parse().unwrap();
        numbers.entry(key(&text)).or_default().push(number);
    }
    for (key, numbers) in numbers {
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "of key {key}");
    }
    until("all are acked", || stats(&service).handled == 240).await;
    nothing_was_lost(&service, 240);
    assert!(status(&service).blocked_io.is_some());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_has_begun_on_io_is_answered_there_and_what_comes_then_is_handled_apart() {
    for (concurrency, in_context, waits_for_all) in [(10, false, false), (10, true, true), (1, false, true)] {
        let vhost = vhost();
        let (app, out) = app(vhost.url());
        let (told, mut record) = Told::new();
        let go = Arc::clone(&told.go);
        let consume = on_io().concurrency(concurrency);
        let app = match in_context {
            true => app.consume(consume, move || InContext(told.clone())),
            false => app.consume(consume, move || Apart(told.clone())),
        };
        let service = started(app).await;
        publish(&out, &["block and wait"]).await;
        let (_, _, io) = given(&mut record).await;
        until("it blocked", || status(&service).blocked_io.is_some()).await;
        publish(&out, &["then"]).await;
        if waits_for_all {
            // The actor would be at rest by now, if it were to leave what it has in hand.
            until("it waits", || status(&service).waiting == 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(record.try_recv().is_err(), "two at a time");
            go.notify_waiters();
        }
        let (text, attempt, thread) = given(&mut record).await;
        assert_eq!((&*text, attempt, thread == io), ("then", 1, false));
        go.notify_waiters();
        until("both are acked", || stats(&service).handled == 2).await;
        nothing_was_lost(&service, 2);
        service.shutdown().await.unwrap();
    }
}

#[actix::test]
async fn failures_and_panics_on_io_are_retried_there() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (told, mut record) = Told::new();
    let service = started(app.consume(on_io().retry(retry(3)), move || Apart(told.clone()))).await;
    publish(&out, &["fail", "panic", "last"]).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(given(&mut record).await);
    }
    assert!(all.iter().all(|(.., thread)| *thread == all[0].2), "{all:?}");
    for text in ["fail", "panic"] {
        let attempts: Vec<u32> = all.iter().filter(|one| one.0 == text).map(|one| one.1).collect();
        assert_eq!(attempts, [1, 2], "{text}");
    }
    until("all are handled", || stats(&service).handled == 3).await;
    assert!(status(&service).on_io);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_does_not_return_is_named_by_the_health_of_its_service() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (factory, mut record) = handlers(move |_| {
        let _ = released.lock().unwrap().recv();
        Act::Ok
    });
    let service = started(app.consume(on_io(), factory)).await;
    drop(out.enqueue("a".to_owned()).await.unwrap());
    until("it is not alive", || !service.health_within(Duration::from_millis(200)).is_alive()).await;
    let health = service.health_within(Duration::from_millis(200)).to_string();
    assert!(health.contains("thread io: has not answered") && health.contains("a handler of q blocks it"), "{health}");
    release.send(()).unwrap();
    next(&mut record).await;
    until("it is alive and its handlers have moved", || {
        service.health_within(Duration::from_millis(200)).is_alive() && !status(&service).on_io
    })
    .await;
    service.shutdown().await.unwrap();
}

/// Blocks for as long as the number in its text says, in milliseconds.
struct Blocks;

impl Actor for Blocks {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Blocks {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        thread::sleep(Duration::from_millis(text.parse()?));
        Ok(())
    }
}

#[test]
fn the_log_names_the_consumer_that_blocks_while_it_blocks_and_when_it_moves() {
    let program = service(this_test!(), Log::On, || async {
        let app = app_with_q(&std::env::var("AMQP_URL").unwrap());
        let out = app.publisher::<String>(Route::queue("q"));
        let service = started(app.consume(on_io(), || Blocks)).await;
        publish(&out, &["0"]).await;
        until("handled", || stats(&service).handled == 1).await;
        drop(out.enqueue("2500".to_owned()).await.unwrap());
        until("moved", || !status(&service).on_io).await;
        publish(&out, &["300"]).await;
        until("handled", || stats(&service).handled == 3).await;
        eprintln!("all is done");
        service.run_until_signal().await
    });
    let vhost = vhost();
    let process = program.env("AMQP_URL", vhost.url()).start();
    process.line(&["all is done"], SECONDS);
    process.signal("TERM");
    let (code, lines) = process.ended(SECONDS);
    assert_eq!(code, 0, "{lines:#?}");
    let lines = log(&lines);
    let loud: Vec<&String> = lines.iter().filter(|line| !line.starts_with("INFO")).collect();
    let [hangs, moves] = loud[..] else { panic!("{loud:#?}") };
    assert!(hangs.starts_with("ERROR") && hangs.contains("has not returned"), "{hangs}");
    assert!(moves.starts_with("WARN") && moves.contains("`Consume::on_io`"), "{moves}");
    for line in [hangs, moves] {
        assert_eq!(field(line, "consumer"), "q");
    }
    assert!(field(moves, "took").starts_with("2.5"), "{moves}");
    assert_eq!(with(&lines, "have threads of their own now").len(), 1, "{lines:#?}");
}
