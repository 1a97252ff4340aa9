//! Reading a stream: where a consumer starts, what it holds, and how it settles.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conformance::{Chan, Subscription, Target, refusal, table, text};
use lapin::{message::Delivery, options::*, types::AMQPValue};

pub(crate) async fn every_delivery_says_its_offset(broker: &Target) {
    let channel = filled(broker, 3).await;
    let mut consumer = channel.read("q", "first").await;
    for expected in 0..3 {
        let delivery = consumer.next().await;
        assert_eq!((offset(&delivery), text(&delivery.data)), (expected, expected.to_string()));
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "q"));
        assert!(!delivery.redelivered);
    }
}

pub(crate) async fn without_an_offset_it_starts_at_the_next_message(broker: &Target) {
    let channel = filled(broker, 3).await;
    let consumed = channel.consume_with("q", "", BasicConsumeOptions::default(), table! {}).await;
    channel.fill("q", &["new"]).await;
    assert_eq!(next(&mut consumed.unwrap()).await, (3, "new".to_owned()));
}

pub(crate) async fn next_starts_at_the_next_message(broker: &Target) {
    let channel = filled(broker, 3).await;
    let mut consumer = channel.read("q", "next").await;
    channel.fill("q", &["new"]).await;
    assert_eq!(next(&mut consumer).await, (3, "new".to_owned()));
}

pub(crate) async fn last_starts_at_the_last_chunk(broker: &Target) {
    // A message that is confirmed before the next one is published is a chunk of its own.
    let channel = filled(broker, 3).await;
    let mut consumer = channel.read("q", "last").await;
    channel.fill("q", &["new"]).await;
    assert_eq!(next(&mut consumer).await, (2, "2".to_owned()));
    assert_eq!(next(&mut consumer).await, (3, "new".to_owned()));
}

pub(crate) async fn a_number_is_an_offset_of_any_integer_type(broker: &Target) {
    let channel = filled(broker, 3).await;
    let numbers = [
        AMQPValue::ShortShortInt(1),
        AMQPValue::ShortShortUInt(1),
        AMQPValue::ShortInt(1),
        AMQPValue::ShortUInt(1),
        AMQPValue::LongInt(1),
        AMQPValue::LongUInt(1),
        AMQPValue::LongLongInt(1),
    ];
    for number in numbers {
        let mut consumer = channel.read("q", number).await;
        assert_eq!(next(&mut consumer).await, (1, "1".to_owned()));
    }
}

pub(crate) async fn an_offset_below_the_first_starts_at_the_first(broker: &Target) {
    let channel = filled(broker, 2).await;
    let mut consumer = channel.read("q", -5).await;
    assert_eq!(next(&mut consumer).await, (0, "0".to_owned()));
}

pub(crate) async fn an_offset_that_comes_later_is_waited_for(broker: &Target) {
    let channel = filled(broker, 2).await;
    let mut consumer = channel.read("q", 4).await;
    channel.fill("q", &["2", "3", "4", "5"]).await;
    assert_eq!(next(&mut consumer).await, (4, "4".to_owned()));
    assert_eq!(next(&mut consumer).await, (5, "5".to_owned()));
}

pub(crate) async fn an_empty_stream_may_be_read_from_anywhere(broker: &Target) {
    let channel = filled(broker, 0).await;
    let now = now();
    let mut consumers = Vec::new();
    for place in ["first", "last", "next", "1h"] {
        consumers.push(channel.read("q", place).await);
    }
    consumers.push(channel.read("q", 0).await);
    consumers.push(channel.read("q", AMQPValue::Timestamp(now - 60)).await);
    channel.fill("q", &["m"]).await;
    for consumer in &mut consumers {
        assert_eq!(next(consumer).await, (0, "m".to_owned()));
    }
}

pub(crate) async fn a_timestamp_starts_at_the_first_message_not_before(broker: &Target) {
    let channel = filled(broker, 2).await;
    // Timestamps are in seconds: the next messages come in a later second than the first.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let now = now();
    channel.fill("q", &["2", "3"]).await;
    let mut consumer = channel.read("q", AMQPValue::Timestamp(now)).await;
    assert_eq!(next(&mut consumer).await, (2, "2".to_owned()));
    let mut consumer = channel.read("q", AMQPValue::Timestamp(now - 3600)).await;
    assert_eq!(next(&mut consumer).await, (0, "0".to_owned()));
}

pub(crate) async fn a_timestamp_to_come_starts_at_the_next_message(broker: &Target) {
    let channel = filled(broker, 2).await;
    let mut consumer = channel.read("q", AMQPValue::Timestamp(now() + 3600)).await;
    channel.fill("q", &["new"]).await;
    assert_eq!(next(&mut consumer).await, (2, "new".to_owned()));
}

pub(crate) async fn an_interval_starts_that_long_ago(broker: &Target) {
    let channel = filled(broker, 2).await;
    for interval in ["1Y", "1M", "1D", "1h", "1m", "50s"] {
        let mut consumer = channel.read("q", interval).await;
        assert_eq!(next(&mut consumer).await, (0, "0".to_owned()));
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut consumer = channel.read("q", "1s").await;
    channel.fill("q", &["new"]).await;
    assert_eq!(next(&mut consumer).await, (2, "new".to_owned()));
}

pub(crate) async fn what_is_acknowledged_stays_for_others(broker: &Target) {
    let channel = filled(broker, 2).await;
    for _ in 0..2 {
        let mut consumer = channel.read("q", "first").await;
        for expected in 0..2 {
            let delivery = consumer.next().await;
            assert_eq!(offset(&delivery), expected);
            channel.ack(delivery.delivery_tag).await;
        }
        consumer.cancel().await;
    }
}

pub(crate) async fn every_consumer_reads_everything(broker: &Target) {
    let channel = filled(broker, 1).await;
    let other = broker.channel().await;
    other.prefetch(10, false).await;
    let mut consumers =
        [channel.read("q", "first").await, channel.read("q", "first").await, other.read("q", "first").await];
    channel.fill("q", &["1", "2"]).await;
    for consumer in &mut consumers {
        assert_eq!(consumer.bodies(3).await, ["0", "1", "2"]);
    }
}

pub(crate) async fn the_prefetch_bounds_what_a_consumer_holds_and_an_ack_gives_credit(broker: &Target) {
    let channel = filled(broker, 5).await;
    channel.prefetch(2, false).await;
    let mut consumer = channel.read("q", "first").await;
    let (first, second) = (consumer.next().await, consumer.next().await);
    has_no_more(&channel, &mut consumer).await;
    channel.ack(second.delivery_tag).await;
    assert_eq!(next(&mut consumer).await, (2, "2".to_owned()));
    has_no_more(&channel, &mut consumer).await;
    channel.ack(first.delivery_tag).await;
    let fourth = consumer.next().await;
    assert_eq!(offset(&fourth), 3);
    has_no_more(&channel, &mut consumer).await;
    channel.ack_up_to(fourth.delivery_tag).await;
    assert_eq!(next(&mut consumer).await, (4, "4".to_owned()));
}

pub(crate) async fn a_later_prefetch_leaves_a_consumer_as_it_is(broker: &Target) {
    let channel = filled(broker, 3).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.read("q", "first").await;
    consumer.next().await;
    channel.prefetch(10, false).await;
    has_no_more(&channel, &mut consumer).await;
}

pub(crate) async fn acknowledging_after_the_cancel_is_welcome(broker: &Target) {
    let channel = filled(broker, 2).await;
    let mut consumer = channel.read("q", "first").await;
    let delivery = consumer.next().await;
    consumer.cancel().await;
    channel.ack(delivery.delivery_tag).await;
    channel.inspect("q").await.unwrap();
}

pub(crate) async fn acknowledging_twice_is_406(broker: &Target) {
    let channel = filled(broker, 1).await;
    let mut consumer = channel.read("q", "first").await;
    let tag = consumer.next().await.delivery_tag;
    channel.ack(tag).await;
    channel.ack(tag).await;
    assert_eq!(consumer.closed().await.0, 406);
}

pub(crate) async fn rejecting_is_540(broker: &Target) {
    for requeue in [true, false] {
        let (channel, mut consumer, tag) = holding(broker).await;
        channel.reject(tag, requeue).await;
        is_540(broker, &mut consumer).await;
    }
}

pub(crate) async fn nacking_is_540(broker: &Target) {
    for (multiple, requeue) in [(true, true), (true, false), (false, true), (false, false)] {
        let (channel, mut consumer, tag) = holding(broker).await;
        channel.nack(tag, multiple, requeue).await;
        is_540(broker, &mut consumer).await;
    }
}

pub(crate) async fn recovering_is_541(broker: &Target) {
    let (channel, mut consumer, _) = holding(broker).await;
    let _ = channel.basic_recover(BasicRecoverOptions { requeue: true }).await;
    assert_eq!(consumer.closed().await, (541, "INTERNAL_ERROR".to_owned()));
}

pub(crate) async fn recovering_nothing_is_welcome(broker: &Target) {
    let (channel, _consumer, tag) = holding(broker).await;
    channel.ack(tag).await;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
}

pub(crate) async fn what_a_closed_channel_held_is_read_again_from_where_one_says(broker: &Target) {
    let (channel, _consumer, _) = holding(broker).await;
    channel.quit().await;
    let channel = broker.channel().await;
    channel.prefetch(10, false).await;
    let mut consumer = channel.read("q", "first").await;
    let delivery = consumer.next().await;
    assert_eq!((offset(&delivery), delivery.redelivered), (0, false));
}

pub(crate) async fn an_exclusive_consumer_excludes_nobody(broker: &Target) {
    let channel = filled(broker, 1).await;
    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let arguments = table! { "x-stream-offset" => "first" };
    let mut first = channel.consume_with("q", "", exclusive, arguments.clone()).await.unwrap();
    let mut second = channel.read("q", "first").await;
    let mut third = channel.consume_with("q", "", exclusive, arguments).await.unwrap();
    for consumer in [&mut first, &mut second, &mut third] {
        assert_eq!(next(consumer).await, (0, "0".to_owned()));
    }
}

pub(crate) async fn a_tag_in_use_is_530(broker: &Target) {
    let channel = filled(broker, 1).await;
    let consume = async || channel.consume_with("q", "tag", BasicConsumeOptions::default(), table! {}).await;
    let _first = consume().await.unwrap();
    let refused = refusal(consume().await.map(|_| ()));
    assert_eq!(refused, (530, "NOT_ALLOWED - attempt to reuse consumer tag 'tag'".to_owned()));
}

pub(crate) async fn a_cancelled_consumer_gets_nothing_more_and_its_tag_is_free(broker: &Target) {
    let channel = filled(broker, 0).await;
    let arguments = table! { "x-stream-offset" => "first" };
    let consume =
        async || channel.consume_with("q", "tag", BasicConsumeOptions::default(), arguments.clone()).await.unwrap();
    consume().await.cancel().await;
    channel.fill("q", &["m"]).await;
    assert_eq!(next(&mut consume().await).await, (0, "m".to_owned()));
}

pub(crate) async fn deleting_the_stream_cancels_its_consumers(broker: &Target) {
    let channel = filled(broker, 1).await;
    let mut consumer = channel.read("q", "next").await;
    broker.channel().await.queue_delete("q".into(), Default::default()).await.unwrap();
    consumer.is_cancelled().await;
}

pub(crate) async fn a_delivery_that_is_never_acknowledged_times_out(broker: &Target) {
    let broker = broker.of_its_own();
    let channel = filled(&broker, 1).await;
    let mut consumer = channel.read("q", "first").await;
    consumer.next().await;
    let (code, why) = consumer.closed().await;
    assert_eq!(code, 406);
    assert!(why.contains("delivery acknowledgement on channel 1 timed out"), "{why}");
}

pub(crate) async fn acknowledgements_of_a_transaction_give_credit_at_commit(broker: &Target) {
    filled(broker, 2).await;
    let channel = broker.plain_channel().await;
    channel.prefetch(1, false).await;
    channel.tx_select().await.unwrap();
    let mut consumer = channel.read("q", "first").await;
    let delivery = consumer.next().await;
    channel.ack(delivery.delivery_tag).await;
    consumer.is_quiet().await;
    channel.tx_commit().await.unwrap();
    assert_eq!(next(&mut consumer).await, (1, "1".to_owned()));
}

pub(crate) async fn rejecting_in_a_transaction_is_540_at_commit(broker: &Target) {
    filled(broker, 1).await;
    let channel = Chan::open(&broker.connect().await).await;
    channel.prefetch(1, false).await;
    channel.tx_select().await.unwrap();
    let mut consumer = channel.read("q", "first").await;
    channel.reject(consumer.next().await.delivery_tag, true).await;
    consumer.is_quiet().await;
    let _ = channel.tx_commit().await;
    is_540(broker, &mut consumer).await;
}

pub(crate) async fn a_later_limit_of_the_channel_leaves_a_consumer_as_it_is(broker: &Target) {
    let channel = filled(broker, 1).await;
    let mut consumer = channel.read("q", "first").await;
    consumer.next().await;
    channel.prefetch(1, true).await;
    broker.channel().await.fill("q", &["1", "2"]).await;
    assert_eq!(consumer.bodies(2).await, ["1", "2"]);
}

pub(crate) async fn no_consumers_are_counted(broker: &Target) {
    let channel = filled(broker, 1).await;
    let _first = channel.read("q", "first").await;
    let _second = channel.read("q", "first").await;
    assert_eq!(channel.inspect("q").await.unwrap().consumer_count(), 0);
}

/// A channel with a prefetch of 10, and a stream of messages whose bodies are their offsets.
async fn filled(broker: &Target, count: usize) -> Chan {
    let channel = broker.channel().await;
    channel.prefetch(10, false).await;
    channel.stream("q").await;
    let bodies: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    channel.fill("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    channel
}

/// A channel of a connection of its own, its consumer, and the tag of the first message of the stream.
async fn holding(broker: &Target) -> (Chan, Subscription, u64) {
    filled(broker, 1).await;
    let channel = Chan::open(&broker.connect().await).await;
    channel.prefetch(1, false).await;
    let mut consumer = channel.read("q", "first").await;
    let tag = consumer.next().await.delivery_tag;
    (channel, consumer, tag)
}

async fn is_540(broker: &Target, consumer: &mut Subscription) {
    let text = "basic.nack and basic.reject not supported by stream queues queue 'q' in vhost";
    assert_eq!(consumer.closed().await, (540, format!("NOT_IMPLEMENTED - {text} '{}'", broker.vhost())));
}

async fn next(consumer: &mut Subscription) -> (i64, String) {
    let delivery = consumer.next().await;
    (offset(&delivery), text(&delivery.data))
}

fn offset(delivery: &Delivery) -> i64 {
    match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(offset)) => *offset,
        other => panic!("x-stream-offset should be a 64-bit integer: {other:?}"),
    }
}

/// Checks that a consumer waits for credit.
///
/// RabbitMQ's channel reads the stream for all its consumers. When another consumer of the channel has the first
/// message, this one has everything that it may have.
async fn has_no_more(channel: &Chan, consumer: &mut Subscription) {
    let mut other = channel.read("q", "first").await;
    let delivery = other.next().await;
    other.cancel().await;
    channel.ack(delivery.delivery_tag).await;
    consumer.is_quiet().await;
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
