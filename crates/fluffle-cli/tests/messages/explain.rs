//! `fluffle explain`.

use fluffle::{
    amqp::{MessageOptions, Route},
    store::{Journal, Record, SeenIds},
};
use fluffle_harness::{Postgres, RabbitMq};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use sqlx::{PgPool, SqlitePool};

use crate::support::{Client, Ended, on_both, properties, run};

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"))
}

/// What the report says of this place.
fn finding<'a>(report: &'a Value, place: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| finding["place"].as_str().unwrap().starts_with(place);
    findings.iter().find(is_it).unwrap_or_else(|| panic!("{place}: {report:#}"))
}

fn facts(finding: &Value) -> String {
    finding["facts"].as_array().unwrap().iter().map(|fact| fact.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dead_letter_tells_its_past_and_the_queue_keeps_all_its_messages_in_order() {
    on_both(|url, client| {
        for kind in ["classic", "quorum"] {
            let queue = format!("{kind}.dead");
            client.queue(&queue, kind);
            let mut headers = FieldTable::default();
            let text = |text: &str| AMQPValue::LongString(text.into());
            headers.insert("x-fluffle-reason".into(), text("attempts-exhausted"));
            headers.insert("x-fluffle-error".into(), text("no such customer\x1b[2J"));
            headers.insert("x-fluffle-attempt".into(), AMQPValue::LongLongInt(5));
            headers.insert("x-fluffle-origin-exchange".into(), text("shop"));
            headers.insert("x-fluffle-origin-key".into(), text("placed"));
            headers.insert("x-fluffle-origin-queue".into(), text("orders"));
            headers.insert("x-fluffle-first-seen".into(), AMQPValue::LongLongInt(1_700_000_000_000));
            for id in ["m1", "m2", "m3"] {
                client.publish("", &queue, properties(id).with_headers(headers.clone()), id.as_bytes());
            }
            client.wait_ready(&queue, 3);
            let ended = run(&["explain", "m2", "--queue", &queue, "--url", url, "--json"]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let told = report(&ended);
            let found = finding(&told, "queue");
            assert_eq!((&found["state"], &found["details"]["position"]), (&json!("found"), &json!(2)), "{told:#}");
            assert!(
                facts(found).contains("a dead letter of Fluffle: attempts-exhausted, after 5 attempts"),
                "{told:#}"
            );
            assert!(facts(found).contains("to the exchange shop with the key placed"), "{told:#}");
            let people = run(&["explain", "m2", "--queue", &queue, "--url", url]);
            assert!(people.out.contains("no such customer\\u{1b}[2J") && !people.out.contains('\x1b'), "{people:?}");
            client.wait_ready(&queue, 3);
            let bodies: Vec<_> = (0..3).map(|_| client.take(&queue).unwrap().delivery.data).collect();
            assert_eq!(bodies, [b"m1", b"m2", b"m3"], "{kind}: nothing lost, and in order");
        }
    });
}

#[test]
fn a_look_stops_before_a_quorum_queue_would_drop_a_message() {
    on_both(|url, client| {
        client.queue("orders", "quorum");
        client.publish("", "orders", properties("m1"), b"m1");
        client.wait_ready("orders", 1);
        let look = |id: &str| {
            let ended = run(&["explain", id, "--queue", "orders", "--delivery-limit", "6", "--url", url, "--json"]);
            client.wait_ready("orders", 1);
            finding(&report(&ended), "queue orders").clone()
        };
        for _ in 0..3 {
            assert!(!facts(&look("other")).contains("stopped"));
        }
        let stopped = look("other");
        assert!(facts(&stopped).contains("delivered 3 times in vain"), "{stopped:#}");
        assert!(facts(&look("m1")).contains("do not look again"), "the message itself is past half, too");
        let low = run(&["explain", "m1", "--queue", "orders", "--delivery-limit", "1", "--url", url, "--json"]);
        assert_eq!(finding(&report(&low), "queue orders")["state"], "refused", "{low:?}");
    });
}

#[test]
fn what_was_not_looked_at_is_told_and_what_cannot_be_looked_at_is_an_error() {
    on_both(|url, client| {
        client.queue("orders", "classic");
        for n in 0..5 {
            client.publish("", "orders", properties(&format!("m{n}")), b"");
        }
        client.wait_ready("orders", 5);
        let part = run(&["explain", "m4", "--queue", "orders", "--most", "2", "--url", url, "--json"]);
        let told = report(&part);
        assert_eq!((part.code, &finding(&told, "queue")["state"]), (Some(1), &json!("not_in_part")), "{told:#}");
        assert!(facts(finding(&told, "queue")).contains("2 of 5"), "{told:#}");
        assert!(told["cannot_be_known"].to_string().contains("AMQP lists no queues"), "{told:#}");
        let absent = run(&["explain", "m4", "--queue", "nothing", "--queue", "orders", "--url", url, "--json"]);
        let told = report(&absent);
        assert_eq!((absent.code, &finding(&told, "queue nothing")["state"]), (Some(2), &json!("failed")), "{told:#}");
        assert_eq!(finding(&told, "queue orders")["state"], "found", "one bad place hides no other");
    });
}

#[test]
fn journals_outboxes_and_stores_of_handled_ids_tell_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let route = Route::<String>::exchange("shop").key("placed");
    let message = |id: &str| route.prepare(&"an order".to_owned(), &MessageOptions::new().id(id)).unwrap();
    let (journal, seen) = runtime.block_on(async {
        let journal = Journal::options().open(path("journal")).unwrap();
        let bytes = message("b").to_bytes().unwrap();
        let _stays = journal.append(Record::new("b", bytes)).await.unwrap();
        let seen = SeenIds::options().open(path("seen")).unwrap();
        seen.insert("6:orders/b/3").await.unwrap();
        let pool = SqlitePool::connect(&format!("sqlite://{}?mode=rwc", path("shop.db"))).await.unwrap();
        fluffle_outbox::sqlite::migrate(&pool).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        fluffle_outbox::sqlite::enqueue(&mut tx, &message("b")).await.unwrap();
        fluffle_outbox::sqlite::seen::insert(&mut tx, "invoices", "b/3").await.unwrap();
        tx.commit().await.unwrap();
        (journal, seen)
    });
    let outbox = format!("sqlite://{}", path("shop.db"));
    let places = ["--journal", &path("journal"), "--seen", &path("seen"), "--outbox", &outbox];
    let arguments = ["explain", "b/3", "--url", "amqp://127.0.0.1:1", "--json"];
    let ended = run(&[&arguments[..], &places].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = report(&ended);
    assert!(facts(finding(&told, "journal")).contains("record 1, to the exchange `shop` with the key `placed`"));
    assert!(facts(finding(&told, "store of handled ids")).contains("a consumer of the queue orders: b/3"), "{told:#}");
    assert!(facts(finding(&told, "outbox table")).contains("waits for a relay"), "{told:#}");
    assert!(facts(finding(&told, "table of handled ids")).contains("handled by invoices"), "{told:#}");
    drop((journal, seen));
    let nothing = run(&[&["explain", "other", "--url", "amqp://127.0.0.1:1", "--json"][..], &places].concat());
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
}

#[test]
fn an_outbox_in_postgresql_is_read_and_never_written() {
    let server = Postgres::start().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let route = Route::<String>::exchange("shop");
    let prepared = route.prepare(&"x".to_owned(), &MessageOptions::new().id("m1")).unwrap();
    runtime.block_on(async {
        let pool = PgPool::connect(&server.url()).await.unwrap();
        fluffle_outbox::postgres::migrate(&pool).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        fluffle_outbox::postgres::enqueue(&mut tx, &prepared).await.unwrap();
        tx.commit().await.unwrap();
        let parked = "update fluffle_outbox set parked_at = now(), attempts = 5, error = 'no such exchange'";
        sqlx::query(parked).execute(&pool).await.unwrap();
    });
    let ended = run(&["explain", "m1", "--url", "amqp://127.0.0.1:1", "--json", "--outbox", &server.url()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = report(&ended);
    let row = finding(&told, "outbox table");
    assert!(facts(row).contains("after 5 refusals") && facts(row).contains("no such exchange"), "{told:#}");
    assert_eq!(finding(&told, "table of handled ids")["state"], "absent");
}

#[test]
fn with_the_management_api_queues_without_consumers_are_looked_at_and_others_named() {
    let broker = RabbitMq::builder().management().config("collect_statistics_interval = 500").start().unwrap();
    let (url, api) = (broker.url(), broker.api_url().unwrap());
    let client = Client::connect(&url);
    for (queue, kind) in [("orders.dead", "quorum"), ("orders", "classic"), ("history", "stream")] {
        client.queue(queue, kind);
        client.publish("", queue, properties("m1"), b"m1");
    }
    let _consumer = client.consume("orders");
    client.publish("", "orders", properties("m2"), b"waits behind it");
    let deadline = std::time::Instant::now() + crate::support::LIMIT;
    let told = loop {
        let ended = run(&["explain", "m1", "--url", &url, "--api", &api, "--json"]);
        let told = report(&ended);
        // The API's counts are half a second old.
        let unknown = told["cannot_be_known"].to_string();
        if told["findings"] != json!([]) && unknown.contains("history, orders ") {
            break told;
        }
        assert!(std::time::Instant::now() < deadline, "{told:#}");
    };
    assert_eq!(finding(&told, "queue orders.dead")["state"], "found", "{told:#}");
    assert_eq!(told["findings"].as_array().unwrap().len(), 1, "{told:#}");
}
