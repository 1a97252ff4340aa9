//! From a committed transaction to the broker: which messages are published, how often, and in which order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{collections::HashSet, time::Duration};

use fluffle::{
    amqp::trace,
    broker::{Fault, Rule},
    prelude::*,
    telemetry::{Telemetry, Value},
    wire::headers::{TRACEPARENT, TraceContext},
};
use support::*;

on_both!(
    a_committed_message_is_published_and_a_rolled_back_one_never_is,
    one_relay_keeps_the_order,
    two_relays_share_the_work_and_publish_nothing_twice,
    a_wake_is_as_good_as_a_poll,
    what_a_relay_has_in_hand_is_bounded_in_rows_and_in_bytes_and_a_larger_message_goes_alone,
    while_a_confirm_is_awaited_others_are_claimed_and_published,
    a_message_larger_than_half_the_limit_waits_until_nothing_else_is_in_hand,
    several_messages_are_enqueued_with_one_call_in_their_order_and_only_with_their_transaction,
    published_rows_are_kept_for_as_long_as_asked,
    more_old_rows_than_one_statement_deletes_are_all_deleted,
    a_relay_that_is_stopped_marks_what_it_has_published,
    a_prepared_message_comes_out_as_it_went_in,
    a_message_carries_the_trace_in_which_it_was_prepared_and_not_that_of_its_relay,
    a_test_that_waits_for_settled_waits_for_the_outbox_though_nobody_wakes_it,
    what_a_relay_waits_with_is_named_and_what_it_has_parked_is_not_waited_for,
);

async fn a_committed_message_is_published_and_a_rolled_back_one_never_is(database: Database) {
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    database.enqueue(&prepared(["undone"]), false).await;
    database.enqueue(&prepared(["done"]), true).await;
    database.enqueue(&prepared(["undone too"]), false).await;
    database.enqueue(&prepared(["done too"]), true).await;
    // The table is empty, so nothing is left that could still be published.
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), ["done", "done too"]);
    service.shutdown().await.unwrap();
}

async fn one_relay_keeps_the_order(database: Database) {
    let (broker, topology) = broker();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).batch(400);
    for first in (0..1000).step_by(100) {
        database.enqueue(&prepared(first..first + 100), true).await;
    }
    let service = started(app.supervise(relay)).await;
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
}

async fn two_relays_share_the_work_and_publish_nothing_twice(database: Database) {
    let (broker, topology) = broker();
    let mut services = Vec::new();
    let mut relays = Vec::new();
    for _ in 0..2 {
        let app = App::new(broker.client().unwrap()).topology(topology.clone());
        let forwarder = app.forwarder("outbox");
        let relay = fluffle_outbox::Relay::new(database.table(), forwarder.clone())
            .batch(20)
            .poll_every(Duration::from_millis(1))
            .backoff(Backoff::none());
        services.push(started(app.supervise(relay)).await);
        relays.push(forwarder);
    }
    let messages = prepared(0..2000);
    database.enqueue(&messages, true).await;
    until("an empty table", async || database.rows().await == 0).await;
    let published = ids(&broker, "q");
    assert_eq!(published.len(), 2000);
    assert_eq!(published.into_iter().collect::<HashSet<_>>().len(), 2000);
    for relay in relays {
        assert!(relay.stats().confirmed > 0, "both took part");
    }
    for service in services {
        service.shutdown().await.unwrap();
    }
}

async fn a_wake_is_as_good_as_a_poll(database: Database) {
    let (broker, topology) = broker();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).poll_every(Duration::from_secs(3600));
    let waker = relay.waker();
    let service = started(app.supervise(relay)).await;
    for n in 1..=3 {
        database.enqueue(&prepared([n]), true).await;
        waker.wake();
        until("an empty table", async || database.rows().await == 0).await;
    }
    assert_eq!(texts(&broker, "q"), ["1", "2", "3"]);
    service.shutdown().await.unwrap();
}

async fn what_a_relay_has_in_hand_is_bounded_in_rows_and_in_bytes_and_a_larger_message_goes_alone(database: Database) {
    database.record_claims().await;
    for (sizes, rows, bytes, most) in [
        (&[1; 20][..], 3, 1_000_000, 3),
        (&[1; 20], 200, 2500, 2),
        (&[1, 9, 1, 9, 9], 200, 2500, 1),
        (&[1, 9, 1, 9, 9], 200, 1_000_000, 5),
    ] {
        let (broker, topology) = broker();
        let app = App::new(broker.client().unwrap()).topology(topology);
        let relay = relay(&database, &app).batch(rows).batch_bytes(bytes);
        database.execute("delete from claims").await;
        database.enqueue(&prepared(sizes.iter().map(|size| "x".repeat(size * 1000))), true).await;
        let service = started(app.supervise(relay)).await;
        until("an empty table", async || database.rows().await == 0).await;
        let in_hand = database.number("select max(in_hand) from claims").await;
        assert!((1..=most).contains(&in_hand), "{in_hand} in hand: {sizes:?}, {rows} rows, {bytes} bytes");
        assert_eq!(broker.messages("q").unwrap().len(), sizes.len());
        service.shutdown().await.unwrap();
    }
}

async fn while_a_confirm_is_awaited_others_are_claimed_and_published(database: Database) {
    let (broker, topology) = broker();
    let late = Rule::new(Fault::DropConfirm).on_queue("q").after(1).times(1);
    let late = broker.faults().inject(late).unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).batch(4);
    database.enqueue(&prepared(1..=6), true).await;
    let service = started(app.supervise(relay)).await;
    until("the others", async || database.rows().await == 1).await;
    assert_eq!((texts(&broker, "q").len(), late.fired()), (6, 1));
    assert_eq!(database.text("select cast(id as text) from fluffle_outbox").await, "2");
    // The relay does not know whether the broker has the second message, so it does not mark its row.
    broker.kill().unwrap();
    service.shutdown().await.unwrap();
}

async fn a_message_larger_than_half_the_limit_waits_until_nothing_else_is_in_hand(database: Database) {
    let (broker, topology) = broker();
    database.record_claims().await;
    broker.faults().inject(Rule::new(Fault::DropConfirm).on_queue("q").after(1).times(1)).unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).batch_bytes(5000);
    database.enqueue(&prepared([1000, 1000, 9000].map(|size| "x".repeat(size))), true).await;
    let service = started(app.supervise(relay)).await;
    // The first is marked when the relay claims beside the second.
    until("the first", async || database.rows().await == 2).await;
    broker.kill().unwrap();
    service.shutdown().await.unwrap();
    assert_eq!(database.number("select max(id) from claims").await, 2);
}

async fn several_messages_are_enqueued_with_one_call_in_their_order_and_only_with_their_transaction(
    database: Database,
) {
    let messages = prepared(0..150);
    database.enqueue_all(&messages[..70], true).await;
    database.enqueue_all(&messages[70..80], false).await;
    database.enqueue_all(&[], true).await;
    database.enqueue_all(&messages[80..], true).await;
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    until("an empty table", async || database.rows().await == 0).await;
    let committed = messages[..70].iter().chain(&messages[80..]);
    assert_eq!(ids(&broker, "q"), committed.map(Prepared::id).collect::<Vec<_>>());
    assert_eq!(texts(&broker, "q")[70], "80");
    service.shutdown().await.unwrap();
}

async fn published_rows_are_kept_for_as_long_as_asked(database: Database) {
    let (broker, topology) = broker();
    database.enqueue(&prepared(["two hours old", "one hour old"]), true).await;
    // The ids start at 1.
    database
        .execute(match database {
            Database::Postgres { .. } => {
                "update fluffle_outbox set published_at = now() - (3 - id) * interval '1 hour'"
            }
            Database::Sqlite { .. } => "update fluffle_outbox set published_at = due_at - (3 - id) * 3600000",
        })
        .await;
    database.enqueue(&prepared(["new"]), true).await;
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).keep_published(Duration::from_secs(90 * 60));
    let service = started(app.supervise(relay)).await;
    let published = "select count(*) from fluffle_outbox where published_at is not null and claimed_by is null";
    until("the mark", async || database.rows().await == 2 && database.number(published).await == 2).await;
    assert_eq!(texts(&broker, "q"), ["new"]);
    service.shutdown().await.unwrap();
}

async fn more_old_rows_than_one_statement_deletes_are_all_deleted(database: Database) {
    let (broker, topology) = broker();
    database.enqueue(&prepared(0..1001), true).await;
    database
        .execute(match database {
            Database::Postgres { .. } => "update fluffle_outbox set published_at = now() - interval '2 hours'",
            Database::Sqlite { .. } => "update fluffle_outbox set published_at = due_at - 7200000",
        })
        .await;
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).keep_published(Duration::from_secs(3600));
    let service = started(app.supervise(relay)).await;
    until("an empty table", async || database.rows().await == 0).await;
    service.shutdown().await.unwrap();
}

async fn a_relay_that_is_stopped_marks_what_it_has_published(database: Database) {
    let (broker, topology) = broker();
    database.enqueue(&prepared(0..3000), true).await;
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).batch(50);
    let service = started(app.supervise(relay)).await;
    until("some", async || !broker.messages("q").unwrap().is_empty()).await;
    soon("shutdown", service.shutdown()).await.unwrap();
    let published = i64::try_from(broker.messages("q").unwrap().len()).unwrap();
    assert!(published < 3000, "it was stopped on its way");
    assert_eq!(database.rows().await + published, 3000);
    assert_eq!(database.number("select count(*) from fluffle_outbox where claimed_by is not null").await, 0);
}

async fn a_message_carries_the_trace_in_which_it_was_prepared_and_not_that_of_its_relay(database: Database) {
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    let context = TraceContext::new([1; 16], [2; 8], true).unwrap();
    let prepared = trace::within(context.clone(), || prepared(["traced"]));
    database.enqueue(&prepared, true).await;
    until("an empty table", async || database.rows().await == 0).await;
    let queued = broker.read::<String>("q").unwrap();
    let expected = fluffle::broker::Value::Text(context.traceparent());
    assert_eq!(queued[0].raw.headers.get(TRACEPARENT), Some(&expected));
    service.shutdown().await.unwrap();
}

async fn a_prepared_message_comes_out_as_it_went_in(database: Database) {
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    let options = MessageOptions::new().id("order-7").correlation_id("c").priority(3).header("tenant", "eu");
    let message = Route::<String>::queue("q").prepare(&"seven".to_owned(), &options).unwrap();
    database.enqueue(std::slice::from_ref(&message), true).await;
    until("an empty table", async || database.rows().await == 0).await;
    let arrived = &broker.messages("q").unwrap()[0];
    assert_eq!(arrived.message_id.as_deref(), Some("order-7"));
    assert_eq!((arrived.correlation_id.as_deref(), arrived.priority), (Some("c"), Some(3)));
    assert_eq!((arrived.headers.len(), arrived.delivery_mode), (1, Some(2)));
    assert_eq!(&arrived.body, message.body());
    service.shutdown().await.unwrap();
}

/// The relay polls once an hour, so only `settled` itself makes it publish.
async fn a_test_that_waits_for_settled_waits_for_the_outbox_though_nobody_wakes_it(database: Database) {
    let (broker, topology) = broker();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).poll_every(Duration::from_secs(3600));
    let service = started(app.supervise(relay)).await;
    for number in 0..10 {
        database.enqueue(&prepared([number]), true).await;
        broker.settled(&service).await.unwrap();
        assert_eq!((texts(&broker, "q").len(), database.rows().await), (number + 1, 0));
    }
    service.shutdown().await.unwrap();
}

/// Waits until a gauge of the relay's publisher has such a value.
async fn gauge_becomes(telemetry: &Telemetry, name: &str, is_it: impl Fn(f64) -> bool) {
    until(&format!("the value of {name}"), async || {
        let families = telemetry.read();
        let points = families.iter().filter(|family| family.name.prometheus == name).flat_map(|family| &family.points);
        let own = points.into_iter().find(|point| *point.labels[0] == *"outbox");
        own.is_some_and(|point| matches!(point.value, Value::Number(value) if is_it(value)))
    })
    .await;
}

async fn what_a_relay_waits_with_is_named_and_what_it_has_parked_is_not_waited_for(database: Database) {
    let ((broker, topology), telemetry) = (broker(), Telemetry::new());
    let app = App::new(broker.client().unwrap()).topology(topology).telemetry(&telemetry);
    let hour = Duration::from_secs(3600);
    let relay = relay(&database, &app).retry(Retry::exponential(2, hour, 1.0).unwrap());
    let service = started(app.supervise(relay)).await;
    database.enqueue(&prepared_for("missing", ["refused"]), true).await;
    let error = broker.settled_within(&service, Duration::from_secs(1)).await.unwrap_err().to_string();
    assert!(error.contains("1 messages wait in the store of publisher outbox"), "{error}");
    let waits = service.backlogs().await.into_iter().map(|(name, waiting)| (name, waiting.unwrap()));
    assert_eq!(waits.collect::<Vec<_>>(), [("outbox".to_owned(), 1)]);
    gauge_becomes(&telemetry, "fluffle_outbox_pending", |rows| rows == 1.0).await;
    gauge_becomes(&telemetry, "fluffle_outbox_oldest_age_seconds", |age| age > 1.0 && age < 60.0).await;
    database.execute("update fluffle_outbox set parked_at = due_at").await;
    broker.settled(&service).await.unwrap();
    gauge_becomes(&telemetry, "fluffle_outbox_pending", |rows| rows == 0.0).await;
    gauge_becomes(&telemetry, "fluffle_outbox_oldest_age_seconds", |age| age == 0.0).await;
    service.shutdown().await.unwrap();
}
