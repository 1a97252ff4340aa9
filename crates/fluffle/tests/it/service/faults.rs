//! Faults of a broker or a network: for each of them, no message is lost and the service recovers by itself. The tests
//! of `fluffle-broker` (`fault_*.rs`) check what a client sees of each fault.

use std::{collections::BTreeSet, time::Duration};

use fluffle::{
    amqp::ConsumerStats,
    broker::{Direction, Event, Fault, FaultHandle, Proxy, Rule, Target},
    prelude::*,
    testing::TestBroker,
};

use crate::support::{Act, Record, handlers, soon, until};

/// How many messages are published while the fault happens.
const MESSAGES: usize = 200;

const PREFETCH: u16 = 16;

/// A service with one publisher and one consumer on one queue.
struct Bench {
    broker: TestBroker,
    service: Service,
    out: Publisher<String>,
    record: Record,
}

impl Bench {
    async fn start() -> Self {
        Self::on(TestBroker::start().unwrap(), |client| client, |route| route).await
    }

    async fn on(
        broker: TestBroker,
        client: impl FnOnce(Broker) -> Broker,
        route: impl FnOnce(Route<String>) -> Route<String>,
    ) -> Self {
        let client = client(broker.client().unwrap()).name("service");
        let app = App::new(client).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
        let out = app.publisher(route(Route::queue("q")));
        let (factory, record) = handlers(|_| Act::Ok);
        let service = app.consume(Consume::queue("q").prefetch(PREFETCH), factory).start().await.unwrap();
        soon("ready", service.ready()).await.unwrap();
        Self { broker, service, out, record }
    }

    fn inject(&self, rule: Rule) -> FaultHandle {
        self.broker.faults().inject(rule).unwrap()
    }

    /// Injects `times` faults. They are further apart than the prefetch, so that each one happens on a different
    /// channel.
    fn inject_apart(&self, rule: &Rule, times: u64) -> Vec<FaultHandle> {
        (0..times)
            .map(|number| self.inject(rule.clone().after(20 + number * 2 * u64::from(PREFETCH)).times(1)))
            .collect()
    }

    fn strike(&self, fault: Fault) {
        self.broker.faults().strike(fault, Target::all()).unwrap();
    }

    /// Publishes numbered messages, all in flight at once, and waits until each is confirmed.
    async fn publish(&self) {
        self.publish_and(|| {}).await;
    }

    /// Like [`publish`](Self::publish), but calls `halfway` when half of the messages are accepted.
    async fn publish_and(&self, halfway: impl FnOnce()) {
        let (first, second) = (0..MESSAGES / 2, MESSAGES / 2..MESSAGES);
        let mut receipts = Vec::new();
        for number in first {
            receipts.push(self.out.enqueue(number.to_string()).await.unwrap());
        }
        halfway();
        for number in second {
            receipts.push(self.out.enqueue(number.to_string()).await.unwrap());
        }
        for receipt in receipts {
            soon("confirmed", receipt.confirmed()).await.unwrap();
        }
    }

    fn stats(&self) -> ConsumerStats {
        self.service.consumers()[0].1
    }

    /// How often all connections together were established.
    fn connects(&self) -> u64 {
        self.service.connections().iter().map(|one| one.connects).sum()
    }

    /// Heals all faults, waits until everything is settled, and checks that every message was handled and none became a
    /// dead letter.
    async fn nothing_lost(mut self) -> Totals {
        self.broker.faults().heal_all().unwrap();
        self.broker.settled_within(&self.service, crate::support::SOON).await.unwrap();
        let (mut seen, mut redelivered) = (BTreeSet::new(), 0);
        while let Ok(handled) = self.record.try_recv() {
            redelivered += usize::from(handled.redelivered);
            seen.insert(handled.text.parse::<usize>().unwrap());
        }
        let missing: Vec<usize> = (0..MESSAGES).filter(|number| !seen.contains(number)).collect();
        assert!(missing.is_empty(), "lost: {missing:?} with seed {}", self.broker.faults().seed());
        assert!(self.broker.messages("q.dead").unwrap().is_empty(), "something was dead-lettered");
        let totals = Totals {
            connects: self.connects(),
            republished: self.out.stats().republished,
            redelivered,
            consumer: self.stats(),
            consumers_restarted: self
                .service
                .snapshot()
                .find("app/consume/consume-0/channels/q/consumer")
                .map_or(0, |node| node.restarts),
        };
        soon("the end", self.service.shutdown()).await.unwrap();
        totals
    }
}

#[derive(Debug)]
struct Totals {
    connects: u64,
    republished: u64,
    /// Messages handled that the broker had delivered before.
    redelivered: usize,
    consumer: ConsumerStats,
    consumers_restarted: u64,
}

#[actix::test]
async fn cut_connections_are_made_again_and_what_was_unconfirmed_is_published_again() {
    let bench = Bench::start().await;
    let cuts = bench.inject(Rule::new(Fault::Cut).at(Event::Published).after(50).times(2));
    bench.publish().await;
    assert_eq!(cuts.fired(), 2);
    let totals = bench.nothing_lost().await;
    assert!(totals.connects >= 4 && totals.republished > 0, "{totals:?}");
}

#[actix::test]
async fn a_connection_cut_while_it_delivers_brings_its_deliveries_again() {
    let bench = Bench::start().await;
    let cuts = bench.inject_apart(&Rule::new(Fault::Cut).at(Event::Delivered).on_queue("q"), 3);
    bench.publish().await;
    cuts.iter().for_each(|cut| cut.wait_fired(1, crate::support::SOON).unwrap());
    let totals = bench.nothing_lost().await;
    // At each cut at least the message on its way was redelivered, whether or not it had arrived.
    assert!(totals.connects >= 5 && totals.redelivered >= 3, "{totals:?}");
}

#[actix::test]
async fn a_broker_that_refuses_connections_is_tried_until_it_does_not() {
    let bench = Bench::start().await;
    let refusals = bench.inject(Rule::new(Fault::Refuse).times(5));
    bench.strike(Fault::Cut);
    bench.publish().await;
    assert_eq!(refusals.fired(), 5);
    bench.nothing_lost().await;
}

#[actix::test]
async fn a_half_open_connection_is_noticed_by_its_missing_heartbeats() {
    let heartbeat = |client: Broker| client.heartbeat(Duration::from_secs(1));
    let bench = Bench::on(TestBroker::start().unwrap(), heartbeat, |route| route).await;
    bench.publish_and(|| bench.strike(Fault::HalfOpen)).await;
    until("both connections are back", || bench.connects() >= 4).await;
    bench.nothing_lost().await;
}

#[actix::test]
async fn a_broker_that_accepts_and_says_nothing_is_given_up_within_the_connect_timeout() {
    let impatient = |client: Broker| client.connect_timeout(Duration::from_millis(300));
    let bench = Bench::on(TestBroker::start().unwrap(), impatient, |route| route).await;
    let mute = bench.inject(Rule::new(Fault::HalfOpen).at(Event::Accepted).times(4));
    bench.strike(Fault::Cut);
    bench.publish().await;
    assert_eq!(mute.fired(), 4);
    bench.nothing_lost().await;
}

#[actix::test]
async fn a_stall_shorter_than_the_heartbeats_costs_nothing_but_time() {
    let bench = Bench::start().await;
    let stall = Fault::Stall { direction: Direction::Both, time: Duration::from_millis(700) };
    bench.publish_and(|| bench.strike(stall.clone())).await;
    let totals = bench.nothing_lost().await;
    assert_eq!((totals.connects, totals.republished, totals.consumer.received), (2, 0, MESSAGES as u64));
}

#[actix::test]
async fn a_slow_and_delayed_network_costs_nothing_but_time() {
    let bench = Bench::start().await;
    bench.inject(Rule::new(Fault::Delay { direction: Direction::Both, time: Duration::from_millis(5) }));
    bench.strike(Fault::Slow { direction: Direction::Both, bytes_per_second: 50_000 });
    bench.publish().await;
    let totals = bench.nothing_lost().await;
    assert_eq!((totals.connects, totals.republished, totals.consumer.received), (2, 0, MESSAGES as u64));
}

#[actix::test]
async fn a_corrupt_frame_costs_the_connection_and_no_message() {
    let bench = Bench::start().await;
    let corrupt = bench.inject(Rule::new(Fault::CorruptFrame).after(30).times(2));
    bench.publish().await;
    corrupt.wait_fired(2, crate::support::SOON).unwrap();
    let totals = bench.nothing_lost().await;
    // Both faults may happen on the same connection before it is lost.
    assert!(totals.connects >= 3, "{totals:?}");
}

#[actix::test]
async fn connections_the_broker_closes_are_made_again() {
    let bench = Bench::start().await;
    let fault = Fault::CloseConnection { code: 320, text: "CONNECTION_FORCED - maintenance".to_owned() };
    bench.publish_and(|| bench.strike(fault.clone())).await;
    until("both connections are back", || bench.connects() == 4).await;
    bench.nothing_lost().await;
}

#[actix::test]
async fn a_channel_closed_over_a_publish_costs_that_channel_and_no_message() {
    let bench = Bench::start().await;
    let fault = Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - by the test".to_owned() };
    let closed = bench.inject(Rule::new(fault).after(50).times(1));
    bench.publish().await;
    assert_eq!(closed.fired(), 1);
    let totals = bench.nothing_lost().await;
    assert_eq!(totals.connects, 2, "the connections were not touched");
    assert!(totals.republished > 0);
}

#[actix::test]
async fn a_channel_closed_over_a_delivery_consumes_again() {
    let bench = Bench::start().await;
    let fault = Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - delivery timed out".to_owned() };
    let closed = bench.inject_apart(&Rule::new(fault).at(Event::Settled).on_queue("q"), 2);
    bench.publish().await;
    closed.iter().for_each(|one| one.wait_fired(1, crate::support::SOON).unwrap());
    let totals = bench.nothing_lost().await;
    assert_eq!(totals.connects, 2, "the connections were not touched");
    assert!(totals.consumers_restarted >= 2);
}

#[actix::test]
async fn a_cancelled_consumer_consumes_again() {
    let bench = Bench::start().await;
    let cancelled = bench.inject_apart(&Rule::new(Fault::CancelConsumer).on_queue("q"), 3);
    bench.publish().await;
    cancelled.iter().for_each(|one| one.wait_fired(1, crate::support::SOON).unwrap());
    let totals = bench.nothing_lost().await;
    assert_eq!(totals.connects, 2, "the connections were not touched");
    assert!(totals.consumers_restarted >= 3, "{totals:?}");
}

#[actix::test]
async fn a_confirm_that_never_comes_is_noticed_and_its_message_published_again() {
    let impatient = |route: Route<String>| route.confirm_timeout(Duration::from_millis(400));
    let bench = Bench::on(TestBroker::start().unwrap(), |client| client, impatient).await;
    let dropped = bench.inject(Rule::new(Fault::DropConfirm).on_queue("q").after(50).times(3));
    bench.publish().await;
    assert_eq!(dropped.fired(), 3);
    let totals = bench.nothing_lost().await;
    assert!(totals.republished >= 1 && totals.connects == 2, "the connections were not touched");
}

#[actix::test]
async fn without_confirms_each_message_arrives_once_although_the_socket_stood_still() {
    let without = |route: Route<String>| route.confirms(Confirms::Off).confirm_timeout(Duration::from_millis(100));
    let mut bench = Bench::on(TestBroker::start().unwrap(), |client| client, without).await;
    bench.strike(Fault::Stall { direction: Direction::ToBroker, time: Duration::from_secs(1) });
    // More than the sockets on the way have room for.
    let large = "m".repeat(512 << 10);
    let receipts: Vec<_> = futures_util::future::join_all((0..64).map(|_| bench.out.enqueue(large.clone()))).await;
    for receipt in receipts {
        soon("written", receipt.unwrap().confirmed()).await.unwrap();
    }
    for _ in 0..64 {
        crate::support::next(&mut bench.record).await;
    }
    bench.broker.settled_within(&bench.service, crate::support::SOON).await.unwrap();
    assert_eq!((bench.out.stats().republished, bench.stats().received), (0, 64));
    bench.service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_late_confirm_is_waited_for() {
    let bench = Bench::start().await;
    let late = Fault::DelayConfirm { time: Duration::from_millis(500) };
    let delayed = bench.inject(Rule::new(late).on_queue("q").after(50).times(20));
    bench.publish().await;
    assert_eq!(delayed.fired(), 20);
    let totals = bench.nothing_lost().await;
    assert_eq!((totals.republished, totals.consumer.received), (0, MESSAGES as u64));
}

#[actix::test]
async fn a_message_that_is_refused_once_is_published_again_and_the_others_are_confirmed() {
    for fault in [Fault::Nack, Fault::Return] {
        let bench = Bench::start().await;
        let refused = bench.inject(Rule::new(fault).on_queue("q").after(50).times(1));
        bench.publish().await;
        assert_eq!(refused.fired(), 1);
        assert_eq!(bench.nothing_lost().await.republished, 1);
    }
}

#[actix::test]
async fn a_nacked_copy_keeps_its_original_until_it_finds_a_place() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, _record) = handlers(|_| Act::Err(Failure::reject("never")));
    let service = app.consume(Consume::queue("q"), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q.dead").times(2)).unwrap();
    out.publish("bad".to_owned()).await.unwrap();
    broker.settled(&service).await.unwrap();
    assert_eq!(nacks.fired(), 2);
    let dead = broker.read::<String>("q.dead").unwrap();
    assert_eq!(dead.len(), 1, "one dead letter, for one message");
    assert_eq!(dead[0].message().unwrap(), "bad");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_confirm_of_a_retry_copy_holds_its_message_up_no_longer_than_the_consumers_confirm_timeout() {
    let broker = TestBroker::start().unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let consume = Consume::queue("q").retry(crate::support::retry(2)).confirm_timeout(Duration::from_millis(300));
    let service = crate::support::started(app.consume(consume, factory)).await;
    let dropped = broker.faults().inject(Rule::new(Fault::DropConfirm).on_queue("q.retry.50").times(1)).unwrap();
    out.publish("a".to_owned()).await.unwrap();
    assert_eq!(crate::support::next(&mut record).await.attempt, 1);
    assert_eq!(crate::support::next(&mut record).await.attempt, 2, "the first copy, whose confirm was lost");
    until("its original is acked, and both copies handled", || {
        let stats = service.consumers()[0].1;
        (stats.retried, stats.handled) == (1, 2)
    })
    .await;
    assert_eq!(dropped.fired(), 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_publisher_waits_and_goes_on_and_the_consumer_never_stopped() {
    let bench = Bench::on(
        TestBroker::start().unwrap(),
        |client| client,
        |route| route.mailbox(8).confirms(Confirms::Window(8)).deadline(Duration::from_millis(300)),
    )
    .await;
    for number in 0..MESSAGES {
        bench.out.publish(number.to_string()).await.unwrap();
    }
    let block = bench.broker.faults();
    let blocked =
        block.strike(Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX }, Target::all()).unwrap();
    // The broker reports the block only after a publish. Until then messages are accepted, and wait.
    let late = bench.out.publish("0".to_owned()).await.unwrap_err();
    assert!(matches!(late.kind(), PublishErrorKind::Unknown), "{late}");
    until("the tree knows", || bench.service.connections().iter().any(|one| one.blocked.is_some())).await;
    let mut overloaded = false;
    for _ in 0..40 {
        if let Err(error) = bench.out.publish("1".to_owned()).await {
            overloaded |= matches!(error.kind(), PublishErrorKind::Overloaded);
        }
        if overloaded {
            break;
        }
    }
    until("the consumer went on", || bench.stats().handled >= MESSAGES as u64).await;
    blocked.heal().unwrap();
    until("unblocked", || bench.service.connections().iter().all(|one| one.blocked.is_none())).await;
    soon("published", bench.out.publish("2".to_owned())).await.unwrap();
    let totals = bench.nothing_lost().await;
    assert_eq!(totals.connects, 2, "blocked is not lost");
}

#[actix::test]
async fn a_broker_that_restarts_or_crashes_is_found_again() {
    for fault in
        [Fault::Restart { away: Duration::from_millis(300) }, Fault::Crash { away: Duration::from_millis(300) }]
    {
        let bench = Bench::start().await;
        let gone = bench.inject(Rule::new(fault).at(Event::Published).after(80).times(1));
        bench.publish().await;
        assert_eq!(gone.fired(), 1);
        until("both connections are back", || bench.connects() >= 4).await;
        bench.nothing_lost().await;
    }
}

#[actix::test]
async fn faults_at_random_lose_nothing_either() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let broker = fluffle::broker::Broker::builder().fault_seed(seed).start().unwrap();
    let bench = Bench::on(broker.into(), |client| client, |route| route).await;
    for (fault, event, probability) in [
        (Fault::Cut, Event::Published, 0.005),
        (Fault::Cut, Event::Settled, 0.005),
        (Fault::CorruptFrame, Event::FrameOut, 0.002),
        (Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - chance".to_owned() }, Event::Settled, 0.01),
        (Fault::CancelConsumer, Event::Delivered, 0.01),
        (Fault::DelayConfirm { time: Duration::from_millis(50) }, Event::Published, 0.05),
    ] {
        bench.inject(Rule::new(fault).at(event).probability(probability).times(5));
    }
    bench.publish().await;
    bench.nothing_lost().await;
}

#[actix::test]
async fn before_a_real_rabbitmq_a_proxy_cuts_stalls_and_goes_silent_and_nothing_is_lost() {
    let node = fluffle_harness::RabbitMq::shared().unwrap();
    let vhost = node.fresh_vhost().unwrap();
    let proxy = Proxy::start(([127, 0, 0, 1], node.port()).into()).unwrap();
    let client = crate::support::broker(&proxy.url_for(vhost.url())).heartbeat(Duration::from_secs(1));
    let app = App::new(client).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q").prefetch(PREFETCH), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();
    let faults = [
        Fault::Cut,
        Fault::Stall { direction: Direction::Both, time: Duration::from_millis(500) },
        Fault::HalfOpen,
        Fault::Slow { direction: Direction::ToBroker, bytes_per_second: 20_000 },
    ];
    let mut seen = BTreeSet::new();
    for (round, fault) in faults.into_iter().enumerate() {
        let mut receipts = Vec::new();
        for number in 0..50 {
            receipts.push(out.enqueue((round * 50 + number).to_string()).await.unwrap());
            if number == 25 {
                proxy.faults().strike(fault.clone(), Target::all()).unwrap();
            }
        }
        for receipt in receipts {
            soon("confirmed", receipt.confirmed()).await.unwrap();
        }
        proxy.faults().heal_all().unwrap();
    }
    while seen.len() < 200 {
        seen.insert(crate::support::next(&mut record).await.text.parse::<usize>().unwrap());
    }
    service.shutdown().await.unwrap();
}
