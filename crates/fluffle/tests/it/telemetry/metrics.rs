//! Every metric is provoked once, and has the value that its name promises.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fluffle::{
    broker::{Fault, Target},
    prelude::*,
    telemetry::{Telemetry, names, text},
    testing::TestBroker,
};
use tokio::sync::Notify;

use super::{has, value};
use crate::support::*;

const Q: &[&str] = &["q"];

#[actix::test]
async fn what_is_published_is_counted_by_outcome_with_its_times_and_bytes() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let topology = Topology::new().exchange(Exchange::direct("x")).queue(Queue::quorum("q").bind("x", "q"));
    let app = App::new(broker(vhost.url())).topology(topology).telemetry(&telemetry);
    let out = app.publisher::<String>(Route::exchange("x").key_by(|text: &String| text.clone()));
    let service = started(app).await;
    publish(&out, &["q", "q"]).await;
    out.publish("nowhere".to_owned()).await.unwrap_err();
    for (name, labels, expected) in [
        ("messaging_client_sent_messages_total", &["x"][..], 3.0),
        ("fluffle_publish_settled_total", &["x", "confirmed"], 2.0),
        ("fluffle_publish_settled_total", &["x", "returned"], 1.0),
        ("messaging_client_operation_duration_seconds", &["x"], 3.0),
        ("fluffle_publish_stage_duration_seconds", &["x", "confirm"], 3.0),
        ("fluffle_publish_bytes_total", &["x"], (2 * encoded("q").0.len() + encoded("nowhere").0.len()) as f64),
        ("fluffle_publish_outstanding", &["x"], 0.0),
        ("fluffle_publish_in_flight", &["x"], 0.0),
        ("fluffle_connection_up", &["publish-0"], 1.0),
        ("fluffle_ready", &[], 1.0),
        ("fluffle_alive", &[], 1.0),
        ("fluffle_channels_open", &["publish-0"], 1.0),
        ("fluffle_build_info", &[env!("CARGO_PKG_VERSION")], 1.0),
    ] {
        has(&telemetry, name, labels, |value| value == expected).await;
    }
    assert!(value(&telemetry, "fluffle_publish_window", &["x"]) > 0.0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_consumed_is_counted_by_outcome_with_its_stages() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|seen| match (&*seen.text, seen.attempt) {
        ("fails once", 1) => Act::Err(Failure::retry("not yet")),
        ("crashes once", 1) => Act::Panic,
        ("rejected", _) => Act::Err(Failure::reject("never")),
        _ => Act::Block(Duration::from_millis(2)),
    });
    let consume = Consume::queue("q").prefetch(7).instances(2).retry(retry(3));
    let service = started(app.telemetry(&telemetry).consume(consume, factory)).await;
    publish(&out, &["a", "fails once", "crashes once", "rejected"]).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 3.0).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "dead_lettered"], |dead| dead == 1.0).await;
    for (name, labels, expected) in [
        ("fluffle_consume_received_total", Q, 6.0),
        ("fluffle_consume_settled_total", &["q", "retried"], 2.0),
        ("fluffle_consume_deliveries_settled_total", Q, 6.0),
        ("messaging_client_consumed_messages_total", Q, 6.0),
        ("fluffle_consume_attempts_failed_total", Q, 3.0),
        ("fluffle_consume_crashed_total", Q, 1.0),
        ("fluffle_consume_in_hand", Q, 0.0),
        ("fluffle_consume_prefetch", Q, 7.0),
        ("fluffle_consume_waiting", Q, 0.0),
        ("fluffle_consume_handlers", Q, 2.0),
        ("messaging_process_duration_seconds", Q, 6.0),
        ("fluffle_consume_stage_duration_seconds", &["q", "handler_wait"], 6.0),
        ("fluffle_consume_stage_duration_seconds", &["q", "handle"], 6.0),
        ("fluffle_consume_stage_duration_seconds", &["q", "settle"], 6.0),
        ("fluffle_consumer_state", &["q", "consuming"], 1.0),
        ("fluffle_consumer_transitions_total", &["q", "consuming"], 1.0),
        ("fluffle_connection_up", &["consume-0"], 1.0),
    ] {
        has(&telemetry, name, labels, |value| value == expected).await;
    }
    assert!(value(&telemetry, "fluffle_consume_busy_seconds_total", Q) >= 0.006);
    assert!(value(&telemetry, "fluffle_consume_bytes_total", Q) > 0.0);
    // The handler that panicked was restarted.
    let restarts =
        [0, 1].map(|n| value(&telemetry, "fluffle_node_restarts_total", &[&format!("app/handlers/q/{n}"), "panicked"]));
    assert_eq!(restarts.iter().sum::<f64>(), 1.0);
    let recovered =
        [0, 1].map(|n| value(&telemetry, "fluffle_node_recovery_duration_seconds", &[&format!("app/handlers/q/{n}")]));
    assert_eq!(recovered.iter().sum::<f64>(), 1.0);
    assert_eq!(value(&telemetry, "fluffle_node_state", &["app", "running"]), 1.0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_counts_its_messages_and_an_attempt_repeated_here_its_wait() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (factory, _record) = handlers(|seen| match (&*seen.text, seen.attempt) {
        ("again", 1) => Act::Err(Failure::retry("not yet")),
        _ => Act::Ok,
    });
    let consume = Consume::queue("q").retry(retry(3).in_process_below(Duration::from_secs(1)).unwrap());
    let service = started(app_with_q(vhost.url()).telemetry(&telemetry).consume(consume, factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    send_batch(&raw, "b", &["1", "2", "3"]).await;
    let (body, labels) = encoded("again");
    raw.put("q", &body, labels).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 4.0).await;
    assert_eq!(value(&telemetry, "fluffle_consume_batch_size", Q), 1.0);
    assert_eq!(value(&telemetry, "fluffle_consume_retried_here_total", Q), 1.0);
    assert_eq!(value(&telemetry, "fluffle_consume_stage_duration_seconds", &["q", "retry_wait"]), 1.0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_lost_connection_is_counted_with_what_it_took_along() {
    let (vhost, telemetry, go) = (vhost(), Telemetry::new(), Arc::new(Notify::new()));
    let (app, out) = app(vhost.url());
    let wait = Arc::clone(&go);
    let (factory, mut record) = handlers(move |seen| if seen.redelivered { Act::Ok } else { Act::Wait(wait.clone()) });
    let service = started(app.telemetry(&telemetry).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    next(&mut record).await;
    vhost.close_connections("a test");
    has(&telemetry, "fluffle_consume_redelivered_total", Q, |again| again == 1.0).await;
    go.notify_waiters();
    has(&telemetry, "fluffle_consume_ack_lost_total", Q, |lost| lost == 1.0).await;
    assert_eq!(value(&telemetry, "fluffle_consume_deliveries_lost_total", Q), 1.0);
    let lost = |reason| value(&telemetry, "fluffle_connection_lost_total", &["consume-0", reason]);
    assert_eq!(lost("320") + lost("socket"), 1.0, "{}", text::prometheus(&telemetry.read()));
    has(&telemetry, "fluffle_connection_up", &["consume-0"], |up| up == 1.0).await;
    let families = telemetry.read();
    let channels = families.iter().find(|family| family.name.prometheus == "fluffle_channels_lost_total").unwrap();
    assert!(!channels.points.is_empty());
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_blocked_connection_says_so_and_for_how_long_in_all() {
    let (embedded, telemetry) = (TestBroker::start().unwrap(), Telemetry::new());
    let app = App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app.telemetry(&telemetry)).await;
    let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
    let alarm = embedded.faults().strike(alarm, Target::all()).unwrap();
    let waiting = out.enqueue("a".to_owned()).await.unwrap();
    has(&telemetry, "fluffle_connection_blocked", &["publish-0"], |blocked| blocked == 1.0).await;
    has(&telemetry, "fluffle_connection_blocked_seconds_total", &["publish-0"], |time| time > 0.0).await;
    has(&telemetry, "fluffle_publish_in_flight", Q, |in_flight| in_flight == 1.0).await;
    alarm.heal().unwrap();
    soon("confirmed", waiting.confirmed()).await.unwrap();
    has(&telemetry, "fluffle_connection_blocked", &["publish-0"], |blocked| blocked == 0.0).await;
    let total = value(&telemetry, "fluffle_connection_blocked_seconds_total", &["publish-0"]);
    assert!(total > 0.0 && total == value(&telemetry, "fluffle_connection_blocked_seconds_total", &["publish-0"]));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_answer_past_its_time_is_late_and_a_blocked_thread_lags() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|seen| match seen.attempt {
        1 => Act::Block(Duration::from_millis(700)),
        _ => Act::Ok,
    });
    let consume = Consume::queue("q").handler_timeout(Duration::from_millis(100)).retry(retry(3));
    let service = started(app.telemetry(&telemetry).consume(consume, factory)).await;
    publish(&out, &["a"]).await;
    has(&telemetry, "fluffle_arbiter_lag_seconds", &["q/0"], |lag| lag > 0.1).await;
    has(&telemetry, "fluffle_consume_late_total", Q, |late| late == 1.0).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 1.0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn mailboxes_of_actors_have_depth_and_capacity() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let service = started(app(vhost.url()).0.telemetry(&telemetry)).await;
    let families = telemetry.read();
    for name in ["fluffle_mailbox_depth", "fluffle_mailbox_capacity"] {
        let family = families.iter().find(|family| family.name.prometheus == name).expect(name);
        assert!(family.points.iter().any(|point| point.labels[0].ends_with("/socket")), "{family:?}");
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn names_past_the_limit_share_one_label_and_counters_outlive_what_they_count() {
    let (vhost, telemetry) = (vhost(), Telemetry::new());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.telemetry(&telemetry).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 1.0).await;
    soon("removed", service.remove_consumer("q")).await.unwrap();
    assert_eq!(value(&telemetry, "fluffle_consume_settled_total", &["q", "handled"]), 1.0);
    let (factory, _record) = handlers(|_| Act::Ok);
    soon("added", service.consume(Consume::queue("q"), factory)).await.unwrap();
    publish(&out, &["b"]).await;
    has(&telemetry, "fluffle_consume_settled_total", &["q", "handled"], |handled| handled == 2.0).await;
    assert_eq!(value(&telemetry, "fluffle_telemetry_series_folded_total", &[]), 0.0);
    service.shutdown().await.unwrap();
}

/// The tests that provoke metrics.
const TESTS: [&str; 6] = [
    include_str!("ledger.rs"),
    include_str!("metrics.rs"),
    include_str!("requests.rs"),
    include_str!("stores.rs"),
    include_str!("../streams/retention.rs"),
    include_str!("../../../../fluffle-outbox/tests/relaying.rs"),
];

#[test]
fn every_metric_is_provoked_by_a_test() {
    let is_provoked = |name: &&str| TESTS.iter().any(|tests| tests.contains(&format!("\"{name}\"")));
    let missing: BTreeSet<_> =
        names::ALL.iter().map(|name| name.prometheus).filter(|name| !is_provoked(name)).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}");
}
