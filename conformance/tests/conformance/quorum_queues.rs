//! Behaviours of quorum queues that classic queues do not have.

use conformance::{Chan, Target, refusal, string, table, text};
use lapin::{
    message::Delivery,
    options::*,
    types::{AMQPValue, FieldTable},
};

pub(crate) async fn the_first_delivery_has_no_count(broker: &Target) {
    let channel = quorum(broker, table! {}).await;
    channel.fill("q", &["m"]).await;
    let delivery = channel.consume("q").await.next().await;
    assert_eq!((delivery.redelivered, count(&delivery)), (false, None));
}

pub(crate) async fn rejecting_counts(broker: &Target) {
    let channel = quorum(broker, table! {}).await;
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    for expected in [None, Some(1), Some(2)] {
        let delivery = consumer.next().await;
        assert_eq!((delivery.redelivered, count(&delivery)), (expected.is_some(), expected));
        channel.reject(delivery.delivery_tag, true).await;
    }
}

pub(crate) async fn nacking_counts(broker: &Target) {
    let channel = quorum(broker, table! {}).await;
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    channel.nack(first.delivery_tag, false, true).await;
    assert_eq!(count(&consumer.next().await), Some(1));
}

pub(crate) async fn a_lost_channel_counts(broker: &Target) {
    let (channel, other) = (quorum(broker, table! {}).await, broker.channel().await);
    channel.fill("q", &["m"]).await;
    channel.consume("q").await.next().await;
    channel.quit().await;
    let delivery = other.consume("q").await.next().await;
    assert_eq!((delivery.redelivered, count(&delivery)), (true, Some(1)));
}

pub(crate) async fn what_a_lost_channel_held_returns_to_its_place(broker: &Target) {
    let (channel, other) = (quorum(broker, table! {}).await, broker.channel().await);
    channel.fill("q", &["1", "2"]).await;
    channel.prefetch(1, false).await;
    channel.consume("q").await.next().await;
    channel.quit().await;
    // The close is answered before the queue notices it.
    conformance::eventually("its return", async || other.ready("q").await == 2).await;
    assert_eq!(other.consume("q").await.bodies(2).await, ["1", "2"]);
}

pub(crate) async fn past_its_delivery_limit_a_message_is_dead(broker: &Target) {
    let arguments = table! { "x-delivery-limit" => 2, "x-dead-letter-exchange" => "amq.fanout" };
    let channel = quorum(broker, arguments).await;
    channel.queue("dead").await;
    channel.bind("dead", "amq.fanout", "").await.unwrap();
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    for _ in 0..3 {
        let delivery = consumer.next().await;
        channel.reject(delivery.delivery_tag, true).await;
    }
    let dead = channel.consume("dead").await.next().await;
    let headers = dead.properties.headers().as_ref().unwrap();
    assert_eq!(string(headers, "x-first-death-reason"), "delivery_limit");
    assert!(!headers.contains_key("x-delivery-count"));
}

pub(crate) async fn past_its_delivery_limit_without_an_exchange_a_message_is_dropped(broker: &Target) {
    let channel = quorum(broker, table! { "x-delivery-limit" => 1 }).await;
    channel.fill("q", &["1", "2"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    for _ in 0..2 {
        let delivery = consumer.next().await;
        assert_eq!(text(&delivery.data), "1");
        channel.reject(delivery.delivery_tag, true).await;
    }
    assert_eq!(consumer.bodies(1).await, ["2"]);
}

pub(crate) async fn a_delivery_limit_of_zero_allows_one_delivery(broker: &Target) {
    let channel = quorum(broker, table! { "x-delivery-limit" => 0 }).await;
    channel.fill("q", &["1", "2"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    let delivery = consumer.next().await;
    channel.reject(delivery.delivery_tag, true).await;
    assert_eq!(consumer.bodies(1).await, ["2"]);
}

pub(crate) async fn without_a_delivery_limit_a_requeued_message_goes_to_the_end(broker: &Target) {
    let channel = quorum(broker, table! {}).await;
    channel.fill("q", &["1", "2", "3"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    channel.reject(first.delivery_tag, true).await;
    for expected in ["2", "3", "1"] {
        let delivery = consumer.next().await;
        assert_eq!(text(&delivery.data), expected);
        channel.ack(delivery.delivery_tag).await;
    }
}

pub(crate) async fn with_a_delivery_limit_a_requeued_message_comes_before_those_that_wait(broker: &Target) {
    let channel = quorum(broker, table! { "x-delivery-limit" => 5 }).await;
    channel.fill("q", &["1", "2", "3"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    channel.reject(first.delivery_tag, true).await;
    let again = consumer.next().await;
    assert_eq!(text(&again.data), "1");
    channel.ack(again.delivery_tag).await;
    assert_eq!(consumer.bodies(1).await, ["2"]);
}

pub(crate) async fn a_rejected_message_is_a_dead_letter(broker: &Target) {
    let channel = quorum(broker, table! { "x-dead-letter-exchange" => "amq.fanout" }).await;
    channel.queue("dead").await;
    channel.bind("dead", "amq.fanout", "").await.unwrap();
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    let delivery = consumer.next().await;
    channel.reject(delivery.delivery_tag, false).await;
    let dead = channel.consume("dead").await.next().await;
    assert_eq!(string(dead.properties.headers().as_ref().unwrap(), "x-first-death-reason"), "rejected");
}

pub(crate) async fn a_consumer_holds_no_more_than_its_prefetch(broker: &Target) {
    let channel = quorum(broker, table! {}).await;
    channel.fill("q", &["1", "2", "3"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    consumer.is_quiet().await;
    channel.ack(first.delivery_tag).await;
    assert_eq!(consumer.bodies(1).await, ["2"]);
}

pub(crate) async fn it_must_be_durable(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::default(), table! {}).await;
    let vhost = broker.vhost();
    let text = format!("PRECONDITION_FAILED - invalid property 'non-durable' for queue 'q' in vhost '{vhost}'");
    assert_eq!(refused, (406, text));
}

pub(crate) async fn it_cannot_be_exclusive(broker: &Target) {
    let options = QueueDeclareOptions { durable: true, exclusive: true, ..Default::default() };
    let refused = declare(broker, options, table! {}).await;
    let vhost = broker.vhost();
    let text = format!("PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'q' in vhost '{vhost}'");
    assert_eq!(refused, (406, text));
}

pub(crate) async fn it_cannot_be_auto_delete(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::durable().auto_delete(), table! {}).await;
    let vhost = broker.vhost();
    let text = format!("PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'q' in vhost '{vhost}'");
    assert_eq!(refused, (406, text));
}

pub(crate) async fn it_has_no_priorities(broker: &Target) {
    for arguments in [table! { "x-max-priority" => 5 }, table! { "x-max-priority" => 5_000_000_000_i64 }] {
        let refused = declare(broker, QueueDeclareOptions::durable(), arguments).await;
        let vhost = broker.vhost();
        let text = "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost";
        assert_eq!(refused, (406, format!("{text} '{vhost}' of queue type rabbit_quorum_queue")));
    }
}

pub(crate) async fn a_classic_queue_has_no_delivery_limit(broker: &Target) {
    let channel = broker.channel().await;
    let arguments = table! { "x-queue-type" => "classic", "x-delivery-limit" => 3 };
    let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await);
    let vhost = broker.vhost();
    let text = "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost";
    assert_eq!(refused, (406, format!("{text} '{vhost}' of queue type rabbit_classic_queue")));
}

pub(crate) async fn an_unknown_type_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let refused =
        refusal(channel.declare("q", QueueDeclareOptions::durable(), table! { "x-queue-type" => "ring" }).await);
    let vhost = broker.vhost();
    let text = "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost";
    assert_eq!(refused, (406, format!("{text} '{vhost}': \"unsupported queue type 'ring'\"")));
}

async fn quorum(broker: &Target, mut arguments: FieldTable) -> Chan {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let channel = broker.channel().await;
    channel.queue_with("q", arguments).await;
    channel
}

async fn declare(broker: &Target, options: QueueDeclareOptions, mut arguments: FieldTable) -> conformance::Refusal {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    refusal(broker.channel().await.declare("q", options, arguments).await)
}

fn count(delivery: &Delivery) -> Option<i64> {
    match delivery.properties.headers().as_ref()?.inner().get("x-delivery-count")? {
        AMQPValue::LongLongInt(count) => Some(*count),
        other => panic!("x-delivery-count should be a 64-bit integer: {other:?}"),
    }
}
