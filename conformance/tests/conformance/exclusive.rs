//! Exclusive queues and exclusive consumers.

use conformance::{Chan, Refusal, Target, refusal, table};
use lapin::{Connection, options::*};

const EXCLUSIVE: BasicConsumeOptions =
    BasicConsumeOptions { exclusive: true, no_local: false, no_ack: false, nowait: false };

pub(crate) async fn its_own_connection_may_do_everything_on_any_channel(broker: &Target) {
    let (channel, other) = (exclusive_queue(broker).await, broker.channel().await);
    channel.fill("q", &["m"]).await;
    other.declare("q", QueueDeclareOptions::exclusive(), table! {}).await.unwrap();
    assert_eq!(other.drain("q").await, ["m"]);
    other.queue_delete("q".into(), Default::default()).await.unwrap();
}

pub(crate) async fn another_connection_may_not_declare_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    let declared = stranger.declare("q", QueueDeclareOptions::exclusive(), table! {}).await;
    assert_eq!(refusal(declared), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_look_at_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    assert_eq!(refusal(stranger.inspect("q").await), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_consume_from_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    let consumed = stranger.basic_consume("q".into(), "".into(), Default::default(), table! {}).await;
    assert_eq!(refusal(consumed), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_get_from_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    assert_eq!(refusal(stranger.basic_get("q".into(), Default::default()).await), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_bind_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    assert_eq!(refusal(stranger.bind("q", "amq.direct", "k").await), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_purge_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    assert_eq!(refusal(stranger.queue_purge("q".into(), Default::default()).await), resource_locked(broker));
}

pub(crate) async fn another_connection_may_not_delete_it(broker: &Target) {
    let (_channel, _connection, stranger) = locked(broker).await;
    assert_eq!(refusal(stranger.queue_delete("q".into(), Default::default()).await), resource_locked(broker));
}

pub(crate) async fn another_connection_may_publish_to_it(broker: &Target) {
    let (channel, _connection, stranger) = locked(broker).await;
    stranger.confirm_select(Default::default()).await.unwrap();
    stranger.publish("", "q", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn it_goes_with_its_connection_even_if_durable(broker: &Target) {
    let connection = broker.connect().await;
    let options = QueueDeclareOptions { exclusive: true, durable: true, ..Default::default() };
    let channel = Chan::open(&connection).await;
    channel.declare("q", options, table! {}).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    // When the close of the connection is answered, the queue is gone, too.
    let channel = broker.channel().await;
    assert_eq!(refusal(channel.inspect("q").await).0, 404);
}

pub(crate) async fn it_outlives_its_channel(broker: &Target) {
    let (channel, other) = (exclusive_queue(broker).await, broker.channel().await);
    channel.quit().await;
    other.inspect("q").await.unwrap();
}

pub(crate) async fn an_exclusive_consumer_shuts_out_others(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let _consumer = channel.consume_with("q", "", EXCLUSIVE, table! {}).await.unwrap();
    let consumed = broker.channel().await.basic_consume("q".into(), "".into(), Default::default(), table! {}).await;
    assert_eq!(refusal(consumed), in_exclusive_use(broker));
}

pub(crate) async fn a_consumed_queue_refuses_an_exclusive_consumer(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let _consumer = channel.consume("q").await;
    let consumed = channel.basic_consume("q".into(), "".into(), EXCLUSIVE, table! {}).await;
    assert_eq!(refusal(consumed), in_exclusive_use(broker));
}

pub(crate) async fn an_exclusive_consumer_leaves_basic_get_to_others(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1", "2"]).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.consume_with("q", "", EXCLUSIVE, table! {}).await.unwrap();
    consumer.next().await;
    assert_eq!(broker.channel().await.drain("q").await, ["2"]);
}

pub(crate) async fn others_may_consume_once_the_exclusive_consumer_is_gone(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let consumer = channel.consume_with("q", "", EXCLUSIVE, table! {}).await.unwrap();
    consumer.cancel().await;
    channel.consume("q").await;
}

async fn exclusive_queue(broker: &Target) -> Chan {
    let channel = broker.channel().await;
    channel.declare("q", QueueDeclareOptions::exclusive(), table! {}).await.unwrap();
    channel
}

/// An exclusive queue, and a channel on another connection.
async fn locked(broker: &Target) -> (Chan, Connection, Chan) {
    let channel = exclusive_queue(broker).await;
    let connection = broker.connect().await;
    let stranger = Chan::open(&connection).await;
    (channel, connection, stranger)
}

fn resource_locked(broker: &Target) -> Refusal {
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '{}'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original \
         declaration.",
        broker.vhost()
    );
    (405, text)
}

fn in_exclusive_use(broker: &Target) -> Refusal {
    (403, format!("ACCESS_REFUSED - queue 'q' in vhost '{}' in exclusive use", broker.vhost()))
}
