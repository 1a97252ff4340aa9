//! Priority queues.

use conformance::{Chan, Target, refusal, table};
use lapin::{BasicProperties, options::QueueDeclareOptions};

pub(crate) async fn higher_priorities_are_delivered_first_and_equal_ones_in_order(broker: &Target) {
    let channel = priority_queue(broker).await;
    for (body, priority) in [("low", 1), ("high", 5), ("middle", 3), ("high too", 5)] {
        publish(&channel, body, priority).await;
    }
    assert_eq!(channel.drain("q").await, ["high", "high too", "middle", "low"]);
}

pub(crate) async fn a_priority_past_the_maximum_counts_as_the_maximum(broker: &Target) {
    let channel = priority_queue(broker).await;
    for (body, priority) in [("five", 5), ("two hundred", 200), ("five too", 5)] {
        publish(&channel, body, priority).await;
    }
    let first = channel.get("q").await.unwrap();
    let second = channel.get("q").await.unwrap();
    assert_eq!((&first.data[..], &second.data[..]), (&b"five"[..], &b"two hundred"[..]));
    // The priority property of the message is unchanged.
    assert_eq!(second.properties.priority(), &Some(200));
}

pub(crate) async fn no_priority_is_the_lowest(broker: &Target) {
    let channel = priority_queue(broker).await;
    channel.fill("q", &["none"]).await;
    publish(&channel, "zero", 0).await;
    publish(&channel, "one", 1).await;
    assert_eq!(channel.drain("q").await, ["one", "none", "zero"]);
}

pub(crate) async fn an_ordinary_queue_ignores_priorities(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    publish(&channel, "low", 1).await;
    publish(&channel, "high", 5).await;
    assert_eq!(channel.drain("q").await, ["low", "high"]);
}

pub(crate) async fn a_requeued_message_keeps_its_priority_and_place(broker: &Target) {
    let channel = priority_queue(broker).await;
    for (body, priority) in [("high", 5), ("high too", 5), ("low", 1)] {
        publish(&channel, body, priority).await;
    }
    let held = channel.get("q").await.unwrap();
    channel.reject(held.delivery_tag, true).await;
    assert_eq!(channel.drain("q").await, ["high", "high too", "low"]);
}

pub(crate) async fn an_expired_message_waits_for_those_of_higher_priority(broker: &Target) {
    let channel = broker.channel().await;
    let dead = table! { "x-max-priority" => 5, "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "dead" };
    channel.queue("dead").await;
    channel.queue_with("q", dead.clone()).await;
    channel.queue_with("clock", dead).await;
    publish(&channel, "high", 5).await;
    for (queue, body, ttl) in [("q", "low", "1"), ("clock", "tick", "50")] {
        let properties = BasicProperties::default().with_priority(1).with_expiration(ttl.into());
        channel.publish_with("", queue, body, properties).await.unwrap();
    }
    let mut letters = channel.consume("dead").await;
    assert_eq!(letters.bodies(1).await, ["tick"]);
    assert_eq!(channel.ready("q").await, 2);
    channel.get("q").await.unwrap();
    assert_eq!(letters.bodies(1).await, ["low"]);
}

pub(crate) async fn a_negative_maximum_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let declared = channel.declare("q", QueueDeclareOptions::durable(), table! { "x-max-priority" => -1 }).await;
    assert_eq!(refusal(declared), invalid(broker, "x-max-priority", "{value_negative,-1}"));
}

pub(crate) async fn a_maximum_past_255_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let declared = channel.declare("q", QueueDeclareOptions::durable(), table! { "x-max-priority" => 256 }).await;
    assert_eq!(refusal(declared), invalid(broker, "x-max-priority", "{max_value_exceeded,256}"));
}

async fn priority_queue(broker: &Target) -> Chan {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-priority" => 5 }).await;
    channel
}

async fn publish(channel: &Chan, body: &str, priority: u8) {
    channel.publish_with("", "q", body, BasicProperties::default().with_priority(priority)).await.unwrap();
}

fn invalid(broker: &Target, argument: &str, why: &str) -> conformance::Refusal {
    let vhost = broker.vhost();
    (406, format!("PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '{vhost}': {why}"))
}
