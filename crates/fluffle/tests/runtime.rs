//! Consumers of a running service: paused, resumed, added and removed, with work in hand, in order, and with
//! connections lost in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{
    amqp::{ConsumerState, ConsumerStats, ServiceError},
    broker::{Fault, Proxy, Rule, Target},
    prelude::*,
};
use support::*;
use tokio::{sync::Semaphore, task::JoinHandle};

/// Answers when the test lets it.
struct Gated {
    seen: tokio::sync::mpsc::UnboundedSender<Seen>,
    gate: Arc<Semaphore>,
}

impl Actor for Gated {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Gated {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (gate, redelivered) = (Arc::clone(&self.gate), text.redelivered());
        let seen = Seen { text: text.clone(), attempt: text.attempt(), redelivered, instance: 0 };
        self.seen.send(seen).unwrap();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

/// Handlers that answer as often as the gate has permits, and the record of what they began.
fn gated() -> (impl Fn() -> Gated + Send + Sync + 'static, Record, Arc<Semaphore>) {
    let (seen, record) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let handed_out = Arc::clone(&gate);
    (move || Gated { seen: seen.clone(), gate: Arc::clone(&handed_out) }, record, gate)
}

/// A service on queue `q`, behind a proxy that can take the broker away.
struct Bench {
    place: Place,
    proxy: Proxy,
    service: Service,
    out: Publisher<String>,
    record: Record,
    gate: Arc<Semaphore>,
    raw: Raw,
}

/// As many permits as any test has messages.
const ALL: usize = 1_000;

impl Bench {
    async fn start(consume: Consume<String>, drain: Duration) -> Self {
        let place = vhost();
        let proxy = Proxy::start(([127, 0, 0, 1], place.port()).into()).unwrap();
        let app = App::new(broker(&proxy.url_for(place.url())).name(place.name()))
            .topology(Topology::new().queue(Queue::quorum("q").dead_letter()))
            .drain_within(drain);
        let out = app.publisher::<String>(Route::queue("q"));
        let (factory, record, gate) = gated();
        let service = started(app.consume(consume, factory)).await;
        let raw = Raw::connect(place.url()).await;
        Self { place, proxy, service, out, record, gate, raw }
    }

    async fn publish(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            soon("published", self.out.publish(number.to_string())).await.unwrap();
        }
    }

    /// Waits until handlers have begun so many more messages, and gives them.
    async fn begun(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(next(&mut self.record).await.text);
        }
        texts
    }

    fn stats(&self) -> ConsumerStats {
        self.service.consumers()[0].1
    }

    async fn is(&self, state: ConsumerState) {
        until(&format!("{state:?}"), || self.service.consumers().iter().all(|(_, one)| one.state == state)).await;
    }

    fn pausing(&self) -> JoinHandle<Result<(), ServiceError>> {
        let service = self.service.clone();
        actix_rt::spawn(async move { service.pause_consumer("q").await })
    }

    fn removing(&self) -> JoinHandle<Result<(), ServiceError>> {
        let service = self.service.clone();
        actix_rt::spawn(async move { service.remove_consumer("q").await })
    }

    /// Until so many are ready and nobody has a subscription, or messages unacked that an ended subscription brought:
    /// RabbitMQ counts those as well.
    async fn rest(&self, ready: usize) {
        self.wait_for(ready, 0).await;
    }

    async fn wait_for(&self, ready: usize, consumers: usize) {
        soon(&format!("{ready} ready and {consumers} consumers"), async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while self.counts().await != (ready, consumers) {
                look.tick().await;
            }
        })
        .await;
    }

    /// Until the consumer has taken back what no handler had begun.
    async fn let_go(&self, node: &str) {
        let node = format!("app/consume/consume-0/channels/{node}/consumer");
        let waiting =
            || self.service.snapshot().find(&node).and_then(|node| node.mailbox).map_or(0, |depth| depth.waiting);
        until("nothing waits for a handler", || waiting() == 0).await;
    }

    /// Ready messages and consumers of `q`, as they are now: what RabbitMQ lists of a queue may be some seconds old.
    async fn counts(&self) -> (usize, usize) {
        let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        // A test may have closed all connections.
        let raw = Raw::connect(self.place.url()).await;
        let declared = raw.channel().queue_declare("q".into(), options, Default::default()).await.unwrap();
        (declared.message_count() as usize, declared.consumer_count() as usize)
    }

    /// Until [`the_broker_is_back`](Self::the_broker_is_back).
    async fn the_broker_goes_away(&self) {
        self.proxy.faults().inject(Rule::new(Fault::Refuse)).unwrap();
        self.proxy.faults().strike(Fault::Cut, Target::all()).unwrap();
        until("lost", || self.service.connections().iter().all(|one| !one.connected)).await;
    }

    async fn the_broker_is_back(&self) {
        self.proxy.faults().heal_all().unwrap();
        until("connected", || self.service.connections().iter().all(|one| one.connected)).await;
        soon("ready", self.service.ready()).await.unwrap();
    }
}

const DRAIN: Duration = Duration::from_secs(60);

/// Leaves handlers 750 ms.
const SHORT: Duration = Duration::from_secs(1);

fn q() -> Consume<String> {
    Consume::queue("q")
}

#[actix::test]
async fn what_is_in_hand_at_a_pause_is_finished_and_acked_once_and_the_rest_waits_in_the_queue_in_order() {
    let mut bench = Bench::start(q().prefetch(10).concurrency(2), DRAIN).await;
    bench.publish(0..10).await;
    assert_eq!(bench.begun(2).await, ["0", "1"]);
    let pausing = bench.pausing();
    bench.is(ConsumerState::Paused).await;
    bench.let_go("q").await;
    assert!(!pausing.is_finished(), "two are in hand");
    bench.gate.add_permits(2);
    soon("paused", pausing).await.unwrap().unwrap();
    bench.rest(8).await;
    assert_eq!((bench.stats().handled, bench.stats().requeued), (2, 0));
    soon("ready", bench.service.ready()).await.unwrap();
    let node = "app/consume/consume-0/channels/q/consumer";
    let note = bench.service.snapshot().find(node).expect("it keeps its place in the tree").note.clone();
    assert_eq!(note.as_deref(), Some("paused"));
    soon("again", bench.service.pause_consumer("q")).await.unwrap();
    assert!(bench.record.try_recv().is_err(), "nothing is begun while it is paused");

    bench.gate.add_permits(ALL);
    assert!(bench.service.resume_consumer("q").unwrap());
    assert!(!bench.service.resume_consumer("q").unwrap(), "nothing had stopped it");
    assert_eq!(bench.begun(8).await, ["2", "3", "4", "5", "6", "7", "8", "9"]);
    until("all are handled", || bench.stats().handled == 10).await;
    assert_eq!(bench.stats().state, ConsumerState::Consuming);
    assert_eq!(bench.service.snapshot().find(node).unwrap().note, None);
    bench.service.shutdown().await.unwrap();
    bench.rest(0).await;
    assert!(bench.record.try_recv().is_err(), "each was handled once");
}

#[actix::test]
async fn each_key_keeps_its_order_over_pauses_and_nothing_is_handled_twice() {
    const MANY: usize = 400;
    let consume =
        q().prefetch(40).instances(3).ordered_by(|text: &String| text.len() + text.as_bytes()[0] as usize % 4);
    let mut bench = Bench::start(consume, DRAIN).await;
    bench.publish(0..MANY).await;
    let mut seen = Vec::new();
    for round in 1..=8 {
        let (gate, service) = (Arc::clone(&bench.gate), bench.service.clone());
        gate.add_permits(20);
        seen.extend(bench.begun(20).await);
        // Whatever is in hand just then is let through while it is paused.
        let pausing = bench.pausing();
        bench.is(ConsumerState::Paused).await;
        bench.gate.add_permits(40);
        soon("paused", pausing).await.unwrap().unwrap_or_else(|error| panic!("{round}: {error}"));
        while let Ok(one) = bench.record.try_recv() {
            seen.push(one.text);
        }
        bench.rest(MANY - seen.len()).await;
        bench.gate.forget_permits(ALL);
        service.resume_consumer("q").unwrap();
    }
    bench.gate.add_permits(ALL);
    while seen.len() < MANY {
        seen.extend(bench.begun(1).await);
    }
    until("all are handled", || bench.stats().handled == MANY as u64).await;
    let mut keys: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for text in &seen {
        keys.entry(text.len() + text.as_bytes()[0] as usize % 4).or_default().push(text.parse().unwrap());
    }
    assert!(keys.len() > 3 && keys.values().all(|of_key| of_key.is_sorted()), "{keys:?}");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), MANY);
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn all_lanes_of_a_consumer_pause_and_no_other_consumer_does() {
    let bench = Bench::start(q().lanes(3), DRAIN).await;
    let (others, mut other) = handlers(|_| Act::Ok);
    bench.service.consume(Consume::queue("q.dead"), others).await.unwrap();
    soon("ready", bench.service.ready()).await.unwrap();
    bench.wait_for(0, 3).await;
    soon("paused", bench.service.pause_consumer("q")).await.unwrap();
    bench.publish(0..3).await;
    bench.rest(3).await;
    let states: Vec<_> = bench.service.consumers().into_iter().map(|(_, one)| one.state).collect();
    assert_eq!(states, [ConsumerState::Paused, ConsumerState::Paused, ConsumerState::Paused, ConsumerState::Consuming]);
    let raw = Raw::connect(bench.place.url()).await;
    raw.put("q.dead", b"\x0a\x05other", Default::default()).await;
    assert_eq!(next(&mut other).await.text, "other");
    bench.gate.add_permits(ALL);
    bench.service.resume_consumer("q").unwrap();
    bench.wait_for(0, 3).await;
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn at_most_once_what_was_delivered_is_handled_before_the_pause_is_over_and_nothing_is_dropped() {
    let mut bench = Bench::start(q().guarantee(AtMostOnce).prefetch(4).concurrency(1), DRAIN).await;
    bench.publish(0..20).await;
    bench.begun(1).await;
    let pausing = bench.pausing();
    bench.is(ConsumerState::Paused).await;
    assert!(!pausing.is_finished());
    bench.gate.add_permits(ALL);
    soon("paused", pausing).await.unwrap().unwrap();
    let stats = bench.stats();
    assert!(stats.received > 1 && stats.received < 20, "{stats:?}");
    assert_eq!((stats.handled, stats.dropped), (stats.received, 0));
    bench.rest(20 - stats.received as usize).await;
    bench.service.resume_consumer("q").unwrap();
    bench.begun(19).await;
    until("all are handled", || bench.stats().handled == 20).await;
    assert_eq!(bench.stats().dropped, 0);
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_connection_lost_in_the_middle_of_a_pause_ends_neither_the_pause_nor_the_wait_for_the_handler() {
    let mut bench = Bench::start(q().concurrency(1), DRAIN).await;
    bench.publish(0..3).await;
    bench.begun(1).await;
    let pausing = bench.pausing();
    bench.is(ConsumerState::Paused).await;
    bench.place.close_connections("a test closes the connection");
    until("connected again", || bench.service.connections()[1].connects == 2).await;
    soon("ready", bench.service.ready()).await.unwrap();
    bench.rest(3).await;
    assert!(!pausing.is_finished(), "the handler is at work");
    bench.gate.add_permits(1);
    soon("paused", pausing).await.unwrap().unwrap();
    until("its ack was lost", || bench.stats().work_done_ack_lost == 1).await;
    assert_eq!((bench.stats().handled, bench.stats().state), (0, ConsumerState::Paused));
    bench.rest(3).await;
    bench.gate.add_permits(ALL);
    bench.service.resume_consumer("q").unwrap();
    assert_eq!(bench.begun(3).await, ["0", "1", "2"]);
    until("all are handled", || bench.stats().handled == 3).await;
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_is_paused_while_the_broker_is_away_and_stays_so_until_it_is_resumed() {
    let mut bench = Bench::start(q().concurrency(1), DRAIN).await;
    bench.publish(0..3).await;
    bench.begun(1).await;
    bench.the_broker_goes_away().await;
    let pausing = bench.pausing();
    bench.is(ConsumerState::Paused).await;
    // It is looked at again and again meanwhile.
    assert!(tokio::time::timeout(Duration::from_millis(100), bench.record.recv()).await.is_err());
    assert!(!pausing.is_finished(), "the handler is at work");
    bench.gate.add_permits(ALL);
    soon("paused, though the broker is away", pausing).await.unwrap().unwrap();
    bench.the_broker_is_back().await;
    bench.rest(3).await;
    assert_eq!(bench.stats().state, ConsumerState::Paused);
    assert!(bench.record.try_recv().is_err(), "what had been delivered and not begun is not begun");
    // Paused, it is lost once more and resumed while nobody can tell the broker.
    bench.the_broker_goes_away().await;
    assert!(bench.service.resume_consumer("q").unwrap());
    bench.the_broker_is_back().await;
    assert_eq!(bench.begun(3).await, ["0", "1", "2"]);
    until("all are handled", || bench.stats().handled == 3).await;
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_pause_that_handlers_hold_up_says_how_many_are_left_and_lasts() {
    let mut bench = Bench::start(q().concurrency(2), SHORT).await;
    bench.publish(0..4).await;
    bench.begun(2).await;
    // Dropped while it waits, it pauses all the same.
    let dropped = bench.pausing();
    bench.is(ConsumerState::Paused).await;
    dropped.abort();
    let error = soon("in time", bench.service.pause_consumer("q")).await.unwrap_err();
    assert!(matches!(&error, ServiceError::StillInHand { queue, left: 2, .. } if queue == "q"), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("`q`") && text.contains("750ms") && text.contains("2 messages"), "{text}");
    bench.gate.add_permits(2);
    soon("the next wait", bench.service.pause_consumer("q")).await.unwrap();
    bench.rest(2).await;
    assert_eq!((bench.stats().handled, bench.stats().state), (2, ConsumerState::Paused));
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_queue_without_a_consumer_is_an_error_that_lists_those_that_have_one() {
    let place = vhost();
    let service = started(App::new(broker(place.url())).topology(Topology::new().queue(Queue::quorum("q")))).await;
    let none = service.pause_consumer("q").await.unwrap_err().to_string();
    assert!(none.contains("queue `q`") && none.contains("no consumers"), "{none}");
    for queue in ["b", "a", "b"] {
        let raw = Raw::connect(place.url()).await;
        raw.channel().queue_declare(queue.into(), Default::default(), Default::default()).await.unwrap();
        let (factory, _record) = handlers(|_| Act::Ok);
        service.consume(Consume::<String>::queue(queue), factory).await.unwrap();
    }
    let errors = [
        service.pause_consumer("q").await.unwrap_err(),
        service.resume_consumer("q").unwrap_err(),
        service.remove_consumer("q").await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("consumers of `a`, `b`"), "{error}");
        assert!(matches!(error, ServiceError::UnknownConsumer { queue, .. } if queue == "q"));
    }
    service.shutdown().await.unwrap();
}

/// Handles the same queue as another type.
struct Bytes(tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

impl Actor for Bytes {
    type Context = Context<Self>;
}

impl Handler<Delivery<Vec<u8>>> for Bytes {
    type Result = Result<(), Failure>;

    fn handle(&mut self, bytes: Delivery<Vec<u8>>, _: &mut Self::Context) -> Self::Result {
        self.0.send(bytes.clone())?;
        Ok(())
    }
}

#[actix::test]
async fn what_is_in_hand_at_a_removal_is_finished_and_acked_once_and_the_queue_may_have_a_consumer_of_another_type() {
    let mut bench = Bench::start(q().prefetch(10).concurrency(2), DRAIN).await;
    bench.publish(0..5).await;
    assert_eq!(bench.begun(2).await, ["0", "1"]);
    let removing = bench.removing();
    until("nobody pauses or resumes it any more", || bench.service.consumers().is_empty()).await;
    bench.let_go("q").await;
    assert!(!removing.is_finished(), "two are in hand");
    let node = "app/consume/consume-0/channels/q";
    assert!(bench.service.snapshot().find(node).is_some() && bench.service.snapshot().find("app/handlers/q").is_some());
    bench.gate.add_permits(ALL);
    soon("removed", removing).await.unwrap().unwrap();
    assert!(bench.service.snapshot().find(node).is_none() && bench.service.snapshot().find("app/handlers/q").is_none());
    bench.rest(3).await;
    assert!(bench.record.try_recv().is_err());
    assert!(matches!(bench.service.remove_consumer("q").await, Err(ServiceError::UnknownConsumer { .. })));
    until("its copies have no publisher", || {
        bench.service.publishers().iter().all(|(name, _)| name == "q") && bench.service.publishers().len() == 1
    })
    .await;

    let (seen, mut bytes) = tokio::sync::mpsc::unbounded_channel();
    bench.service.consume(Consume::queue("q"), move || Bytes(seen.clone())).await.unwrap();
    soon("ready", bench.service.ready()).await.unwrap();
    assert!(bench.service.snapshot().find(node).is_some(), "under the same name");
    // A string cannot be read as bytes: each ends as a dead letter of the new consumer's.
    bench.place.wait_depth("q.dead", |depth| depth.ready == 3);
    assert!(bytes.try_recv().is_err());
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_removal_that_handlers_hold_up_cuts_them_off_in_time_and_charges_no_attempt() {
    let mut bench = Bench::start(q().concurrency(1), SHORT).await;
    bench.publish(0..2).await;
    bench.begun(1).await;
    let begun = Instant::now();
    let error = soon("in time", bench.service.remove_consumer("q")).await.unwrap_err();
    assert!(matches!(&error, ServiceError::CutOff { queue, left: 1, .. } if queue == "q"), "{error:?}");
    assert!(begun.elapsed() < 2 * SHORT * 3 / 4, "they have their time once: {:?}", begun.elapsed());
    bench.rest(2).await;
    let raw = Raw::connect(bench.place.url()).await;
    let first = raw.take("q").await;
    assert_eq!(first.body, b"\x0a\x010");
    assert_eq!(first.header("x-fluffle-attempt"), None);
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_removal_whose_connection_is_lost_in_the_middle_gets_done_and_the_queue_is_consumed_again_by_the_next() {
    let mut bench = Bench::start(q().concurrency(1), DRAIN).await;
    bench.publish(0..3).await;
    bench.begun(1).await;
    // Dropped, it goes on.
    let dropped = bench.removing();
    until("it is in no list", || bench.service.consumers().is_empty()).await;
    dropped.abort();
    bench.the_broker_goes_away().await;
    assert!(bench.service.snapshot().find("app/handlers/q").is_some(), "its handler is at work");
    let (factory, mut record) = handlers(|_| Act::Ok);
    bench.service.consume(q(), factory).await.expect("added while the other goes, with the broker away");
    bench.gate.add_permits(ALL);
    until("its handlers are gone", || bench.service.snapshot().find("app/handlers/q").is_none()).await;
    assert!(bench.record.try_recv().is_err(), "what was delivered and not begun is not begun");
    bench.the_broker_is_back().await;
    for text in ["0", "1", "2"] {
        assert_eq!(next(&mut record).await.text, text);
    }
    let channels = || bench.service.snapshot().find("app/consume/consume-0/channels").unwrap().children.len();
    until("one channel is left", || channels() == 1).await;
    bench.wait_for(0, 1).await;
    soon("the one that was added", bench.service.remove_consumer("q")).await.unwrap();
    assert_eq!(channels(), 0);
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_removal_resolves_while_the_broker_is_away() {
    let bench = Bench::start(q(), DRAIN).await;
    bench.the_broker_goes_away().await;
    soon("removed", bench.service.remove_consumer("q")).await.unwrap();
    bench.the_broker_is_back().await;
    bench.publish(0..2).await;
    bench.rest(2).await;
    until("its place is free", || {
        bench.service.snapshot().find("app/consume/consume-0/channels").unwrap().children.is_empty()
    })
    .await;
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_that_is_added_and_removed_before_the_first_connection_leaves_nothing() {
    let place = vhost();
    let proxy = Proxy::start(([127, 0, 0, 1], place.port()).into()).unwrap();
    let refusing = proxy.faults().inject(Rule::new(Fault::Refuse)).unwrap();
    let topology = Topology::new().queue(Queue::quorum("q"));
    let app = App::new(broker(&proxy.url_for(place.url()))).topology(topology);
    let out = app.publisher::<String>(Route::queue("q"));
    let service = app.start().await.unwrap();
    let (gone, mut nothing) = handlers(|_| Act::Ok);
    service.consume(q(), gone).await.unwrap();
    soon("removed", service.remove_consumer("q")).await.unwrap();
    let (factory, mut record) = handlers(|_| Act::Ok);
    service.consume(q(), factory).await.expect("added while the broker is away");
    refusing.heal().unwrap();
    soon("ready", service.ready()).await.unwrap();
    soon("published", out.publish("a".to_owned())).await.unwrap();
    assert_eq!(next(&mut record).await.text, "a");
    place.wait_depth("q", |depth| (depth.ready, depth.unacked, depth.consumers) == (0, 0, 1));
    until("one channel", || service.snapshot().find("app/consume/consume-0/channels").unwrap().children.len() == 1)
        .await;
    assert!(nothing.try_recv().is_err());
    service.shutdown().await.unwrap();
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[actix::test]
async fn adding_and_removing_a_consumer_a_hundred_times_leaves_no_channel_connection_or_thread_behind() {
    let mut bench = Bench::start(q(), DRAIN).await;
    bench.gate.add_permits(ALL);
    let raw = &bench.raw;
    raw.channel().queue_declare("extra".into(), Default::default(), Default::default()).await.unwrap();
    let at_the_broker = |place: &Place| {
        let open = place.connections().into_iter();
        let mut all: Vec<_> = open.map(|one| (one.client_name, one.channels)).collect();
        all.sort();
        all
    };
    let nodes = |service: &Service| service.snapshot().to_string().lines().count();
    // The first time, what there is once for all comes into being.
    let mut before = None;
    for round in 0..=100 {
        let (factory, mut record) = handlers(|_| Act::Ok);
        let consume = Consume::queue("extra").lanes(2).instances(2);
        bench.service.consume(consume, factory).await.unwrap();
        soon("ready", bench.service.ready()).await.unwrap();
        raw.put("extra", b"\x0a\x01a", Default::default()).await;
        assert_eq!(next(&mut record).await.text, "a");
        soon("removed", bench.service.remove_consumer("extra")).await.unwrap();
        if round == 0 {
            until("its copies have no publisher", || bench.service.publishers().len() == 2).await;
            until("two channels of the framework are left", || {
                at_the_broker(&bench.place)
                    .iter()
                    .filter(|(name, _)| name.contains('/'))
                    .map(|(_, open)| open)
                    .sum::<usize>()
                    <= 5
            })
            .await;
            before = Some((at_the_broker(&bench.place), nodes(&bench.service), threads()));
        }
    }
    let (broker, tree, threads_before) = before.unwrap();
    until("all channels are closed", || at_the_broker(&bench.place) == broker).await;
    until("the tree is what it was", || nodes(&bench.service) == tree).await;
    until("all threads are gone", || threads() <= threads_before).await;
    assert_eq!(bench.service.publishers().len(), 2);
    bench.publish(0..1).await;
    bench.begun(1).await;
    bench.service.shutdown().await.unwrap();
}
