//! Circuit breakers and kill switches: when a consumer stops itself, what it leaves in the queue, and when it goes on.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{amqp::ConsumerState, prelude::*, testing::TestBroker};

use super::downstream::{Downstream, fill, service};
use crate::support::{Act, counts, handlers, next, retry, soon, started, stats, until, vhost};

async fn state(service: &Service, wanted: ConsumerState) {
    until(&format!("{wanted:?}"), || stats(service).state == wanted).await;
}

fn always(wait: Duration) -> Backoff {
    Backoff::exponential(wait, wait).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

/// A breaker that opens when the last three messages have failed.
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
    // The three failed messages return to the queue after their waits. Up to three others were begun meanwhile.
    until("nobody consumes, and all but those begun is in the queue", || {
        let begun = downstream.begun() - 3;
        begun <= 3 && counts(&broker, "q") == (20 - begun, begun, 0)
    })
    .await;
    let begun = downstream.begun();
    downstream.heal();
    downstream.let_through(begun);
    until("what was begun is done", || stats(&service).handled as usize == begun - 3).await;
    assert_eq!(stats(&service).state, ConsumerState::BreakerOpen, "a late success must not close the breaker");
    assert_eq!(downstream.begun(), begun, "a message was begun while the breaker was open");
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
        downstream.begun() == 5 && counts(&broker, "q") == (16, 4, 1)
    })
    .await;
    // The gate is fair: the two messages begun earlier fail first, which no longer counts. Then the first probe fails.
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
    let app =
        App::new(crate::support::broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
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
    until("all three wait", || counts(&broker, "q") == (3, 0, 0)).await;
    broker.kill().unwrap();
    until("lost", || service.connections().iter().all(|one| !one.connected)).await;
    broker.start_again().unwrap();
    until("connected", || service.connections().iter().all(|one| one.connected)).await;
    soon("ready", service.ready()).await.unwrap();
    assert_eq!(counts(&broker, "q"), (3, 0, 0));
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
    until("neither consumes", || counts(&broker, "q").2 == 0 && counts(&broker, "other").2 == 0).await;
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
    until("it stopped after four", || counts(&broker, "q") == (16, 0, 0)).await;
    assert_eq!(counts(&broker, "q.dead").0, 4);
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
    // A classic queue, because a requeued message keeps its position in it. In a quorum queue it may come last.
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::classic("q").dead_letter()));
    let out = app.publisher(Route::<String>::queue("q"));
    let rest = Duration::from_millis(500);
    // The first four messages are rejected, the others are handled.
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
    // The third message is published only after the second has tripped the switch. Otherwise it would be delivered
    // together with the second.
    fill(&out, 2).await;
    until("the first two are dead letters", || stats(&service).dead_lettered == 2).await;
    for number in 2..20 {
        out.publish(number.to_string()).await.unwrap();
    }
    until("the fifth was tried", || begun.lock().unwrap().len() > 4).await;
    // The consumer was stopped before the third, the fourth and the fifth message, so at least `rest` lies before each.
    let begun: Vec<Instant> = begun.lock().unwrap()[..5].to_vec();
    assert!(begun[1..].windows(2).all(|pair| pair[1] - pair[0] >= rest), "{begun:?}");
    broker.settled(&service).await.unwrap();
    assert_eq!((stats(&service).dead_lettered, stats(&service).handled), (4, 16));
    assert_eq!(stats(&service).state, ConsumerState::Consuming);
    service.shutdown().await.unwrap();
}
