//! Streams as queues: declaring, counting, publishing, deleting, and what a stream does not do.

use conformance::{Chan, Target, eventually, refusal, table};
use lapin::{BasicProperties, Confirmation, ExchangeKind, options::*};

pub(crate) async fn a_new_stream_is_empty(broker: &Target) {
    let channel = broker.channel().await;
    let arguments = table! { "x-queue-type" => "stream" };
    let declared = channel.declare("q", QueueDeclareOptions::durable(), arguments).await.unwrap();
    assert_eq!((declared.name().as_str(), declared.message_count(), declared.consumer_count()), ("q", 0, 0));
}

pub(crate) async fn its_messages_are_counted_in_time(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream("q").await;
    channel.fill("q", &["1", "2", "3"]).await;
    eventually("the count", async || channel.ready("q").await == 3).await;
    let arguments = table! { "x-queue-type" => "stream" };
    let again = channel.declare("q", QueueDeclareOptions::durable(), arguments).await.unwrap();
    assert_eq!((again.message_count(), again.consumer_count()), (3, 0));
}

pub(crate) async fn a_passive_declaration_needs_no_arguments(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream("q").await;
    let found = channel.inspect("q").await.unwrap();
    assert_eq!(found.name().as_str(), "q");
}

pub(crate) async fn fetching_is_540(broker: &Target) {
    let channel = filled(broker).await;
    let fetched = channel.basic_get("q".into(), BasicGetOptions::default()).await;
    let text = format!("basic.get not supported by stream queues queue 'q' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(fetched.map(|_| ())), (540, format!("NOT_IMPLEMENTED - {text}")));
}

pub(crate) async fn purging_is_540(broker: &Target) {
    let channel = filled(broker).await;
    let purged = channel.queue_purge("q".into(), Default::default()).await;
    let text = format!("queue.purge not supported by stream queues queue 'q' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(purged), (540, format!("NOT_IMPLEMENTED - {text}")));
}

pub(crate) async fn deleting_counts_no_messages(broker: &Target) {
    let channel = filled(broker).await;
    eventually("the count", async || channel.ready("q").await == 1).await;
    assert_eq!(channel.queue_delete("q".into(), Default::default()).await.unwrap(), 0);
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn it_is_deleted_even_if_it_is_neither_unused_nor_empty(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(10, false).await;
    let mut consumer = channel.read("q", "first").await;
    consumer.next().await;
    let options = QueueDeleteOptions { if_unused: true, if_empty: true, ..Default::default() };
    channel.queue_delete("q".into(), options).await.unwrap();
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn a_stream_of_the_same_name_starts_again(broker: &Target) {
    let channel = filled(broker).await;
    channel.queue_delete("q".into(), Default::default()).await.unwrap();
    channel.stream("q").await;
    channel.fill("q", &["new"]).await;
    channel.prefetch(10, false).await;
    assert_eq!(channel.read("q", "first").await.bodies(1).await, ["new"]);
}

pub(crate) async fn messages_are_confirmed(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream("q").await;
    for _ in 0..3 {
        assert_eq!(channel.publish("", "q", "m").await.unwrap(), Confirmation::Ack(None));
    }
}

pub(crate) async fn a_mandatory_message_does_not_come_back(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream("q").await;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish("".into(), "q".into(), options, b"m", BasicProperties::default()).await;
    assert_eq!(sent.unwrap().await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn it_is_bound_like_any_queue(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Topic).await;
    channel.stream("q").await;
    channel.queue("other").await;
    channel.bind("q", "x", "a.*").await.unwrap();
    channel.bind("other", "x", "#").await.unwrap();
    channel.publish("x", "a.b", "1").await.unwrap();
    channel.publish("x", "b", "2").await.unwrap();
    channel.prefetch(10, false).await;
    let delivery = channel.read("q", "first").await.next().await;
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("x", "a.b"));
    assert_eq!(channel.drain("other").await, ["1", "2"]);
}

pub(crate) async fn messages_of_a_transaction_come_at_commit_in_their_order(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.stream("q").await;
    channel.tx_select().await.unwrap();
    for body in ["1", "2", "3"] {
        channel.publish("", "q", body).await.unwrap();
    }
    let reader = broker.channel().await;
    reader.fill("q", &["0"]).await;
    channel.tx_commit().await.unwrap();
    reader.prefetch(10, false).await;
    assert_eq!(reader.read("q", "first").await.bodies(4).await, ["0", "1", "2", "3"]);
}

pub(crate) async fn a_restart_keeps_every_message_and_offsets_go_on(broker: &Target) {
    let mut broker = broker.of_its_own();
    let channel = broker.channel().await;
    channel.stream("q").await;
    channel.fill("q", &["transient"]).await;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    channel.publish_with("", "q", "persistent", persistent).await.unwrap();
    broker.restart();
    // RabbitMQ accepts connections before its streams are back.
    eventually("the stream is back", async || broker.channel().await.inspect("q").await.is_ok()).await;
    let channel = broker.channel().await;
    channel.fill("q", &["new"]).await;
    channel.prefetch(10, false).await;
    assert_eq!(channel.read("q", "first").await.bodies(3).await, ["transient", "persistent", "new"]);
    assert_eq!(channel.read("q", 2).await.bodies(1).await, ["new"]);
}

/// A channel, and a stream with one message.
async fn filled(broker: &Target) -> Chan {
    let channel = broker.channel().await;
    channel.stream("q").await;
    channel.fill("q", &["m"]).await;
    channel
}
