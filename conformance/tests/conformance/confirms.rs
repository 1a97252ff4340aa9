//! Publisher confirms.

use conformance::{Frame, Method, Target, refusal, table};
use lapin::{BasicProperties, Confirmation, protocol::basic};

pub(crate) async fn tags_count_from_one_on_each_channel(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.confirm_channel(2).await;
    wire.confirm_channel(3).await;
    for (id, tag) in [(2, 1), (2, 2), (3, 1)] {
        wire.publish(id, to("none"), BasicProperties::default(), b"m").await;
        assert_eq!(wire.expect::<basic::Ack>(id).await, basic::Ack { delivery_tag: tag, multiple: false });
    }
}

pub(crate) async fn messages_before_confirm_select_are_not_counted(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue("q").await;
    assert_eq!(channel.publish("", "q", "m").await.unwrap(), Confirmation::NotRequested);
    channel.confirm_select(Default::default()).await.unwrap();
    assert_eq!(channel.publish("", "q", "m").await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn confirm_select_may_be_repeated(broker: &Target) {
    let channel = broker.channel().await;
    channel.confirm_select(Default::default()).await.unwrap();
    assert_eq!(channel.publish("", "none", "m").await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn a_burst_is_confirmed_completely_and_each_message_once(broker: &Target) {
    const BURST: u64 = 500;
    let mut wire = broker.wire().await;
    wire.confirm_channel(2).await;
    wire.queue(2, "q", table! {}).await;
    for _ in 0..BURST {
        wire.publish(2, to("q"), BasicProperties::default().with_delivery_mode(2), b"m").await;
    }
    let mut open: std::collections::BTreeSet<u64> = (1..=BURST).collect();
    while !open.is_empty() {
        let ack: basic::Ack = wire.expect(2).await;
        assert!(open.contains(&ack.delivery_tag), "{ack:?} confirms what is confirmed already");
        if ack.multiple {
            open.retain(|tag| *tag > ack.delivery_tag);
        } else {
            open.remove(&ack.delivery_tag);
        }
    }
    assert_eq!(wire.queue(2, "q", table! {}).await.message_count, BURST as u32);
}

pub(crate) async fn a_persistent_message_in_a_durable_queue_is_confirmed(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    assert_eq!(channel.publish_with("", "q", "m", persistent).await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn a_message_in_a_quorum_queue_is_confirmed(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-queue-type" => "quorum" }).await;
    assert_eq!(channel.publish("", "q", "m").await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn a_full_queue_that_rejects_publishers_nacks(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.confirm_channel(2).await;
    wire.queue(2, "q", table! { "x-max-length" => 1, "x-overflow" => "reject-publish" }).await;
    wire.publish(2, to("q"), BasicProperties::default(), b"in").await;
    assert_eq!(wire.expect::<basic::Ack>(2).await, basic::Ack { delivery_tag: 1, multiple: false });
    wire.publish(2, to("q"), BasicProperties::default(), b"out").await;
    // The broker may set `multiple` in a nack for one message; `requeue` has no meaning here.
    assert_eq!(wire.expect::<basic::Nack>(2).await.delivery_tag, 2);
}

pub(crate) async fn one_full_queue_among_several_nacks(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("full", table! { "x-max-length" => 1, "x-overflow" => "reject-publish" }).await;
    channel.queue("open").await;
    channel.fill("full", &["in"]).await;
    for queue in ["full", "open"] {
        channel.bind(queue, "amq.fanout", "").await.unwrap();
    }
    assert_eq!(channel.publish("amq.fanout", "", "m").await.unwrap(), Confirmation::Nack(None));
    // The other queues keep the message.
    assert_eq!(channel.drain("open").await, ["m"]);
}

pub(crate) async fn no_confirm_comes_without_confirm_mode(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    wire.publish(1, to("q"), BasicProperties::default(), b"m").await;
    wire.send(1, basic::Get { queue: "q".into(), no_ack: true }).await;
    let _: basic::GetOk = wire.expect(1).await;
}

pub(crate) async fn a_confirm_channel_cannot_become_transactional(broker: &Target) {
    let channel = broker.channel().await;
    let wanted = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(refusal(channel.tx_select().await), (406, wanted.into()));
}

pub(crate) async fn a_transactional_channel_cannot_become_confirming(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.tx_select().await.unwrap();
    let wanted = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(refusal(channel.confirm_select(Default::default()).await), (406, wanted.into()));
}

pub(crate) async fn a_message_a_no_ack_consumer_takes_is_confirmed(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let mut consumer = channel.consume_no_ack("q").await;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    assert_eq!(channel.publish_with("", "q", "m", persistent).await.unwrap(), Confirmation::Ack(None));
    assert_eq!(consumer.bodies(1).await, ["m"]);
}

pub(crate) async fn a_message_is_confirmed_before_its_consumer_acknowledges(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let mut consumer = channel.consume("q").await;
    assert_eq!(channel.publish("", "q", "m").await.unwrap(), Confirmation::Ack(None));
    assert_eq!(consumer.next().await.delivery_tag, 1);
}

pub(crate) async fn a_delivery_and_a_confirm_are_numbered_apart(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.confirm_channel(2).await;
    wire.queue(2, "q", table! {}).await;
    let _: basic::ConsumeOk = wire.call(2, basic::Consume { queue: "q".into(), ..Default::default() }).await;
    wire.publish(2, to("none"), BasicProperties::default(), b"lost").await;
    assert_eq!(wire.expect::<basic::Ack>(2).await.delivery_tag, 1);
    wire.publish(2, to("q"), BasicProperties::default(), b"m").await;
    let (mut delivered, mut confirmed) = (None, None);
    while delivered.is_none() || confirmed.is_none() {
        let Some(Frame::Method(2, class)) = wire.next().await else { panic!("expected a method") };
        if let Some(deliver) = basic::Deliver::from_class(class.clone()) {
            wire.content(2).await;
            delivered = Some(deliver.delivery_tag);
        } else {
            confirmed = basic::Ack::from_class(class).map(|ack| ack.delivery_tag);
        }
    }
    assert_eq!((delivered, confirmed), (Some(1), Some(2)));
}

fn to(queue: &str) -> basic::Publish {
    basic::Publish { routing_key: queue.into(), ..Default::default() }
}
