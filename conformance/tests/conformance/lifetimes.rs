//! Effects of time and restarts. Each test has its own broker, because virtual hosts do not separate these effects.

use conformance::{Target, refusal, table};
use lapin::{BasicProperties, ExchangeKind, options::*};

pub(crate) async fn a_delivery_held_past_the_consumer_timeout_closes_its_channel(broker: &Target) {
    let own = broker.of_its_own();
    let (channel, other) = (own.channel().await, own.channel().await);
    channel.queue("q").await;
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.next().await;
    let (code, text) = consumer.closed().await;
    assert_eq!(code, 406);
    let wanted = format!(
        "PRECONDITION_FAILED - delivery acknowledgement on channel {} timed out. Timeout value used: 1000 ms. ",
        channel.id()
    );
    assert!(text.starts_with(&wanted), "{text}");
    // Another consumer can have the message now.
    assert!(other.consume("q").await.next().await.redelivered);
}

pub(crate) async fn a_restart_spares_what_is_durable_and_persistent(broker: &Target) {
    let mut own = broker.of_its_own();
    let channel = own.channel().await;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.declare_exchange("kept", ExchangeKind::Direct, durable, table! {}).await.unwrap();
    channel.exchange("lost", ExchangeKind::Direct).await;
    channel.queue_with("kept", table! { "x-max-length" => 10 }).await;
    channel.declare("lost", QueueDeclareOptions::default(), table! {}).await.unwrap();
    channel.bind("kept", "kept", "k").await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    for body in ["held", "waiting"] {
        channel.publish_with("", "kept", body, persistent.clone()).await.unwrap();
    }
    channel.publish("", "kept", "transient").await.unwrap();
    channel.queue_with("quorum", table! { "x-queue-type" => "quorum" }).await;
    channel.publish("", "quorum", "transient").await.unwrap();
    channel.get("kept").await.unwrap();

    own.restart();
    let channel = own.channel().await;
    channel.queue_with("kept", table! { "x-max-length" => 10 }).await;
    let (held, waiting) = (channel.get("kept").await.unwrap(), channel.get("kept").await.unwrap());
    assert_eq!((&held.data[..], held.redelivered), (&b"held"[..], true));
    assert_eq!(waiting.data, b"waiting");
    assert!(channel.get("kept").await.is_none());
    channel.queue_with("quorum", table! { "x-queue-type" => "quorum" }).await;
    assert_eq!(channel.drain("quorum").await, ["transient"], "in a quorum queue everything is persistent");
    channel.publish("kept", "k", "the binding is there").await.unwrap();
    assert_eq!(channel.drain("kept").await, ["the binding is there"]);
    assert_eq!(refusal(own.plain_channel().await.inspect("lost").await).0, 404);
    assert_eq!(refusal(channel.publish("lost", "k", "m").await).0, 404);
}
