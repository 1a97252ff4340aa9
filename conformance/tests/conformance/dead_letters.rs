//! Dead letters: which messages become dead letters, where they go, and what their headers contain.

use conformance::{Chan, Target, string, table};
use lapin::{
    BasicProperties, Confirmation,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

pub(crate) async fn a_rejected_message_goes_to_the_dead_letter_exchange(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.fill("q", &["m"]).await;
    reject_next(&channel, "q").await;
    let dead = next_dead(&channel).await;
    assert_eq!(dead.data, b"m");
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str(), dead.redelivered), ("amq.fanout", "q", false));
}

pub(crate) async fn x_death_tells_the_whole_story(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.bind("q", "amq.topic", "a.#").await.unwrap();
    channel.publish("amq.topic", "a.b", "m").await.unwrap();
    reject_next(&channel, "q").await;
    let headers = next_dead(&channel).await.properties.headers().clone().unwrap();
    let death = deaths(&headers).remove(0);
    let mut keys: Vec<&str> = death.inner().keys().map(|key| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["count", "exchange", "queue", "reason", "routing-keys", "time"]);
    assert_eq!(death.inner()["count"], AMQPValue::LongLongInt(1));
    assert_eq!((string(&death, "exchange"), string(&death, "queue")), ("amq.topic".into(), "q".into()));
    assert_eq!(string(&death, "reason"), "rejected");
    assert_eq!(death.inner()["routing-keys"], AMQPValue::FieldArray(vec![AMQPValue::LongString("a.b".into())].into()));
    let AMQPValue::Timestamp(time) = death.inner()["time"] else { panic!("time should be a timestamp") };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time) < 60, "{time} is not now, {now}, in seconds");
}

pub(crate) async fn the_first_death_has_headers_of_its_own(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.publish("", "q", "m").await.unwrap();
    reject_next(&channel, "q").await;
    let headers = next_dead(&channel).await.properties.headers().clone().unwrap();
    let first = |what: &str| string(&headers, &format!("x-first-death-{what}"));
    assert_eq!((first("exchange"), first("queue"), first("reason")), (String::new(), "q".into(), "rejected".into()));
    assert_eq!(headers.inner().len(), 4);
}

pub(crate) async fn properties_and_other_headers_stay(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    let properties = BasicProperties::default()
        .with_message_id("id".into())
        .with_priority(3)
        .with_delivery_mode(2)
        .with_headers(table! { "mine" => "kept" });
    channel.publish_with("", "q", "m", properties).await.unwrap();
    reject_next(&channel, "q").await;
    let dead = next_dead(&channel).await.properties;
    assert_eq!(dead.message_id().as_ref().unwrap().as_str(), "id");
    assert_eq!((dead.priority(), dead.delivery_mode()), (&Some(3), &Some(2)));
    assert_eq!(string(dead.headers().as_ref().unwrap(), "mine"), "kept");
}

pub(crate) async fn a_second_death_comes_first_in_x_death(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    let onwards = table! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "last" };
    channel.queue_with("second", onwards).await;
    channel.queue("last").await;
    channel.bind("second", "amq.fanout", "").await.unwrap();
    channel.fill("q", &["m"]).await;
    reject_next(&channel, "q").await;
    let mut second = channel.consume("second").await;
    let delivery = second.next().await;
    channel.reject(delivery.delivery_tag, false).await;
    let headers = channel.consume("last").await.next().await.properties.headers().clone().unwrap();
    let story: Vec<_> =
        deaths(&headers).iter().map(|death| (string(death, "queue"), string(death, "exchange"))).collect();
    assert_eq!(story, [("second".into(), "amq.fanout".into()), ("q".into(), String::new())]);
    assert_eq!(string(&headers, "x-first-death-queue"), "q");
}

pub(crate) async fn a_death_for_the_same_reason_in_the_same_queue_is_counted(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    let back = table! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "q", "x-message-ttl" => 1 };
    channel.queue_with("wait", back).await;
    channel.bind("wait", "amq.fanout", "").await.unwrap();
    channel.fill("q", &["m"]).await;
    let mut consumer = channel.consume("q").await;
    for _ in 0..3 {
        let delivery = consumer.next().await;
        channel.reject(delivery.delivery_tag, false).await;
    }
    let headers = consumer.next().await.properties.headers().clone().unwrap();
    let story: Vec<_> = deaths(&headers)
        .iter()
        .map(|death| (string(death, "queue"), string(death, "reason"), death.inner()["count"].clone()))
        .collect();
    let three = AMQPValue::LongLongInt(3);
    assert_eq!(story, [("wait".into(), "expired".into(), three.clone()), ("q".into(), "rejected".into(), three)]);
}

pub(crate) async fn a_circle_without_a_rejection_ends(broker: &Target) {
    let channel = broker.channel().await;
    let onwards = table! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "b", "x-message-ttl" => 1 };
    channel.queue_with("a", onwards).await;
    channel.queue_with("b", table! { "x-dead-letter-exchange" => "amq.direct", "x-message-ttl" => 1 }).await;
    let clock =
        table! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => "dead", "x-message-ttl" => 100 };
    channel.queue_with("clock", clock).await;
    channel.queue("dead").await;
    // Route it back to its queue, and to a queue that shows each round.
    for queue in ["a", "dead"] {
        channel.bind(queue, "amq.direct", "b").await.unwrap();
    }
    channel.fill("a", &["round"]).await;
    let mut dead = channel.consume_no_ack("dead").await;
    assert_eq!(dead.bodies(1).await, ["round"]);
    // A second round would be over long before the message of `clock` expires.
    channel.fill("clock", &["clock"]).await;
    assert_eq!(dead.bodies(1).await, ["clock"]);
}

pub(crate) async fn a_dead_letter_routing_key_replaces_the_messages(broker: &Target) {
    let channel = with_dead_letters(broker, table! { "x-dead-letter-routing-key" => "other" }).await;
    channel.fill("q", &["m"]).await;
    reject_next(&channel, "q").await;
    let dead = next_dead(&channel).await;
    assert_eq!(dead.routing_key.as_str(), "other");
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!(death.inner()["routing-keys"], AMQPValue::FieldArray(vec![AMQPValue::LongString("q".into())].into()));
}

pub(crate) async fn an_expired_message_dies_of_it(broker: &Target) {
    let channel = with_dead_letters(broker, table! { "x-message-ttl" => 1 }).await;
    channel.fill("q", &["m"]).await;
    let dead = next_dead(&channel).await;
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!(string(&death, "reason"), "expired");
}

pub(crate) async fn an_expiration_is_taken_off_and_remembered(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.publish_with("", "q", "m", BasicProperties::default().with_expiration("1".into())).await.unwrap();
    let dead = next_dead(&channel).await;
    assert_eq!(dead.properties.expiration(), &None);
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!((string(&death, "original-expiration"), string(&death, "reason")), ("1".into(), "expired".into()));
}

pub(crate) async fn an_expiration_is_taken_off_a_rejected_message_too(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.publish_with("", "q", "m", BasicProperties::default().with_expiration("60000".into())).await.unwrap();
    reject_next(&channel, "q").await;
    let dead = next_dead(&channel).await;
    assert_eq!(dead.properties.expiration(), &None);
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!(string(&death, "original-expiration"), "60000");
}

pub(crate) async fn a_message_pushed_out_dies_of_maxlen(broker: &Target) {
    let channel = with_dead_letters(broker, table! { "x-max-length" => 1 }).await;
    channel.fill("q", &["1", "2"]).await;
    let dead = next_dead(&channel).await;
    assert_eq!(dead.data, b"1");
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!(string(&death, "reason"), "maxlen");
}

pub(crate) async fn reject_publish_dlx_nacks_and_dead_letters(broker: &Target) {
    let channel = with_dead_letters(broker, table! { "x-max-length" => 1, "x-overflow" => "reject-publish-dlx" }).await;
    channel.fill("q", &["1"]).await;
    assert_eq!(channel.publish("", "q", "2").await.unwrap(), Confirmation::Nack(None));
    let dead = next_dead(&channel).await;
    assert_eq!(dead.data, b"2");
    let death = deaths(dead.properties.headers().as_ref().unwrap()).remove(0);
    assert_eq!(string(&death, "reason"), "maxlen");
    assert_eq!(channel.drain("q").await, ["1"]);
}

pub(crate) async fn what_is_purged_or_deleted_is_no_dead_letter(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.fill("q", &["purged"]).await;
    channel.queue_purge("q".into(), Default::default()).await.unwrap();
    channel.fill("q", &["rejected", "deleted"]).await;
    reject_next(&channel, "q").await;
    channel.queue_delete("q".into(), Default::default()).await.unwrap();
    assert_eq!(next_dead(&channel).await.data, b"rejected");
    assert_eq!(channel.ready("dead").await, 0);
}

pub(crate) async fn a_requeued_message_is_no_dead_letter(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.fill("q", &["m"]).await;
    let held = channel.get("q").await.unwrap();
    channel.reject(held.delivery_tag, true).await;
    assert!(channel.get("q").await.unwrap().redelivered);
    assert_eq!(channel.ready("dead").await, 0);
}

pub(crate) async fn without_its_exchange_a_dead_letter_is_dropped(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-dead-letter-exchange" => "none" }).await;
    channel.fill("q", &["m"]).await;
    reject_next(&channel, "q").await;
    assert!(channel.get("q").await.is_none());
}

pub(crate) async fn nack_multiple_dead_letters_in_order(broker: &Target) {
    let channel = with_dead_letters(broker, table! {}).await;
    channel.fill("q", &["1", "2", "3"]).await;
    let mut consumer = channel.consume("q").await;
    consumer.bodies(3).await;
    channel.nack(3, true, false).await;
    assert_eq!(channel.consume("dead").await.bodies(3).await, ["1", "2", "3"]);
}

pub(crate) async fn cc_travels_along_and_a_dead_letter_routing_key_ends_it(broker: &Target) {
    let channel = broker.channel().await;
    for queue in ["dead", "copy"] {
        channel.queue(queue).await;
        channel.bind(queue, "amq.direct", queue).await.unwrap();
    }
    channel.queue_with("plain", table! { "x-dead-letter-exchange" => "amq.direct" }).await;
    let keyed = table! { "x-dead-letter-exchange" => "amq.direct", "x-dead-letter-routing-key" => "dead" };
    channel.queue_with("keyed", keyed).await;
    let properties = || BasicProperties::default().with_headers(table! { "CC" => vec!["copy"] });
    channel.publish_with("", "plain", "1", properties()).await.unwrap();
    // The copy that CC made at once.
    assert_eq!(channel.drain("copy").await, ["1"]);
    reject_next(&channel, "plain").await;
    assert_eq!(channel.consume("copy").await.bodies(1).await, ["1"]);
    channel.publish_with("", "keyed", "2", properties()).await.unwrap();
    reject_next(&channel, "keyed").await;
    let dead = next_dead(&channel).await;
    assert!(!dead.properties.headers().as_ref().unwrap().contains_key("CC"));
}

/// A queue `q` whose dead letters go to `dead` through `amq.fanout`.
async fn with_dead_letters(broker: &Target, mut arguments: FieldTable) -> Chan {
    let channel = broker.channel().await;
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("amq.fanout".into()));
    channel.queue_with("q", arguments).await;
    channel.queue("dead").await;
    channel.bind("dead", "amq.fanout", "").await.unwrap();
    channel
}

async fn reject_next(channel: &Chan, queue: &str) {
    let held = channel.get(queue).await.unwrap();
    channel.reject(held.delivery_tag, false).await;
}

/// Takes the next message of the dead-letter queue.
async fn next_dead(channel: &Chan) -> Delivery {
    let mut consumer = channel.consume_no_ack("dead").await;
    let delivery = consumer.next().await;
    consumer.cancel().await;
    delivery
}

fn deaths(headers: &FieldTable) -> Vec<FieldTable> {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
        panic!("x-death should be an array: {headers:?}")
    };
    let table = |value: &AMQPValue| match value {
        AMQPValue::FieldTable(table) => table.clone(),
        other => panic!("a death should be a table: {other:?}"),
    };
    deaths.as_slice().iter().map(table).collect()
}
