//! `basic.get`.

use conformance::{Target, refusal, table};
use lapin::{options::*, protocol::basic};

pub(crate) async fn an_empty_queue_says_so(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.queue(1, "q", table! {}).await;
    let _: basic::GetEmpty = wire.call(1, basic::Get { queue: "q".into(), no_ack: false }).await;
}

pub(crate) async fn get_ok_counts_what_is_left(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2", "3"]).await;
    let mut left = Vec::new();
    while let Some(message) = channel.get("q").await {
        left.push((message.delivery_tag, message.message_count, message.redelivered));
    }
    assert_eq!(left, [(1, 2, false), (2, 1, false), (3, 0, false)]);
}

pub(crate) async fn get_without_acknowledgement_takes_the_message(broker: &Target) {
    let (channel, other) = (broker.channel().await, broker.channel().await);
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    channel.quit().await;
    assert_eq!(other.ready("q").await, 0);
}

pub(crate) async fn a_message_requeued_is_redelivered(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    let tag = channel.get("q").await.unwrap().delivery_tag;
    channel.reject(tag, true).await;
    assert!(channel.get("q").await.unwrap().redelivered);
}

pub(crate) async fn getting_from_a_queue_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let text = format!("NOT_FOUND - no queue 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.basic_get("none".into(), Default::default()).await), (404, text));
}

pub(crate) async fn get_shares_the_channels_delivery_tags(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume("q").await;
    assert_eq!(consumer.next().await.delivery_tag, 1);
    assert_eq!(channel.get("q").await.unwrap().delivery_tag, 2);
}

pub(crate) async fn an_empty_queue_name_means_the_last_declared(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    assert_eq!(channel.get("").await.unwrap().data, b"1");
}
