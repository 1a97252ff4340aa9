//! Traps of waiting.

use std::time::Duration;

use fluffle::prelude::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use crate::support::*;

/// A queue expires messages only at its head. If short and long waits shared a queue, a short one could take as long as
/// a long one.
#[actix::test]
async fn a_short_wait_is_not_held_up_behind_a_long_one() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|seen| match (seen.text.as_str(), seen.attempt) {
        ("long", _) => Act::Err(Failure::retry("not for a while").after(Duration::from_secs(600))),
        (_, 1) => Act::Err(Failure::retry("not yet")),
        _ => Act::Ok,
    });
    let policy = Retry::exponential(3, Duration::from_millis(100), 6_000.0).unwrap();
    let service = started(app.consume(Consume::queue("q").retry(policy), factory)).await;
    publish(&out, &["long"]).await;
    assert_eq!(next(&mut record).await.text, "long");
    until("it waits", || stats(&service).retried == 1).await;
    publish(&out, &["short"]).await;
    assert_eq!(next(&mut record).await.text, "short");
    let again = next(&mut record).await;
    assert_eq!((again.text.as_str(), again.attempt), ("short", 2));
    service.shutdown().await.unwrap();
}

/// If a message expired in a queue and comes back to that queue without a rejection, the broker takes it for a cycle
/// and drops it silently (RabbitMQ, "Dead Letter Exchanges"). A retry copy must therefore not carry the broker's
/// `x-death` headers.
#[actix::test]
async fn a_message_that_has_expired_here_before_is_not_taken_for_a_cycle_when_its_retry_comes_back() {
    let vhost = vhost();
    let (app, _out) = app(vhost.url());
    let (factory, mut record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let service = started(app.consume(Consume::<String>::queue("q").retry(retry(2)), factory)).await;
    let mut death = FieldTable::default();
    for (name, value) in [("queue", "q"), ("reason", "expired"), ("exchange", "")] {
        death.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    death.insert(
        "routing-keys".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongString("q".into())])),
    );
    let mut table = FieldTable::default();
    table.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])));
    let (body, labels) = encoded("has expired before");
    Raw::connect(vhost.url()).await.put("q", &body, labels.with_headers(table)).await;
    assert_eq!(next(&mut record).await.attempt, 1);
    assert_eq!(next(&mut record).await.attempt, 2);
    until("it is handled", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
}
