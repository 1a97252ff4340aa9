//! What waits in journals and dead-letter queues is measured, with its age.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fluffle::{
    amqp::{Journal, Replay},
    broker::{Event, Fault, Rule},
    prelude::*,
    telemetry::{Telemetry, Value},
    testing::TestBroker,
};

use super::{has, value};
use crate::support::*;

const Q: &[&str] = &["q"];

#[actix::test]
async fn a_journal_has_messages_bytes_and_an_age_until_the_broker_is_back() {
    let (folder, embedded, telemetry) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap(), Telemetry::new());
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let app = App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q").journal(journal));
    let service = started(app.telemetry(&telemetry)).await;
    embedded.kill().unwrap();
    let waiting = soon("accepted", out.enqueue("a".to_owned())).await.unwrap();
    has(&telemetry, "fluffle_journal_unconfirmed", Q, |messages| messages == 1.0).await;
    has(&telemetry, "fluffle_journal_oldest_age_seconds", Q, |age| age > 0.2).await;
    assert!(value(&telemetry, "fluffle_journal_bytes", Q) > 0.0);
    until("the page has it", || {
        let picture = telemetry.picture().unwrap();
        let store = picture.publishers.iter().find_map(|publisher| publisher.store.clone());
        store.is_some_and(|store| store.kind == "journal" && store.messages == Some(1) && store.oldest > Some(200))
    })
    .await;
    embedded.start_again().unwrap();
    soon("confirmed", waiting.confirmed()).await.unwrap();
    for name in ["fluffle_journal_unconfirmed", "fluffle_journal_oldest_age_seconds", "fluffle_journal_bytes"] {
        has(&telemetry, name, Q, |value| value == 0.0).await;
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_published_again_after_a_loss_is_counted() {
    let (embedded, telemetry) = (TestBroker::start().unwrap(), Telemetry::new());
    let app = App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.telemetry(&telemetry)).await;
    embedded.faults().inject(Rule::new(Fault::Cut).at(Event::Published).times(1)).unwrap();
    soon("confirmed", out.publish("a".to_owned())).await.unwrap();
    has(&telemetry, "fluffle_publish_republished_total", Q, |again| again == 1.0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn dead_letters_are_counted_where_they_lie_and_when_they_are_replayed() {
    let (vhost, telemetry, healthy) = (vhost(), Telemetry::new(), Arc::new(AtomicBool::new(false)));
    let (app, out) = app(vhost.url());
    let well = Arc::clone(&healthy);
    let (factory, _record) = handlers(move |_| match well.load(Ordering::SeqCst) {
        true => Act::Ok,
        false => Act::Err(Failure::reject("never")),
    });
    let consume = Consume::queue("q").dead_letter_queue("letters of q");
    let service = started(app.telemetry(&telemetry).consume(consume, factory)).await;
    publish(&out, &["a", "b"]).await;
    has(&telemetry, "fluffle_dead_letters_ready", Q, |ready| ready == 2.0).await;
    assert_eq!(service.status().consumers[0].dead_letter_queue, "letters of q");
    until("the page has them", || telemetry.picture().unwrap().queues[0].dead_letters == Some(2)).await;
    healthy.store(true, Ordering::SeqCst);
    let replayed = soon("replayed", service.replay(Replay::from("letters of q"))).await.unwrap();
    assert_eq!(replayed.replayed, 2);
    has(&telemetry, "fluffle_dead_letters_replayed_total", &["letters of q"], |replayed| replayed == 2.0).await;
    has(&telemetry, "fluffle_dead_letters_ready", Q, |ready| ready == 0.0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_dead_letter_queue_that_does_not_exist_has_no_count_and_keeps_no_other_from_its_own() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let queues = ["forgets", "deleted", "q"];
    let topology = queues.into_iter().fold(Topology::new(), |topology, name| topology.queue(Queue::quorum(name)));
    let app = App::new(broker(vhost.url())).topology(topology).telemetry(&telemetry);
    let (forgets, _) = handlers(|_| Act::Ok);
    let (loses, _) = handlers(|_| Act::Ok);
    let (keeps, _) = handlers(|_| Act::Ok);
    let app = app.consume(Consume::queue("deleted"), loses);
    let app = app.consume(Consume::queue("forgets").guarantee(AtMostOnce), forgets);
    let service = started(app.consume(Consume::queue("q"), keeps)).await;
    let counted = async || {
        let letters = soon("counted", service.dead_letters()).await.unwrap();
        letters.into_iter().map(|letters| (letters.queue, letters.ready)).collect::<Vec<_>>()
    };
    assert_eq!(counted().await, [("deleted".to_owned(), 0), ("q".to_owned(), 0)]);
    Raw::connect(vhost.url()).await.delete("deleted.dead").await;
    assert_eq!(counted().await, [("q".to_owned(), 0)]);
    service.shutdown().await.unwrap();
    assert!(service.dead_letters().await.is_err(), "the service has ended");
}

#[actix::test]
async fn a_message_has_its_age_and_one_from_the_future_counts_as_skew() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, _out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.telemetry(&telemetry).consume(Consume::queue("q"), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for at in [now - Duration::from_secs(3600), now + Duration::from_secs(3600)] {
        let (body, labels) = encoded("a");
        raw.put("q", &body, labels.with_timestamp(at.as_secs())).await;
    }
    let (body, labels) = encoded("of nobody knows when");
    raw.put("q", &body, labels).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 3.0).await;
    let ages = |telemetry: &Telemetry| {
        let families = telemetry.read();
        let family = families.iter().find(|family| family.name.prometheus == "fluffle_message_age_seconds").unwrap();
        match &family.points[0].value {
            Value::Counts(ages) => (ages.count(), ages.sum),
            other => panic!("{other:?}"),
        }
    };
    let (count, sum) = ages(&telemetry);
    assert_eq!(count, 2, "a message without a timestamp has no age");
    assert!((3600.0..3660.0).contains(&sum), "the future counts as zero: {sum}");
    assert!(value(&telemetry, "fluffle_clock_skew_total", Q) >= 1.0);
    service.shutdown().await.unwrap();
}
