//! Consumers: tags, deliveries, fairness, ends.

use conformance::{Target, refusal, table, text};
use lapin::{
    options::*,
    protocol::{basic, queue},
    types::FieldTable,
};

pub(crate) async fn a_consumer_without_a_tag_is_given_one(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let (one, two) = (channel.consume("q").await, channel.consume("q").await);
    assert!(one.tag().starts_with("amq.ctag-"), "{}", one.tag());
    assert_ne!(one.tag(), two.tag());
}

pub(crate) async fn a_delivery_names_its_consumer_exchange_and_key(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let consume = basic::Consume { queue: "q".into(), consumer_tag: "tag".into(), ..Default::default() };
    assert_eq!(wire.call::<basic::ConsumeOk>(1, consume).await.consumer_tag.as_str(), "tag");
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    wire.publish(1, publish, Default::default(), b"m").await;
    let wanted = basic::Deliver {
        consumer_tag: "tag".into(),
        delivery_tag: 1,
        redelivered: false,
        exchange: "".into(),
        routing_key: "q".into(),
    };
    assert_eq!(wire.expect::<basic::Deliver>(1).await, wanted);
    assert_eq!(wire.content(1).await.body, b"m");
}

pub(crate) async fn delivery_tags_count_over_all_consumers_of_a_channel(broker: &Target) {
    let channel = broker.channel().await;
    let mut tags = Vec::new();
    for queue in ["one", "two"] {
        channel.queue(queue).await;
        let mut consumer = channel.consume(queue).await;
        channel.fill(queue, &["m", "m"]).await;
        for _ in 0..2 {
            tags.push(consumer.next().await.delivery_tag);
        }
    }
    assert_eq!(tags, [1, 2, 3, 4]);
}

pub(crate) async fn what_waits_is_delivered_in_order_and_then_what_comes(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2"]).await;
    let mut consumer = channel.consume("q").await;
    channel.fill("q", &["3", "4"]).await;
    assert_eq!(consumer.bodies(4).await, ["1", "2", "3", "4"]);
}

pub(crate) async fn consumers_take_turns(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let (mut one, mut two) = (channel.consume("q").await, channel.consume("q").await);
    channel.fill("q", &["1", "2", "3", "4"]).await;
    assert_eq!(
        (one.bodies(2).await, two.bodies(2).await),
        (vec!["1".into(), "3".into()], vec!["2".into(), "4".into()])
    );
}

pub(crate) async fn a_no_ack_consumers_messages_are_gone(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2"]).await;
    let (reader, other) = (broker.channel().await, broker.channel().await);
    let mut consumer = reader.consume_no_ack("q").await;
    consumer.bodies(2).await;
    reader.quit().await;
    assert_eq!(other.ready("q").await, 0);
}

pub(crate) async fn consuming_from_a_queue_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let consumed = channel.basic_consume("none".into(), "".into(), Default::default(), table! {}).await;
    let text = format!("NOT_FOUND - no queue 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(consumed), (404, text));
}

pub(crate) async fn a_tag_in_use_on_the_channel_is_530_and_ends_the_connection(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let consume = basic::Consume { queue: "q".into(), consumer_tag: "tag".into(), ..Default::default() };
    let _: basic::ConsumeOk = wire.call(1, consume.clone()).await;
    wire.send(1, consume).await;
    let close = wire.connection_closed().await;
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'tag'";
    assert_eq!((close.reply_code, close.reply_text.as_str()), (530, text));
    assert_eq!((close.class_id, close.method_id), (60, 20));
}

pub(crate) async fn a_tag_may_be_used_on_two_channels_and_again_after_cancel(broker: &Target) {
    let (one, two) = (broker.channel().await, broker.channel().await);
    one.queue("q").await;
    let first = one.consume_with("q", "tag", Default::default(), table! {}).await.unwrap();
    two.consume_with("q", "tag", Default::default(), table! {}).await.unwrap();
    first.cancel().await;
    one.consume_with("q", "tag", Default::default(), table! {}).await.unwrap();
}

pub(crate) async fn cancelling_stops_deliveries_and_leaves_what_was_delivered(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    let mut consumer = channel.consume("q").await;
    let held = consumer.next().await;
    consumer.cancel().await;
    channel.fill("q", &["2"]).await;
    assert_eq!(channel.ready("q").await, 1);
    // A delivery survives its consumer, and can be acknowledged as usual.
    channel.ack(held.delivery_tag).await;
    assert_eq!(channel.drain("q").await, ["2"]);
}

pub(crate) async fn cancelling_an_unknown_tag_succeeds(broker: &Target) {
    let mut wire = broker.wire().await;
    let cancel = basic::Cancel { consumer_tag: "none".into(), nowait: false };
    assert_eq!(wire.call::<basic::CancelOk>(1, cancel).await.consumer_tag.as_str(), "none");
}

pub(crate) async fn deleting_a_queue_cancels_its_consumers(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let consume = basic::Consume { queue: "q".into(), consumer_tag: "tag".into(), ..Default::default() };
    let _: basic::ConsumeOk = wire.call(1, consume).await;
    let other = broker.channel().await;
    other.queue_delete("q".into(), Default::default()).await.unwrap();
    let wanted = basic::Cancel { consumer_tag: "tag".into(), nowait: true };
    assert_eq!(wire.expect::<basic::Cancel>(1).await, wanted);
    // The channel stays usable.
    wire.queue(1, "q", table! {}).await;
}

pub(crate) async fn whoever_deletes_a_queue_hears_of_that_before_its_own_consumers_end(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let consume = basic::Consume { queue: "q".into(), consumer_tag: "tag".into(), ..Default::default() };
    let _: basic::ConsumeOk = wire.call(1, consume).await;
    let _: queue::DeleteOk = wire.call(1, queue::Delete { queue: "q".into(), ..Default::default() }).await;
    assert_eq!(wire.expect::<basic::Cancel>(1).await.consumer_tag.as_str(), "tag");
}

pub(crate) async fn a_client_that_cannot_be_cancelled_is_not_told(broker: &Target) {
    let tune_ok = lapin::protocol::connection::TuneOk { channel_max: 100, frame_max: 8192, heartbeat: 0 };
    let (mut wire, _) = conformance::Wire::log_in(broker.address(), FieldTable::default()).await;
    wire.send(0, tune_ok).await;
    let open = lapin::protocol::connection::Open { virtual_host: broker.vhost().into() };
    let _: lapin::protocol::connection::OpenOk = wire.call(0, open).await;
    wire.channel(1).await;
    wire.queue(1, "q", table! {}).await;
    let _: basic::ConsumeOk = wire.call(1, basic::Consume { queue: "q".into(), ..Default::default() }).await;
    let other = broker.channel().await;
    other.queue_delete("q".into(), Default::default()).await.unwrap();
    // The next frame is the answer to the next method.
    wire.queue(1, "q", table! {}).await;
}

pub(crate) async fn a_quorum_queue_deleted_cancels_its_consumers(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-queue-type" => "quorum" }).await;
    let mut consumer = channel.consume("q").await;
    channel.queue_delete("q".into(), Default::default()).await.unwrap();
    consumer.is_cancelled().await;
}

pub(crate) async fn a_channels_end_ends_its_consumers(broker: &Target) {
    let (channel, other) = (broker.channel().await, broker.channel().await);
    channel.queue("q").await;
    let _consumer = channel.consume("q").await;
    assert_eq!(other.inspect("q").await.unwrap().consumer_count(), 1);
    channel.quit().await;
    conformance::eventually("the consumer's end", async || other.inspect("q").await.unwrap().consumer_count() == 0)
        .await;
}

pub(crate) async fn no_local_is_ignored(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let options = BasicConsumeOptions { no_local: true, ..Default::default() };
    let mut consumer = channel.consume_with("q", "", options, table! {}).await.unwrap();
    channel.fill("q", &["own"]).await;
    assert_eq!(consumer.bodies(1).await, ["own"]);
}

pub(crate) async fn consume_ok_comes_before_the_first_delivery(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    wire.publish(1, publish, Default::default(), b"m").await;
    let _: basic::ConsumeOk = wire.call(1, basic::Consume { queue: "q".into(), ..Default::default() }).await;
    let _: basic::Deliver = wire.expect(1).await;
}

pub(crate) async fn consuming_with_nowait_is_not_answered(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let consume = basic::Consume { queue: "q".into(), consumer_tag: "tag".into(), nowait: true, ..Default::default() };
    wire.send(1, consume).await;
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    wire.publish(1, publish, Default::default(), b"m").await;
    assert_eq!(wire.expect::<basic::Deliver>(1).await.consumer_tag.as_str(), "tag");
}

pub(crate) async fn a_consumer_of_higher_priority_is_served_first(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.prefetch(2, false).await;
    let mut low = channel.consume("q").await;
    let arguments = table! { "x-priority" => 10 };
    let mut high = channel.consume_with("q", "", Default::default(), arguments).await.unwrap();
    channel.fill("q", &["1", "2", "3"]).await;
    assert_eq!(high.bodies(2).await, ["1", "2"]);
    // The other consumer gets messages only when this one has reached its prefetch.
    assert_eq!(text(&low.next().await.data), "3");
}

pub(crate) async fn a_consumer_priority_that_is_no_number_is_406(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let consumed = channel.basic_consume("q".into(), "".into(), Default::default(), table! { "x-priority" => "high" });
    let refused = refusal(consumed.await);
    assert_eq!(refused.0, 406, "{refused:?}");
    assert!(refused.1.starts_with("PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q'"), "{refused:?}");
}
