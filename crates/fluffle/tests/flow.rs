//! What holds a service back before it drowns: circuit breakers and kill switches, rate limits, byte budgets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{
    amqp::{ConsumerState, ConsumerStats},
    prelude::*,
    supervise::NodeSnapshot,
    testing::TestBroker,
};
use support::{Act, handlers, next, retry, soon, started, until, vhost};
use tokio::sync::Semaphore;

/// A handler that begins at once, ends when the test lets it, and then fails as long as the test wants.
#[derive(Clone, Default)]
struct Downstream {
    begun: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    down: Arc<AtomicBool>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Downstream {
    fn down() -> Self {
        let downstream = Self::default();
        downstream.down.store(true, Ordering::SeqCst);
        downstream
    }

    fn heal(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    fn let_through(&self, count: usize) {
        self.gate.0.add_permits(count);
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Actor for Downstream {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Downstream {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (gate, down) = (Arc::clone(&self.gate), Arc::clone(&self.down));
        Box::pin(async move {
            gate.0.acquire().await?.forget();
            if down.load(Ordering::SeqCst) { Err(Failure::retry("the downstream is away")) } else { Ok(()) }
        })
    }
}

/// A service on a broker of its own that consumes `q`, and a publisher to it.
async fn service(
    broker: &TestBroker,
    consume: Consume<String>,
    downstream: &Downstream,
) -> (Service, Publisher<String>) {
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q"));
    let handler = downstream.clone();
    (started(app.consume(consume, move || handler.clone())).await, out)
}

async fn fill(out: &Publisher<String>, count: usize) {
    for number in 0..count {
        out.publish(number.to_string()).await.unwrap();
    }
}

fn stats(service: &Service) -> ConsumerStats {
    service.consumers()[0].1
}

async fn state(service: &Service, wanted: ConsumerState) {
    until(&format!("{wanted:?}"), || stats(service).state == wanted).await;
}

/// Ready, unacked, consumers.
fn queue(broker: &TestBroker, name: &str) -> (usize, usize, usize) {
    let snapshot = broker.snapshot().unwrap();
    let queue = snapshot.queue(name).unwrap();
    (queue.ready, queue.unacked, queue.consumers)
}

fn always(wait: Duration) -> Backoff {
    Backoff::exponential(wait, wait).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

/// Opens when three of three failed.
fn breaker(wait: Duration) -> CircuitBreaker {
    CircuitBreaker::new("downstream").ratio(1.0).unwrap().window(Window::last(3)).open_for(always(wait))
}

#[actix::test]
async fn an_open_circuit_breaker_leaves_in_the_queue_what_no_handler_has_begun() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::down();
    let consume = Consume::queue("q").prefetch(15).concurrency(3).retry(retry(5)).circuit_breaker(breaker(HOUR));
    let (service, out) = service(&broker, consume, &downstream).await;
    fill(&out, 20).await;
    until("three begun", || downstream.begun() == 3).await;
    assert_eq!(stats(&service).state, ConsumerState::Consuming);
    downstream.let_through(3);
    state(&service, ConsumerState::BreakerOpen).await;
    // The three failed ones come back to the queue after their waits; those begun meanwhile are still with their handlers.
    until("nobody consumes, and all but those begun is in the queue", || {
        let begun = downstream.begun() - 3;
        begun <= 3 && queue(&broker, "q") == (20 - begun, begun, 0)
    })
    .await;
    let begun = downstream.begun();
    downstream.heal();
    downstream.let_through(begun);
    until("what was begun is done", || stats(&service).handled as usize == begun - 3).await;
    assert_eq!(stats(&service).state, ConsumerState::BreakerOpen, "a late success does not close it");
    assert_eq!(downstream.begun(), begun, "nothing was begun while it was open");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_half_open_circuit_breaker_takes_its_probes_and_no_more_and_closes_when_they_succeed() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::down();
    let breaker = breaker(Duration::from_millis(50)).window(Window::last(1)).probes(2);
    let consume = Consume::queue("q").prefetch(3).concurrency(10).retry(retry(50)).circuit_breaker(breaker);
    let (service, out) = service(&broker, consume, &downstream).await;
    fill(&out, 20).await;
    until("three begun", || downstream.begun() == 3).await;
    downstream.let_through(1);
    state(&service, ConsumerState::Probing).await;
    until("two probes beside the two begun before, the others stay", || {
        downstream.begun() == 5 && queue(&broker, "q") == (16, 4, 1)
    })
    .await;
    // The gate is fair: what was begun before fails first, and means nothing any more; then the first probe.
    downstream.let_through(2);
    until("both wait for their retry", || stats(&service).retried == 3).await;
    assert_eq!(stats(&service).state, ConsumerState::Probing);
    downstream.let_through(1);
    until("it has opened again", || stats(&service).retried == 4 && downstream.begun() > 6).await;
    downstream.heal();
    downstream.let_through(100);
    until("all are handled", || stats(&service).handled == 20).await;
    assert_eq!(stats(&service).state, ConsumerState::Consuming);
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn on_rabbitmq_too_a_probe_is_delivered_while_handlers_hold_what_they_had_begun() {
    let vhost = vhost();
    let downstream = Downstream::down();
    let breaker = breaker(Duration::from_millis(50)).window(Window::last(1));
    let consume = Consume::queue("q").prefetch(3).concurrency(10).retry(retry(50)).circuit_breaker(breaker);
    let app = App::new(support::broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q"));
    let handler = downstream.clone();
    let service = started(app.consume(consume, move || handler.clone())).await;
    fill(&out, 10).await;
    until("three begun", || downstream.begun() == 3).await;
    downstream.let_through(1);
    until("a probe beside the two begun before", || downstream.begun() == 4).await;
    vhost.wait_depth("q", |depth| (depth.ready, depth.unacked) == (7, 3));
    downstream.heal();
    downstream.let_through(100);
    until("all are handled", || stats(&service).handled == 10).await;
    assert_eq!(stats(&service).state, ConsumerState::Consuming);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_connection_does_not_close_a_circuit_breaker() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::down();
    let consume = Consume::queue("q").retry(retry(5)).circuit_breaker(breaker(HOUR));
    let (service, out) = service(&broker, consume, &downstream).await;
    fill(&out, 3).await;
    downstream.let_through(3);
    state(&service, ConsumerState::BreakerOpen).await;
    until("all three wait", || queue(&broker, "q") == (3, 0, 0)).await;
    broker.kill().unwrap();
    until("lost", || service.connections().iter().all(|one| !one.connected)).await;
    broker.start_again().unwrap();
    until("connected", || service.connections().iter().all(|one| one.connected)).await;
    soon("ready", service.ready()).await.unwrap();
    assert_eq!(queue(&broker, "q"), (3, 0, 0));
    assert!(service.resume_consumer("q").unwrap());
    downstream.heal();
    downstream.let_through(3);
    until("all are handled", || stats(&service).handled == 3).await;
    assert!(!service.resume_consumer("q").unwrap(), "nothing had stopped it");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn consumers_that_share_a_circuit_breaker_stop_together() {
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("other").dead_letter());
    let app = App::new(broker.client().unwrap()).topology(topology);
    let out = app.publisher(Route::<String>::queue("q"));
    let (failing, _failed) = handlers(|_| Act::Err(Failure::retry("away")));
    let (working, _worked) = handlers(|_| Act::Ok);
    let shared = breaker(HOUR);
    let app = app
        .consume(Consume::queue("q").circuit_breaker(shared.clone()), failing)
        .consume(Consume::queue("other").circuit_breaker(shared), working);
    let service = started(app).await;
    fill(&out, 3).await;
    until("neither consumes", || queue(&broker, "q").2 == 0 && queue(&broker, "other").2 == 0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_kill_switch_stops_its_consumer_before_the_queue_is_in_the_dead_letter_queue_and_resume_starts_it() {
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("other").dead_letter());
    let app = App::new(broker.client().unwrap()).topology(topology);
    let (out, to_other) = (app.publisher(Route::<String>::queue("q")), app.publisher(Route::<String>::queue("other")));
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = Arc::clone(&bad);
    let (handler, mut record) = handlers(move |_| match is_bad.load(Ordering::SeqCst) {
        true => Act::Err(Failure::reject("a bad release")),
        false => Act::Ok,
    });
    let (other, mut others) = handlers(|_| Act::Ok);
    let switch = KillSwitch::new(0.5, Window::last(10).at_least(4)).unwrap();
    let consume = Consume::queue("q").prefetch(1).kill_switch(switch);
    let service = started(app.consume(consume, handler).consume(Consume::queue("other"), other)).await;

    fill(&out, 20).await;
    state(&service, ConsumerState::Killed).await;
    until("it stopped after four", || queue(&broker, "q") == (16, 0, 0)).await;
    assert_eq!(queue(&broker, "q.dead").0, 4);
    to_other.publish("elsewhere".to_owned()).await.unwrap();
    assert_eq!(next(&mut others).await.text, "elsewhere");

    bad.store(false, Ordering::SeqCst);
    assert!(!service.resume_consumer("other").unwrap());
    assert!(service.resume_consumer("q").unwrap());
    broker.settled(&service).await.unwrap();
    assert_eq!((stats(&service).handled, stats(&service).state), (16, ConsumerState::Consuming));
    assert_eq!(std::iter::from_fn(|| record.try_recv().ok()).count(), 20);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_kill_switch_with_a_restart_tries_one_message_and_stops_again_when_that_is_a_dead_letter_too() {
    let broker = TestBroker::start().unwrap();
    // What is given back keeps its place in a classic queue; in a quorum queue it may come last.
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q").dead_letter()));
    let out = app.publisher(Route::<String>::queue("q"));
    let rest = Duration::from_millis(500);
    // Four bad ones, then good ones.
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (handler, _record) = handlers({
        let begun = Arc::clone(&begun);
        move |seen| {
            begun.lock().unwrap().push(Instant::now());
            match seen.text.parse::<usize>() {
                Ok(0..4) => Act::Err(Failure::reject("bad")),
                _ => Act::Ok,
            }
        }
    });
    let switch = KillSwitch::new(1.0, Window::last(2)).unwrap().restart_after(rest);
    let service = started(app.consume(Consume::queue("q").prefetch(2).kill_switch(switch), handler)).await;
    fill(&out, 20).await;
    until("the fifth was tried", || begun.lock().unwrap().len() > 4).await;
    // It was stopped before the third, the fourth and the fifth: a rest lies before each of them, and each came alone.
    let begun: Vec<Instant> = begun.lock().unwrap()[..5].to_vec();
    assert!(begun[1..].windows(2).all(|pair| pair[1] - pair[0] >= rest), "{begun:?}");
    broker.settled(&service).await.unwrap();
    assert_eq!((stats(&service).dead_lettered, stats(&service).handled), (4, 16));
    assert_eq!(stats(&service).state, ConsumerState::Consuming);
    service.shutdown().await.unwrap();
}

/// All that was published has been received; so many of it handlers have begun, and the rest waits.
async fn held_back(service: &Service, downstream: &Downstream, received: usize, begun: usize) {
    until(&format!("{begun} of {received} begun, the others wait"), || {
        let snapshot = service.snapshot();
        let consumer = find(&snapshot, "consumer").unwrap();
        let waiting = consumer.mailbox.unwrap().waiting;
        (stats(service).received as usize, downstream.begun(), waiting) == (received, begun, received - begun)
    })
    .await;
}

fn find<'a>(node: &'a NodeSnapshot, id: &str) -> Option<&'a NodeSnapshot> {
    if &*node.id == id { Some(node) } else { node.children.iter().find_map(|child| find(child, id)) }
}

#[actix::test]
async fn a_rate_limit_hands_out_its_burst_and_then_at_its_rate() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    downstream.let_through(100);
    let consume = Consume::queue("q").instances(2).rate_limit(RateLimit::per_minute(1, 5));
    let (service, out) = service(&broker, consume, &downstream).await;
    fill(&out, 20).await;
    held_back(&service, &downstream, 20, 5).await;
    // What waits is not lost to a shutdown: it goes back.
    service.shutdown().await.unwrap();
    until("back in the queue", || queue(&broker, "q") == (15, 0, 0)).await;
}

#[actix::test]
async fn a_rate_limit_holds_nothing_back_for_ever() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    downstream.let_through(100);
    let limit = RateLimit::per_second(200, 1);
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q").rate_limit(limit.clone()));
    let handler = downstream.clone();
    let service = started(app.consume(Consume::queue("q").rate_limit(limit), move || handler.clone())).await;
    fill(&out, 20).await;
    broker.settled(&service).await.unwrap();
    assert_eq!(downstream.begun(), 20);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_publisher_past_its_rate_limit_waits_and_is_overloaded_at_its_deadline() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let route = Route::<String>::queue("q").rate_limit(RateLimit::per_minute(1, 3));
    let out = app.publisher(route.deadline(Duration::from_millis(200)));
    let service = started(app).await;
    out.publish("one".to_owned()).await.unwrap();
    out.try_enqueue("two".to_owned()).unwrap().confirmed().await.unwrap();
    drop(out.enqueue("three".to_owned()).await.unwrap());
    let refused = soon("refused", out.publish("four".to_owned())).await.unwrap_err();
    assert!(matches!(refused.kind(), PublishErrorKind::Overloaded), "{refused}");
    assert!(matches!(out.try_enqueue("five".to_owned()).unwrap_err().kind(), PublishErrorKind::Full));
    out.flush().await;
    assert_eq!(queue(&broker, "q").0, 3);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn handlers_have_no_more_in_hand_than_the_byte_budget_and_a_larger_message_goes_alone() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").max_bytes_in_flight(1000).instances(2);
    let (service, out) = service(&broker, consume, &downstream).await;
    for bytes in [400, 400, 400, 5000, 400] {
        out.publish("x".repeat(bytes)).await.unwrap();
    }
    // Two; the third when one is done, beside the second; the large one when nobody has anything; the last after it.
    for (done, begun) in [(0, 2), (1, 3), (2, 3), (3, 4), (4, 5)] {
        downstream.let_through(usize::from(done > 0));
        until("done", || stats(&service).handled == done).await;
        held_back(&service, &downstream, 5, begun).await;
    }
    downstream.let_through(1);
    broker.settled(&service).await.unwrap();
    assert_eq!(stats(&service).handled, 5);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_a_compressed_message_unpacks_to_counts_against_the_byte_budget() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher(Route::queue("q").gzip(Gzip::auto()));
    let handler = downstream.clone();
    let service = started(app.consume(Consume::queue("q").max_bytes_in_flight(10_000), move || handler.clone())).await;
    for _ in 0..3 {
        out.publish("x".repeat(50_000)).await.unwrap();
    }
    for begun in 1..=3 {
        held_back(&service, &downstream, 3, begun).await;
        downstream.let_through(1);
    }
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_publisher_takes_no_more_bytes_than_it_has_room_for_while_the_broker_is_away() {
    let broker = TestBroker::start().unwrap();
    broker.kill().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let route = Route::<String>::queue("q").max_bytes_in_flight(1000);
    let out = app.publisher(route.deadline(Duration::from_millis(200)));
    let service = app.start().await.unwrap();
    let text = || "x".repeat(400);
    for _ in 0..2 {
        drop(out.enqueue(text()).await.unwrap());
    }
    let refused = soon("refused", out.enqueue(text())).await.unwrap_err();
    assert!(matches!(refused.kind(), PublishErrorKind::Overloaded), "{refused}");
    assert!(matches!(out.try_enqueue(text()).unwrap_err().kind(), PublishErrorKind::Full));
    assert_eq!(refused.message, text(), "it is handed back");
    drop(out.enqueue("there is room for little".to_owned()).await.unwrap());
    broker.start_again().unwrap();
    soon("confirmed", out.flush()).await;
    out.publish("x".repeat(3000)).await.expect("larger than all the room, and alone");
    assert_eq!(queue(&broker, "q").0, 4);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_waits_too_long_for_a_handler_goes_back_to_the_queue_and_no_attempt_is_charged() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").prefetch(2).concurrency(1).give_back_after(Duration::from_millis(100));
    let (busy, out) = service(&broker, consume, &downstream).await;
    out.publish("begun".to_owned()).await.unwrap();
    until("begun", || downstream.begun() == 1).await;
    out.publish("waiting".to_owned()).await.unwrap();
    until("given back", || stats(&busy).requeued > 0).await;

    let (factory, mut record) = handlers(|_| Act::Ok);
    let idle = started(App::new(broker.client().unwrap()).consume(Consume::queue("q"), factory)).await;
    let seen = next(&mut record).await;
    assert_eq!((seen.text.as_str(), seen.attempt, seen.redelivered), ("waiting", 1, true));
    assert_eq!(downstream.begun(), 1);
    downstream.let_through(1);
    broker.settled(&busy).await.unwrap();
    assert_eq!((stats(&busy).handled, stats(&busy).retried), (1, 0), "what a handler has is not given back");
    busy.shutdown().await.unwrap();
    idle.shutdown().await.unwrap();
}

#[actix::test]
async fn a_long_queue_of_slow_messages_does_not_have_the_broker_close_the_channel() {
    let timeout = Duration::from_secs(2);
    let broker: TestBroker = fluffle::broker::Broker::builder().consumer_timeout(timeout).start().unwrap().into();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").concurrency(1).consumer_timeout(timeout).handler_timeout(timeout / 4);
    let (service, out) = service(&broker, consume.retry(retry(100)), &downstream).await;
    // Each takes its handler_timeout and fails: the last ones would wait for longer than the broker does.
    fill(&out, 10).await;
    until("twice the broker's patience", || stats(&service).retried >= 8).await;
    let snapshot = service.snapshot();
    let channel = find(find(&snapshot, "consume").unwrap(), "channel").unwrap();
    assert_eq!(channel.restarts, 0, "{snapshot}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_hangs_while_its_channel_is_lost_gives_its_place_to_the_next_message() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").concurrency(1).handler_timeout(Duration::from_secs(1)).retry(Retry::none());
    let (service, out) = service(&broker, consume, &downstream).await;
    out.publish("hangs".to_owned()).await.unwrap();
    until("begun", || downstream.begun() == 1).await;
    broker.kill().unwrap();
    broker.start_again().unwrap();
    until("delivered again and begun again", || downstream.begun() == 2).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_hangs_keeps_its_bytes_until_its_message_is_settled_without_it() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").max_bytes_in_flight(500).handler_timeout(Duration::from_millis(200));
    let (service, out) = service(&broker, consume.retry(Retry::none()), &downstream).await;
    for _ in 0..2 {
        out.publish("x".repeat(400)).await.unwrap();
    }
    until("the second is begun when the first is a dead letter", || downstream.begun() == 2).await;
    assert!(stats(&service).dead_lettered >= 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn at_most_once_too_a_handler_that_hangs_keeps_its_bytes_no_longer_than_its_time() {
    let broker = TestBroker::start().unwrap();
    let downstream = Downstream::default();
    let consume = Consume::queue("q").guarantee(AtMostOnce).max_bytes_in_flight(500);
    let consume = consume.handler_timeout(Duration::from_millis(200));
    let (service, out) = service(&broker, consume, &downstream).await;
    for _ in 0..2 {
        out.publish("x".repeat(400)).await.unwrap();
    }
    until("the second is begun when the first is given up", || downstream.begun() == 2).await;
    assert!(stats(&service).dropped >= 1);
    service.shutdown().await.unwrap();
}
