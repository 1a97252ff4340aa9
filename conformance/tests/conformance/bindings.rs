//! Bindings between queues and exchanges, and between exchanges.

use conformance::{Target, refusal, table};
use lapin::{ExchangeKind, options::*};

pub(crate) async fn binding_twice_is_binding_once(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind("q", "amq.direct", "k").await.unwrap();
    channel.bind("q", "amq.direct", "k").await.unwrap();
    channel.publish("amq.direct", "k", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
    channel.queue_unbind("q".into(), "amq.direct".into(), "k".into(), table! {}).await.unwrap();
    channel.publish("amq.direct", "k", "m").await.unwrap();
    assert!(channel.drain("q").await.is_empty());
}

pub(crate) async fn bindings_that_differ_in_arguments_are_two(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind_with("q", "amq.direct", "k", table! { "a" => 1 }).await.unwrap();
    channel.bind_with("q", "amq.direct", "k", table! { "a" => 2 }).await.unwrap();
    channel.queue_unbind("q".into(), "amq.direct".into(), "k".into(), table! { "a" => 1 }).await.unwrap();
    channel.publish("amq.direct", "k", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn unbinding_what_is_not_bound_succeeds(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.queue_unbind("q".into(), "amq.direct".into(), "none".into(), table! {}).await.unwrap();
}

pub(crate) async fn binding_a_queue_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let text = format!("NOT_FOUND - no queue 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.bind("none", "amq.direct", "k").await), (404, text));
}

pub(crate) async fn binding_to_an_exchange_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let text = format!("NOT_FOUND - no exchange 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.bind("q", "none", "k").await), (404, text));
}

pub(crate) async fn unbinding_a_queue_that_is_not_there_succeeds(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_unbind("none".into(), "amq.direct".into(), "k".into(), table! {}).await.unwrap();
}

pub(crate) async fn unbinding_from_an_exchange_that_is_not_there_succeeds(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.queue_unbind("q".into(), "none".into(), "k".into(), table! {}).await.unwrap();
}

pub(crate) async fn the_default_exchange_cannot_be_bound(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_eq!(refusal(channel.bind("q", "", "k").await), (403, text.into()));
}

pub(crate) async fn the_default_exchange_cannot_be_unbound(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let unbound = channel.queue_unbind("q".into(), "".into(), "q".into(), table! {}).await;
    assert_eq!(refusal(unbound), (403, text.into()));
}

pub(crate) async fn an_exchange_feeds_the_exchanges_bound_to_it(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("source", ExchangeKind::Topic).await;
    channel.exchange("destination", ExchangeKind::Fanout).await;
    channel.queue("q").await;
    channel.bind("q", "destination", "").await.unwrap();
    let options = ExchangeBindOptions::default();
    channel.exchange_bind("destination".into(), "source".into(), "a.*".into(), options, table! {}).await.unwrap();
    channel.publish("source", "a.b", "through").await.unwrap();
    channel.publish("source", "b.b", "not").await.unwrap();
    let message = channel.get("q").await.unwrap();
    // The message keeps the exchange to which it was published.
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("source", "a.b"));
    assert_eq!(channel.ready("q").await, 0);
}

pub(crate) async fn exchanges_bound_in_a_circle_deliver_once(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    for name in ["a", "b"] {
        channel.exchange(name, ExchangeKind::Fanout).await;
        channel.bind("q", name, "").await.unwrap();
    }
    for (destination, source) in [("a", "b"), ("b", "a")] {
        let options = ExchangeBindOptions::default();
        channel.exchange_bind(destination.into(), source.into(), "".into(), options, table! {}).await.unwrap();
    }
    channel.publish("a", "", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn an_exchange_unbound_is_fed_no_more(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("source", ExchangeKind::Fanout).await;
    channel.exchange("destination", ExchangeKind::Fanout).await;
    channel.queue("q").await;
    channel.bind("q", "destination", "").await.unwrap();
    let (d, s) = ("destination", "source");
    channel.exchange_bind(d.into(), s.into(), "".into(), Default::default(), table! {}).await.unwrap();
    channel.exchange_unbind(d.into(), s.into(), "".into(), Default::default(), table! {}).await.unwrap();
    channel.publish("source", "", "m").await.unwrap();
    assert!(channel.get("q").await.is_none());
}

pub(crate) async fn binding_an_exchange_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let bound = channel.exchange_bind("none".into(), "amq.fanout".into(), "".into(), Default::default(), table! {});
    let text = format!("NOT_FOUND - no exchange 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(bound.await), (404, text));
}

pub(crate) async fn an_exchange_cannot_be_bound_to_the_default_exchange(broker: &Target) {
    let channel = broker.channel().await;
    let bound = channel.exchange_bind("amq.fanout".into(), "".into(), "".into(), Default::default(), table! {});
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_eq!(refusal(bound.await), (403, text.into()));
}

pub(crate) async fn bindings_go_with_their_queue(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind("q", "amq.direct", "k").await.unwrap();
    channel.queue_delete("q".into(), Default::default()).await.unwrap();
    channel.queue("q").await;
    channel.publish("amq.direct", "k", "m").await.unwrap();
    assert!(channel.get("q").await.is_none());
}

pub(crate) async fn bindings_go_with_their_exchange(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.exchange("x", ExchangeKind::Direct).await;
    channel.bind("q", "x", "k").await.unwrap();
    channel.exchange_delete("x".into(), Default::default()).await.unwrap();
    channel.exchange("x", ExchangeKind::Direct).await;
    channel.publish("x", "k", "m").await.unwrap();
    assert!(channel.get("q").await.is_none());
}

pub(crate) async fn an_empty_queue_name_means_the_channels_last_declared_queue(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("first").await;
    channel.queue("last").await;
    channel.bind("", "amq.direct", "k").await.unwrap();
    channel.publish("amq.direct", "k", "m").await.unwrap();
    assert_eq!(channel.drain("last").await, ["m"]);
}

pub(crate) async fn an_empty_queue_and_key_mean_the_last_declared_queues_name(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("last").await;
    channel.bind("", "amq.direct", "").await.unwrap();
    channel.publish("amq.direct", "last", "m").await.unwrap();
    assert_eq!(channel.drain("last").await, ["m"]);
}

pub(crate) async fn an_empty_queue_name_before_any_declaration_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let refused = refusal(channel.bind("", "amq.direct", "k").await);
    assert_eq!(refused, (404, "NOT_FOUND - no previously declared queue".into()));
}
