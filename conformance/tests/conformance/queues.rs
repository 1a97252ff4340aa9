//! Queues: declaring, naming, counting, purging, deleting.

use conformance::{Target, refusal, table};
use lapin::options::*;

const IF_UNUSED: QueueDeleteOptions = QueueDeleteOptions { if_unused: true, if_empty: false, nowait: false };
const IF_EMPTY: QueueDeleteOptions = QueueDeleteOptions { if_unused: false, if_empty: true, nowait: false };

pub(crate) async fn a_nameless_queue_is_named_by_the_broker(broker: &Target) {
    let channel = broker.channel().await;
    let one = channel.declare("", QueueDeclareOptions::exclusive(), table! {}).await.unwrap();
    let two = channel.declare("", QueueDeclareOptions::exclusive(), table! {}).await.unwrap();
    for queue in [&one, &two] {
        let name = queue.name().as_str();
        // 16 random bytes in URL-safe base64.
        assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
    }
    assert_ne!(one.name(), two.name());
}

pub(crate) async fn declare_ok_counts_ready_messages_and_consumers(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2", "3"]).await;
    let queue = channel.declare("q", QueueDeclareOptions::durable(), table! {}).await.unwrap();
    assert_eq!((queue.message_count(), queue.consumer_count()), (3, 0));
    channel.prefetch(2, false).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(2).await;
    // Unacknowledged deliveries are not counted.
    let queue = channel.inspect("q").await.unwrap();
    assert_eq!((queue.message_count(), queue.consumer_count()), (1, 1));
}

pub(crate) async fn declaring_passively_finds_a_queue_whatever_its_properties(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 3 }).await;
    let passive = QueueDeclareOptions { passive: true, auto_delete: true, ..Default::default() };
    let queue = channel.declare("q", passive, table! { "x-max-length" => 4 }).await.unwrap();
    assert_eq!(queue.name().as_str(), "q");
}

pub(crate) async fn purging_counts_and_removes_what_is_ready_and_spares_what_is_delivered(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2", "3"]).await;
    let held = channel.get("q").await.unwrap();
    assert_eq!(channel.queue_purge("q".into(), Default::default()).await.unwrap(), 2);
    assert_eq!(channel.ready("q").await, 0);
    channel.reject(held.delivery_tag, true).await;
    assert_eq!(channel.drain("q").await, ["1"]);
}

pub(crate) async fn purging_a_queue_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let text = format!("NOT_FOUND - no queue 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.queue_purge("none".into(), Default::default()).await), (404, text));
}

pub(crate) async fn deleting_counts_what_was_ready(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2", "3"]).await;
    channel.get("q").await.unwrap();
    assert_eq!(channel.queue_delete("q".into(), Default::default()).await.unwrap(), 2);
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn deleting_a_queue_that_is_not_there_succeeds(broker: &Target) {
    let channel = broker.channel().await;
    assert_eq!(channel.queue_delete("none".into(), Default::default()).await.unwrap(), 0);
}

pub(crate) async fn a_consumed_queue_is_not_deleted_if_unused(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let _consumer = channel.consume("q").await;
    let text = format!("PRECONDITION_FAILED - queue 'q' in vhost '{}' in use", broker.vhost());
    assert_eq!(refusal(channel.queue_delete("q".into(), IF_UNUSED).await), (406, text));
}

pub(crate) async fn a_filled_queue_is_not_deleted_if_empty(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    let text = format!("PRECONDITION_FAILED - queue 'q' in vhost '{}' not empty", broker.vhost());
    assert_eq!(refusal(channel.queue_delete("q".into(), IF_EMPTY).await), (406, text));
}

pub(crate) async fn an_unused_empty_queue_is_deleted_on_both_conditions(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let both = QueueDeleteOptions { if_unused: true, if_empty: true, nowait: false };
    assert_eq!(channel.queue_delete("q".into(), both).await.unwrap(), 0);
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn a_queue_whose_messages_are_all_delivered_counts_as_empty(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    channel.get("q").await.unwrap();
    channel.queue_delete("q".into(), IF_EMPTY).await.unwrap();
}

pub(crate) async fn an_auto_delete_queue_goes_with_its_last_consumer(broker: &Target) {
    let channel = broker.channel().await;
    channel.declare("q", QueueDeclareOptions::default().auto_delete(), table! {}).await.unwrap();
    let one = channel.consume("q").await;
    let two = channel.consume("q").await;
    one.cancel().await;
    channel.inspect("q").await.unwrap();
    two.cancel().await;
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn an_auto_delete_queue_goes_when_its_consumers_channel_closes(broker: &Target) {
    let channel = broker.channel().await;
    channel.declare("q", QueueDeclareOptions::default().auto_delete(), table! {}).await.unwrap();
    let _consumer = channel.consume("q").await;
    channel.quit().await;
    conformance::eventually("the queue's end", async || {
        let probe = broker.channel().await;
        probe.inspect("q").await.is_err()
    })
    .await;
}

pub(crate) async fn an_auto_delete_queue_that_never_had_a_consumer_stays(broker: &Target) {
    let channel = broker.channel().await;
    channel.declare("q", QueueDeclareOptions::default().auto_delete(), table! {}).await.unwrap();
    channel.fill("q", &["1"]).await;
    channel.get("q").await.unwrap();
    channel.inspect("q").await.unwrap();
}

pub(crate) async fn messages_wait_in_the_order_they_were_published(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let bodies: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    channel.fill("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(channel.drain("q").await, bodies);
}

pub(crate) async fn a_queue_name_may_be_255_bytes_of_any_utf8(broker: &Target) {
    let channel = broker.channel().await;
    let name = format!("{} \"'\u{1f407}", "q".repeat(248));
    assert_eq!(name.len(), 255);
    let queue = channel.declare(&name, QueueDeclareOptions::durable(), table! {}).await.unwrap();
    assert_eq!(queue.name().as_str(), name);
}

pub(crate) async fn a_queue_in_one_vhost_is_not_in_another(broker: &Target) {
    let other = broker.another_vhost();
    let channel = broker.channel().await;
    channel.queue("q").await;
    assert_eq!(refusal(other.channel().await.inspect("q").await).0, 404);
}

pub(crate) async fn line_ends_in_names_are_left_out(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q\r\nu\ne\n").await;
    channel.inspect("que").await.unwrap();
    channel.exchange("e\nx\r", lapin::ExchangeKind::Fanout).await;
    channel.bind("qu\ne", "\nex", "").await.unwrap();
    channel.publish("ex", "", "m").await.unwrap();
    assert_eq!(channel.drain("que").await, ["m"]);
    channel.queue_delete("que\n".into(), Default::default()).await.unwrap();
}
