//! Acknowledging, rejecting and recovering: where messages go back to, and the errors for bad tags.

use conformance::{Chan, Target, refusal, table, text};
use lapin::{options::*, protocol::basic};

pub(crate) async fn an_acknowledged_message_is_gone(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2"]).await;
    let held = channel.get("q").await.unwrap();
    channel.ack(held.delivery_tag).await;
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["2"]);
}

pub(crate) async fn what_is_not_acknowledged_returns_when_the_channel_closes(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    channel.quit().await;
    let mut again = other.consume("q").await;
    assert_eq!(seen(&mut again, 3).await, [("1".into(), true), ("2".into(), true), ("3".into(), true)]);
}

pub(crate) async fn what_is_not_acknowledged_returns_when_the_connection_is_lost(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    let mut wire = broker.wire().await;
    let _: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: false }).await;
    let mut waiting = channel.consume("q").await;
    // Drop the socket without closing the connection.
    drop(wire);
    let delivery = waiting.next().await;
    assert_eq!((text(&delivery.data).as_str(), delivery.redelivered), ("1", true));
}

pub(crate) async fn multiple_acknowledges_everything_up_to_the_tag(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    channel.ack_up_to(2).await;
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["3"]);
}

pub(crate) async fn multiple_with_tag_zero_acknowledges_everything(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    channel.ack_up_to(0).await;
    channel.quit().await;
    assert_eq!(other.ready("q").await, 0);
}

pub(crate) async fn multiple_with_tag_zero_is_welcome_when_nothing_is_open(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.ack_up_to(0).await;
    channel.inspect("q").await.unwrap();
}

pub(crate) async fn acknowledging_out_of_order_is_welcome(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    channel.ack(3).await;
    channel.ack(1).await;
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["2"]);
}

pub(crate) async fn acknowledging_twice_is_406(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut end = channel.sentinel().await;
    let held = channel.get("q").await.unwrap();
    channel.ack(held.delivery_tag).await;
    channel.ack(held.delivery_tag).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
}

pub(crate) async fn acknowledging_a_tag_never_given_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let mut end = channel.sentinel().await;
    channel.ack(42).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 42".into()));
}

pub(crate) async fn acknowledging_several_up_to_a_tag_never_given_is_406(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut end = channel.sentinel().await;
    channel.get("q").await.unwrap();
    channel.ack_up_to(42).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 42".into()));
}

pub(crate) async fn acknowledging_several_twice_is_406(broker: &Target) {
    let (channel, _) = filled(broker, &["1", "2"]).await;
    let mut end = channel.sentinel().await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    channel.ack_up_to(1).await;
    channel.ack_up_to(1).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
}

pub(crate) async fn rejecting_twice_is_406(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut end = channel.sentinel().await;
    let held = channel.get("q").await.unwrap();
    channel.reject(held.delivery_tag, false).await;
    channel.reject(held.delivery_tag, false).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
}

pub(crate) async fn acknowledging_on_another_channel_is_406_there_and_nothing_here(broker: &Target) {
    let (channel, other) = filled(broker, &["1"]).await;
    let mut end = other.sentinel().await;
    let held = channel.get("q").await.unwrap();
    other.ack(held.delivery_tag).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
    channel.ack(held.delivery_tag).await;
    channel.inspect("q").await.unwrap();
}

pub(crate) async fn acknowledging_what_needs_no_acknowledgement_is_406(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut end = channel.sentinel().await;
    channel.consume_no_ack("q").await.next().await;
    channel.ack(1).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
}

pub(crate) async fn a_406_returns_what_the_channel_held(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2"]).await;
    let mut end = channel.sentinel().await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    channel.ack(42).await;
    end.closed().await;
    let mut again = other.consume("q").await;
    assert_eq!(seen(&mut again, 2).await, [("1".into(), true), ("2".into(), true)]);
}

pub(crate) async fn a_rejected_message_without_a_dead_letter_exchange_is_gone(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2"]).await;
    let held = channel.get("q").await.unwrap();
    channel.reject(held.delivery_tag, false).await;
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["2"]);
}

pub(crate) async fn a_requeued_message_returns_to_its_old_place(broker: &Target) {
    let (channel, _) = filled(broker, &["1", "2", "3", "4"]).await;
    let tags = [channel.get("q").await, channel.get("q").await, channel.get("q").await];
    let tags = tags.map(|message| message.unwrap().delivery_tag);
    channel.reject(tags[1], true).await;
    channel.nack(tags[0], false, true).await;
    let mut consumer = channel.consume("q").await;
    // In the order of publishing, in whatever order they are returned. "3" is still held.
    assert_eq!(seen(&mut consumer, 3).await, [("1".into(), true), ("2".into(), true), ("4".into(), false)]);
}

pub(crate) async fn nack_multiple_requeues_all_up_to_the_tag_in_order(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3", "4"]).await;
    channel.prefetch(3, false).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    consumer.cancel().await;
    channel.nack(2, true, true).await;
    channel.inspect("q").await.unwrap();
    assert_eq!(other.drain("q").await, ["1", "2", "4"]);
}

pub(crate) async fn nack_with_tag_zero_and_multiple_requeues_everything(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    consumer.cancel().await;
    channel.nack(0, true, true).await;
    channel.inspect("q").await.unwrap();
    assert_eq!(other.drain("q").await, ["1", "2"]);
}

pub(crate) async fn nack_without_requeue_drops(broker: &Target) {
    let (channel, other) = filled(broker, &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    channel.nack(2, true, false).await;
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["3"]);
}

pub(crate) async fn a_requeued_message_may_come_back_to_the_same_consumer(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    assert!(!first.redelivered);
    channel.reject(first.delivery_tag, true).await;
    let second = consumer.next().await;
    assert_eq!((second.delivery_tag, second.redelivered), (2, true));
}

pub(crate) async fn a_classic_queue_counts_no_deliveries(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut consumer = channel.consume("q").await;
    let first = consumer.next().await;
    channel.reject(first.delivery_tag, true).await;
    assert_eq!(consumer.next().await.properties.headers(), &None);
}

pub(crate) async fn recover_redelivers_what_the_channel_holds(broker: &Target) {
    let (channel, _) = filled(broker, &["1", "2"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    assert_eq!(seen(&mut consumer, 2).await, [("1".into(), true), ("2".into(), true)]);
}

pub(crate) async fn recover_without_requeue_is_540(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, basic::Recover { requeue: false }).await;
    let close = wire.connection_closed().await;
    assert_eq!((close.reply_code, close.reply_text.as_str()), (540, "NOT_IMPLEMENTED - requeue=false"));
}

pub(crate) async fn recover_async_is_not_answered(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    wire.publish(1, basic::Publish { routing_key: "q".into(), ..Default::default() }, Default::default(), b"m").await;
    let _: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: false }).await;
    wire.content(1).await;
    wire.send(1, basic::RecoverAsync { requeue: true }).await;
    let again: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: false }).await;
    assert!(again.redelivered);
}

pub(crate) async fn a_tag_recovered_is_unknown_afterwards(broker: &Target) {
    let (channel, _) = filled(broker, &["1"]).await;
    let mut end = channel.sentinel().await;
    channel.get("q").await.unwrap();
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    channel.ack(1).await;
    assert_eq!(end.closed().await, (406, "PRECONDITION_FAILED - unknown delivery tag 1".into()));
}

pub(crate) async fn acknowledging_for_a_deleted_queue_is_welcome(broker: &Target) {
    let (channel, other) = filled(broker, &["1"]).await;
    let held = channel.get("q").await.unwrap();
    other.queue_delete("q".into(), Default::default()).await.unwrap();
    channel.ack(held.delivery_tag).await;
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

/// A queue with messages, a channel to take them and another to inspect the queue.
async fn filled(broker: &Target, bodies: &[&str]) -> (Chan, Chan) {
    let (channel, other) = (broker.channel().await, broker.channel().await);
    channel.queue("q").await;
    channel.fill("q", bodies).await;
    (channel, other)
}

/// The next deliveries: body, and whether it was redelivered.
async fn seen(consumer: &mut conformance::Subscription, count: usize) -> Vec<(String, bool)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let delivery = consumer.next().await;
        seen.push((text(&delivery.data), delivery.redelivered));
    }
    seen
}
