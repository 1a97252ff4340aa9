//! Messages and queues with a time to live.

use std::time::{Duration, Instant};

use conformance::{Chan, Target, eventually, refusal, table};
use lapin::{BasicProperties, options::*, types::FieldTable};

pub(crate) async fn a_queues_ttl_expires_its_messages(broker: &Target) {
    let channel = expiring(broker, table! { "x-message-ttl" => 100 }).await;
    let before = Instant::now();
    channel.fill("q", &["m"]).await;
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["m"]);
    assert!(before.elapsed() >= Duration::from_millis(100), "it lived for {:?} only", before.elapsed());
}

pub(crate) async fn a_messages_own_ttl_expires_it(broker: &Target) {
    let channel = expiring(broker, table! {}).await;
    let before = Instant::now();
    publish(&channel, "m", 100).await;
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["m"]);
    assert!(before.elapsed() >= Duration::from_millis(100), "it lived for {:?} only", before.elapsed());
}

pub(crate) async fn the_shorter_of_both_ttls_counts(broker: &Target) {
    let channel = expiring(broker, table! { "x-message-ttl" => 20 }).await;
    publish(&channel, "long", 600_000).await;
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["long"]);
    let channel = broker.channel().await;
    channel.queue_with("slow", table! { "x-message-ttl" => 600_000, "x-dead-letter-exchange" => "amq.fanout" }).await;
    let short = BasicProperties::default().with_expiration("20".into());
    channel.publish_with("", "slow", "short", short).await.unwrap();
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["short"]);
}

pub(crate) async fn a_message_expires_only_at_the_head(broker: &Target) {
    let channel = expiring(broker, table! {}).await;
    publish(&channel, "long", 300).await;
    publish(&channel, "short", 1).await;
    let mut dead = channel.consume("dead").await;
    // The short message has long expired when the long one leaves the head.
    assert_eq!(dead.bodies(2).await, ["long", "short"]);
}

pub(crate) async fn a_dead_message_behind_the_head_is_still_counted(broker: &Target) {
    let channel = expiring(broker, table! {}).await;
    channel.fill("q", &["stays"]).await;
    publish(&channel, "expired", 1).await;
    // A message published later, to another queue and with a longer TTL, has expired, so this one has, too.
    channel.queue_with("clock", table! { "x-message-ttl" => 30, "x-dead-letter-exchange" => "amq.fanout" }).await;
    channel.fill("clock", &["tick"]).await;
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["tick"]);
    assert_eq!(channel.ready("q").await, 2);
    assert_eq!(channel.drain("q").await, ["stays"]);
}

pub(crate) async fn an_expired_message_is_not_delivered(broker: &Target) {
    let channel = expiring(broker, table! {}).await;
    publish(&channel, "expired", 20).await;
    publish(&channel, "lives", 600_000).await;
    assert_eq!(channel.consume("dead").await.bodies(1).await, ["expired"]);
    assert_eq!(channel.drain("q").await, ["lives"]);
}

pub(crate) async fn what_is_delivered_does_not_expire_until_it_returns(broker: &Target) {
    let channel = expiring(broker, table! { "x-message-ttl" => 300 }).await;
    channel.fill("q", &["held"]).await;
    let held = channel.get("q").await.unwrap();
    channel.fill("q", &["clock"]).await;
    let mut dead = channel.consume("dead").await;
    assert_eq!(dead.bodies(1).await, ["clock"]);
    dead.is_quiet().await;
    // Its TTL was over in the meantime.
    channel.reject(held.delivery_tag, true).await;
    assert_eq!(dead.bodies(1).await, ["held"]);
}

pub(crate) async fn a_ttl_of_zero_delivers_at_once_or_not_at_all(broker: &Target) {
    let channel = expiring(broker, table! { "x-message-ttl" => 0 }).await;
    channel.fill("q", &["nobody there"]).await;
    assert_eq!(channel.consume_no_ack("dead").await.bodies(1).await, ["nobody there"]);
    let mut consumer = channel.consume("q").await;
    channel.fill("q", &["taken"]).await;
    assert_eq!(consumer.bodies(1).await, ["taken"]);
}

pub(crate) async fn an_unused_queue_expires(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-expires" => 50 }).await;
    channel.fill("q", &["m"]).await;
    gone(&channel, "q").await;
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn a_consumed_queue_does_not_expire(broker: &Target) {
    let channel = broker.channel().await;
    for queue in ["consumed", "clock"] {
        channel.queue_with(queue, table! { "x-expires" => 400 }).await;
    }
    let consumer = channel.consume("consumed").await;
    gone(&channel, "clock").await;
    channel.fill("consumed", &["m"]).await;
    assert_eq!(channel.ready("consumed").await, 0);
    // The time counts from the end of the last consumer.
    consumer.cancel().await;
    gone(&channel, "consumed").await;
}

pub(crate) async fn a_ttl_below_zero_is_406(broker: &Target) {
    let vhost = broker.vhost();
    let wanted = format!("PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '{vhost}': ");
    assert_eq!(refused(broker, table! { "x-message-ttl" => -1 }).await, (406, wanted + "{value_negative,-1}"));
}

pub(crate) async fn a_ttl_that_is_no_number_is_406(broker: &Target) {
    let vhost = broker.vhost();
    let wanted = format!("PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '{vhost}': ");
    let got = refused(broker, table! { "x-message-ttl" => "soon" }).await;
    assert_eq!(got, (406, wanted + "\"expected integer, got longstr\""));
}

pub(crate) async fn expiring_at_once_is_406(broker: &Target) {
    let vhost = broker.vhost();
    let wanted = format!("PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'q' in vhost '{vhost}': ");
    assert_eq!(refused(broker, table! { "x-expires" => 0 }).await, (406, wanted + "{value_zero,0}"));
}

/// A queue `q` whose dead letters go to `dead`.
async fn expiring(broker: &Target, mut arguments: FieldTable) -> Chan {
    let channel = broker.channel().await;
    arguments.insert("x-dead-letter-exchange".into(), conformance::IntoValue::into_value("amq.fanout"));
    channel.queue_with("q", arguments).await;
    channel.queue("dead").await;
    channel.bind("dead", "amq.fanout", "").await.unwrap();
    channel
}

async fn publish(channel: &Chan, body: &str, milliseconds: u32) {
    let properties = BasicProperties::default().with_expiration(milliseconds.to_string().into());
    channel.publish_with("", "q", body, properties).await.unwrap();
}

/// Waits until a queue is gone, without using it: publishing does not renew its `x-expires`.
async fn gone(channel: &Chan, queue: &str) {
    eventually("the queue's expiry", async || {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel.basic_publish("".into(), queue.into(), options, b"probe", Default::default()).await;
        sent.unwrap().await.unwrap().take_message().is_some()
    })
    .await;
}

async fn refused(broker: &Target, arguments: FieldTable) -> conformance::Refusal {
    let channel = broker.channel().await;
    refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await)
}
