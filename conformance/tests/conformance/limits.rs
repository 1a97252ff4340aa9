//! Queues with a maximum length.

use conformance::{Target, refusal, table};
use lapin::{Confirmation, options::*};

pub(crate) async fn drop_head_is_the_default(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 2 }).await;
    channel.fill("q", &["1", "2", "3"]).await;
    assert_eq!(channel.drain("q").await, ["2", "3"]);
}

pub(crate) async fn drop_head_confirms_what_pushes_out_and_what_is_pushed(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 1, "x-overflow" => "drop-head" }).await;
    for body in ["1", "2"] {
        assert_eq!(channel.publish("", "q", body).await.unwrap(), Confirmation::Ack(None));
    }
    assert_eq!(channel.drain("q").await, ["2"]);
}

pub(crate) async fn reject_publish_keeps_the_oldest(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 2, "x-overflow" => "reject-publish" }).await;
    for (body, confirmation) in
        [("1", Confirmation::Ack(None)), ("2", Confirmation::Ack(None)), ("3", Confirmation::Nack(None))]
    {
        assert_eq!(channel.publish("", "q", body).await.unwrap(), confirmation, "{body}");
    }
    assert_eq!(channel.drain("q").await, ["1", "2"]);
    assert_eq!(channel.publish("", "q", "4").await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn without_confirms_a_rejected_publish_is_silent(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue_with("q", table! { "x-max-length" => 1, "x-overflow" => "reject-publish" }).await;
    channel.fill("q", &["1", "2"]).await;
    assert_eq!(channel.drain("q").await, ["1"]);
}

pub(crate) async fn bytes_are_those_of_bodies(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length-bytes" => 10 }).await;
    channel.fill("q", &["12345", "67890"]).await;
    assert_eq!(channel.ready("q").await, 2);
    channel.fill("q", &["x"]).await;
    assert_eq!(channel.drain("q").await, ["67890", "x"]);
}

pub(crate) async fn a_body_larger_than_the_queue_may_hold_is_dropped_with_all_before_it(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length-bytes" => 10 }).await;
    channel.fill("q", &["1", "12345678901"]).await;
    assert!(channel.drain("q").await.is_empty());
}

pub(crate) async fn whichever_limit_is_met_first_counts(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 2, "x-max-length-bytes" => 10 }).await;
    channel.fill("q", &["1", "2", "3"]).await;
    assert_eq!(channel.ready("q").await, 2);
    channel.fill("q", &["123456789"]).await;
    assert_eq!(channel.drain("q").await, ["3", "123456789"]);
}

pub(crate) async fn what_is_delivered_does_not_count(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 1 }).await;
    channel.fill("q", &["1"]).await;
    let held = channel.get("q").await.unwrap();
    channel.fill("q", &["2"]).await;
    assert_eq!(channel.ready("q").await, 1);
    // The returned message is the oldest, so it is dropped itself.
    channel.reject(held.delivery_tag, true).await;
    assert_eq!(channel.drain("q").await, ["2"]);
}

pub(crate) async fn length_zero_holds_nothing_but_serves_a_waiting_consumer(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 0 }).await;
    channel.fill("q", &["nobody there"]).await;
    assert_eq!(channel.ready("q").await, 0);
    let mut consumer = channel.consume("q").await;
    channel.fill("q", &["taken"]).await;
    assert_eq!(consumer.bodies(1).await, ["taken"]);
}

pub(crate) async fn a_priority_queues_head_is_its_highest_priority(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 2, "x-max-priority" => 5 }).await;
    for (body, priority) in [("high", 5), ("low", 1), ("middle", 3)] {
        let properties = lapin::BasicProperties::default().with_priority(priority);
        channel.publish_with("", "q", body, properties).await.unwrap();
    }
    // RabbitMQ drops the message with the highest priority, although that may be surprising.
    assert_eq!(channel.drain("q").await, ["middle", "low"]);
}

pub(crate) async fn a_quorum_queue_drops_its_head(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 2, "x-queue-type" => "quorum" }).await;
    channel.fill("q", &["1", "2", "3"]).await;
    assert_eq!(channel.drain("q").await, ["2", "3"]);
}

pub(crate) async fn a_negative_length_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let declared = channel.declare("q", QueueDeclareOptions::durable(), table! { "x-max-length" => -1 }).await;
    let vhost = broker.vhost();
    let text = "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost ";
    assert_eq!(refusal(declared), (406, format!("{text}'{vhost}': {{value_negative,-1}}")));
}

pub(crate) async fn an_unknown_overflow_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let declared = channel.declare("q", QueueDeclareOptions::durable(), table! { "x-overflow" => "burst" }).await;
    let vhost = broker.vhost();
    let text = "PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'q' in vhost ";
    assert_eq!(refusal(declared), (406, format!("{text}'{vhost}': invalid_overflow")));
}
