//! A running consumer that is paused and resumed: what is in hand, its order, and a connection lost in the middle.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fluffle::{
    amqp::{ConsumerState, ServiceError},
    prelude::*,
};

use super::at_run_time::{ALL, Bench, DRAIN, SHORT, q};
use crate::support::*;

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
