//! A running consumer that is removed, and one that is added: what is in hand, what is given back, and a broker that is
//! away.

use std::time::Instant;

use fluffle::{
    amqp::ServiceError,
    broker::{Fault, Proxy, Rule},
    prelude::*,
};

use super::at_run_time::{ALL, Bench, DRAIN, SHORT, q};
use crate::support::*;

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
