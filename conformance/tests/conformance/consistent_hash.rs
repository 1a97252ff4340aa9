//! The consistent-hash exchange of RabbitMQ's plugin. Each broker may choose the queue for a value; but it must be one
//! queue, always the same, and the shares of the queues must match.

use std::collections::BTreeMap;

use conformance::{Chan, Target, refusal, table};
use lapin::{BasicProperties, ExchangeKind, options::*, types::FieldTable};

/// Enough values for the shares to show. The values are always the same, so nothing is random.
const KEYS: usize = 400;

pub(crate) async fn each_message_goes_to_exactly_one_queue_and_one_value_always_to_the_same(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1"), ("three", "1")]).await;
    let places = by_key(&channel, &["one", "two", "three"]).await;
    assert_eq!(by_key(&channel, &["one", "two", "three"]).await, places);
}

pub(crate) async fn a_weight_is_a_share(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("three", "3")]).await;
    let places = by_key(&channel, &["one", "three"]).await;
    assert!(near(places.values().filter(|queue| **queue == "one").count(), KEYS / 4), "{places:?}");
}

pub(crate) async fn a_queue_added_takes_its_share_and_moves_nothing_between_the_others(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1"), ("three", "1")]).await;
    let before = by_key(&channel, &["one", "two", "three"]).await;
    add(&channel, "four", "1").await;
    let after = by_key(&channel, &["one", "two", "three", "four"]).await;
    let moved: Vec<_> = after.iter().filter(|(key, queue)| before[*key] != **queue).collect();
    assert!(moved.iter().all(|(_, queue)| **queue == "four"), "{moved:?}");
    assert!(near(moved.len(), KEYS / 4), "{}", moved.len());
}

pub(crate) async fn a_queue_unbound_or_deleted_leaves_its_keys_to_the_others(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1"), ("three", "1")]).await;
    channel.queue_unbind("one".into(), "x".into(), "1".into(), FieldTable::default()).await.unwrap();
    let places = by_key(&channel, &["two", "three"]).await;
    assert!(near(places.values().filter(|queue| **queue == "two").count(), KEYS / 2), "{places:?}");
    channel.queue_delete("two".into(), QueueDeleteOptions::default()).await.unwrap();
    by_key(&channel, &["three"]).await;
}

pub(crate) async fn a_queue_bound_again_with_another_weight_keeps_its_first(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1")]).await;
    let before = by_key(&channel, &["one", "two"]).await;
    channel.bind("one", "x", "9").await.unwrap();
    assert_eq!(by_key(&channel, &["one", "two"]).await, before);
}

pub(crate) async fn unbinding_one_of_two_weights_unbinds_the_queue_from_the_ring(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1")]).await;
    channel.bind("one", "x", "9").await.unwrap();
    channel.queue_unbind("one".into(), "x".into(), "9".into(), FieldTable::default()).await.unwrap();
    by_key(&channel, &["two"]).await;
}

/// RabbitMQ may then number the queues in another order, and so move keys between them.
pub(crate) async fn after_a_restart_each_value_has_one_queue_again(broker: &Target) {
    let mut broker = broker.of_its_own();
    let channel = broker.channel().await;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.declare_exchange("x", kind(), options, table! {}).await.unwrap();
    for queue in ["one", "two", "three"] {
        add(&channel, queue, "1").await;
    }
    broker.restart();
    let channel = broker.channel().await;
    let places = by_key(&channel, &["one", "two", "three"]).await;
    assert_eq!(by_key(&channel, &["one", "two", "three"]).await, places);
}

pub(crate) async fn a_header_may_be_hashed_instead_of_the_key(broker: &Target) {
    let channel = ring(broker, table! { "hash-header" => "customer" }, &[("one", "1"), ("two", "1")]).await;
    let with = |value: &str| BasicProperties::default().with_headers(table! { "customer" => value });
    hashed(&channel, with).await;
}

pub(crate) async fn a_property_may_be_hashed_instead_of_the_key(broker: &Target) {
    let channel = ring(broker, table! { "hash-property" => "correlation_id" }, &[("one", "1"), ("two", "1")]).await;
    hashed(&channel, |value| BasicProperties::default().with_correlation_id(value.into())).await;
}

pub(crate) async fn without_the_header_all_goes_to_one_queue(broker: &Target) {
    let channel = ring(broker, table! { "hash-header" => "customer" }, &[("one", "1"), ("two", "1")]).await;
    for number in 0..20 {
        channel.publish("x", &number.to_string(), "m").await.unwrap();
    }
    let counts = (channel.drain("one").await.len(), channel.drain("two").await.len());
    assert!(counts == (20, 0) || counts == (0, 20), "{counts:?}");
}

pub(crate) async fn of_several_keys_the_first_is_hashed(broker: &Target) {
    let channel = ring(broker, table! {}, &[("one", "1"), ("two", "1")]).await;
    let places = by_key(&channel, &["one", "two"]).await;
    let properties = BasicProperties::default().with_headers(table! { "CC" => vec!["key-0"] });
    for key in places.keys() {
        channel.publish_with("x", key, key, properties.clone()).await.unwrap();
    }
    assert_eq!(taken(&channel, &["one", "two"]).await, places);
}

pub(crate) async fn without_bindings_nothing_is_routed(broker: &Target) {
    let channel = ring(broker, table! {}, &[]).await;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent =
        channel.basic_publish("x".into(), "key".into(), options, b"m", BasicProperties::default()).await.unwrap();
    assert!(sent.await.unwrap().take_message().is_some());
}

pub(crate) async fn it_may_feed_an_exchange(broker: &Target) {
    let channel = ring(broker, table! {}, &[]).await;
    channel.exchange("all", ExchangeKind::Fanout).await;
    channel.queue("q").await;
    channel.bind("q", "all", "").await.unwrap();
    channel.exchange_bind("all".into(), "x".into(), "2".into(), Default::default(), table! {}).await.unwrap();
    channel.publish("x", "key", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn a_binding_key_that_is_no_number_is_406(broker: &Target) {
    let channel = ring(broker, table! {}, &[]).await;
    channel.queue("q").await;
    let (code, text) = refusal(channel.bind("q", "x", "many").await);
    assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - The binding key must be an integer: <<\"many\">>"));
}

pub(crate) async fn a_weight_below_one_is_406(broker: &Target) {
    for weight in ["0", "-1"] {
        let channel = ring(broker, table! {}, &[]).await;
        channel.queue("q").await;
        let (code, text) = refusal(channel.bind("q", "x", weight).await);
        assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - The binding key must be greater than 0"));
    }
}

pub(crate) async fn another_property_is_406(broker: &Target) {
    let (code, text) = refused(broker, table! { "hash-property" => "app_id" }).await;
    assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - Unsupported property: app_id"));
}

pub(crate) async fn a_header_and_a_property_together_are_406(broker: &Target) {
    let (code, text) = refused(broker, table! { "hash-header" => "h", "hash-property" => "message_id" }).await;
    assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - hash-header and hash-property are mutually exclusive"));
}

fn kind() -> ExchangeKind {
    ExchangeKind::Custom("x-consistent-hash".into())
}

/// The exchange `x`, with queues bound with their weights.
async fn ring(broker: &Target, arguments: FieldTable, queues: &[(&str, &str)]) -> Chan {
    let channel = broker.channel().await;
    channel.exchange_with("x", kind(), arguments).await;
    for (queue, weight) in queues {
        add(&channel, queue, weight).await;
    }
    channel
}

async fn add(channel: &Chan, queue: &str, weight: &str) {
    channel.queue(queue).await;
    channel.bind(queue, "x", weight).await.unwrap();
}

async fn refused(broker: &Target, arguments: FieldTable) -> conformance::Refusal {
    let channel = broker.channel().await;
    refusal(channel.declare_exchange("x", kind(), ExchangeDeclareOptions::default(), arguments).await)
}

/// Publishes a message under each key, and returns the one queue of these that each reached.
async fn by_key<'a>(channel: &Chan, queues: &[&'a str]) -> BTreeMap<String, &'a str> {
    for number in 0..KEYS {
        let key = format!("key-{number}");
        channel.publish("x", &key, &key).await.unwrap();
    }
    taken(channel, queues).await
}

async fn taken<'a>(channel: &Chan, queues: &[&'a str]) -> BTreeMap<String, &'a str> {
    let (mut places, mut count) = (BTreeMap::new(), 0);
    for queue in queues {
        let bodies = channel.drain(queue).await;
        count += bodies.len();
        places.extend(bodies.into_iter().map(|body| (body, *queue)));
    }
    assert_eq!((count, places.len()), (KEYS, KEYS), "each goes to one queue");
    places
}

/// Messages with one value reach one queue whatever their keys; those with many values reach both.
async fn hashed(channel: &Chan, with: impl Fn(&str) -> BasicProperties) {
    for number in 0..20 {
        channel.publish_with("x", &number.to_string(), "m", with("same")).await.unwrap();
    }
    let counts = (channel.drain("one").await.len(), channel.drain("two").await.len());
    assert!(counts == (20, 0) || counts == (0, 20), "{counts:?}");
    for number in 0..40 {
        channel.publish_with("x", "key", "m", with(&format!("value-{number}"))).await.unwrap();
    }
    let counts = (channel.drain("one").await.len(), channel.drain("two").await.len());
    assert!(counts.0 > 0 && counts.1 > 0 && counts.0 + counts.1 == 40, "{counts:?}");
}

fn near(count: usize, expected: usize) -> bool {
    count.abs_diff(expected) < KEYS / 10
}
