//! `basic.qos`: how many deliveries a consumer, or a channel, may hold.

use conformance::{Chan, Target, refusal, table};

pub(crate) async fn a_consumer_holds_no_more_than_its_prefetch(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(2, false).await;
    let mut consumer = channel.consume("q").await;
    assert_eq!(consumer.bodies(2).await, ["1", "2"]);
    consumer.is_quiet().await;
    channel.ack(1).await;
    assert_eq!(consumer.bodies(1).await, ["3"]);
    consumer.is_quiet().await;
    channel.reject(2, false).await;
    assert_eq!(consumer.bodies(1).await, ["4"]);
}

pub(crate) async fn each_consumer_has_a_prefetch_of_its_own(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    let mut one = channel.consume("q").await;
    let mut two = channel.consume("q").await;
    assert_eq!((one.bodies(1).await, two.bodies(1).await), (vec!["1".to_owned()], vec!["2".to_owned()]));
    one.is_quiet().await;
    two.is_quiet().await;
}

pub(crate) async fn a_consumer_keeps_the_prefetch_it_began_with(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    let mut old = channel.consume("q").await;
    channel.prefetch(2, false).await;
    assert_eq!(old.bodies(1).await, ["1"]);
    old.is_quiet().await;
    let mut new = channel.consume("q").await;
    assert_eq!(new.bodies(2).await, ["2", "3"]);
    new.is_quiet().await;
}

pub(crate) async fn a_global_prefetch_is_shared_by_the_channels_consumers(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(2, true).await;
    let mut one = channel.consume("q").await;
    assert_eq!(one.bodies(2).await, ["1", "2"]);
    let mut two = channel.consume("q").await;
    two.is_quiet().await;
    channel.ack_up_to(2).await;
    // Two deliveries may be held again, by either consumer.
    conformance::eventually("two more deliveries", async || channel.ready("q").await == 1).await;
}

pub(crate) async fn a_global_prefetch_and_a_consumers_own_both_bind(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    channel.prefetch(3, true).await;
    let mut one = channel.consume("q").await;
    assert_eq!(one.bodies(1).await, ["1"]);
    one.is_quiet().await;
}

pub(crate) async fn another_channel_is_not_bound_by_a_global_prefetch(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, true).await;
    let mut one = channel.consume("q").await;
    assert_eq!(one.bodies(1).await, ["1"]);
    let other = broker.channel().await;
    assert_eq!(other.consume("q").await.bodies(4).await, ["2", "3", "4", "5"]);
}

pub(crate) async fn raising_a_global_prefetch_lets_more_through(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, true).await;
    let mut one = channel.consume("q").await;
    assert_eq!(one.bodies(1).await, ["1"]);
    channel.prefetch(3, true).await;
    assert_eq!(one.bodies(2).await, ["2", "3"]);
    one.is_quiet().await;
}

pub(crate) async fn a_prefetch_for_consumers_ends_the_channels(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, true).await;
    let mut consumer = channel.consume("q").await;
    assert_eq!(consumer.bodies(1).await, ["1"]);
    channel.prefetch(5, false).await;
    assert_eq!(consumer.bodies(2).await, ["2", "3"]);
}

pub(crate) async fn zero_is_no_limit(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    channel.prefetch(0, false).await;
    assert_eq!(channel.consume("q").await.bodies(5).await.len(), 5);
}

pub(crate) async fn a_consumer_without_acknowledgements_is_not_bound(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    assert_eq!(channel.consume_no_ack("q").await.bodies(5).await.len(), 5);
}

pub(crate) async fn basic_get_is_not_bound(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(1).await;
    assert_eq!(channel.get("q").await.unwrap().data, b"2");
    // The fetched message does not count against the consumer's prefetch.
    channel.ack(1).await;
    assert_eq!(consumer.bodies(1).await, ["3"]);
}

pub(crate) async fn multiple_makes_room_for_as_many(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(2, false).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    channel.ack_up_to(2).await;
    assert_eq!(consumer.bodies(2).await, ["3", "4"]);
    consumer.is_quiet().await;
}

pub(crate) async fn a_quorum_queue_refuses_a_global_prefetch(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-queue-type" => "quorum" }).await;
    channel.prefetch(1, true).await;
    let consumed = channel.basic_consume("q".into(), "".into(), Default::default(), table! {}).await;
    let text = format!("NOT_IMPLEMENTED - queue 'q' in vhost '{}' does not support global qos", broker.vhost());
    assert_eq!(refusal(consumed), (540, text));
}

pub(crate) async fn a_prefetch_size_is_540(broker: &Target) {
    let mut wire = broker.wire().await;
    // amq-protocol cannot encode a size: basic.qos (60, 10), size 1, count 0, not global.
    wire.send_bytes(&[1, 0, 1, 0, 0, 0, 11, 0, 60, 0, 10, 0, 0, 0, 1, 0, 0, 0, 206]).await;
    let close = wire.connection_closed().await;
    assert_eq!((close.reply_code, close.reply_text.as_str()), (540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)"));
}

/// A queue with five messages.
async fn filled(broker: &Target) -> Chan {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2", "3", "4", "5"]).await;
    channel
}

pub(crate) async fn who_need_not_acknowledge_obeys_the_channels_limit(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(1, true).await;
    let mut one = channel.consume("q").await;
    assert_eq!(one.bodies(1).await, ["1"]);
    channel.queue("free").await;
    channel.fill("free", &["a"]).await;
    let mut free = channel.consume_no_ack("free").await;
    free.is_quiet().await;
    one.cancel().await;
    channel.ack(1).await;
    assert_eq!(free.bodies(1).await, ["a"]);
}

pub(crate) async fn consumers_that_share_a_limit_all_have_their_turn(broker: &Target) {
    const EACH: usize = 30;
    let channel = broker.channel().await;
    for queue in ["one", "two"] {
        channel.queue(queue).await;
        channel.fill(queue, &["m"; EACH]).await;
    }
    channel.prefetch(1, true).await;
    let (mut one, mut two) = (channel.consume("one").await, channel.consume("two").await);
    for _ in 0..EACH {
        let delivery = tokio::select! {
            delivery = one.next() => delivery,
            delivery = two.next() => delivery,
        };
        channel.ack(delivery.delivery_tag).await;
    }
    // RabbitMQ does not promise turns, only that every consumer gets messages.
    for queue in ["one", "two"] {
        assert!((channel.ready(queue).await as usize) < EACH - 1, "{queue} waits");
    }
}
