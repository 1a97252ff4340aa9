//! Messages in streams: what of them is kept, dead letters in a stream, and retention.

use std::time::Duration;

use conformance::{Chan, Subscription, Target, eventually, table, text};
use lapin::{
    BasicProperties, ExchangeKind,
    message::Delivery,
    types::{AMQPValue, DecimalValue, FieldTable},
};

pub(crate) async fn every_property_but_the_cluster_id_arrives_as_it_was_sent(broker: &Target) {
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("60000".into())
        .with_message_id("id".into())
        .with_timestamp(1_700_000_000)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("app".into());
    let sent = properties.clone().with_cluster_id("cluster".into());
    let expected = properties.with_headers(table! { "x-stream-offset" => 0_i64 });
    assert_eq!(through(broker, sent, "m").await.properties, expected);
}

pub(crate) async fn a_message_without_properties_has_its_offset_alone(broker: &Target) {
    let expected = BasicProperties::default().with_headers(table! { "x-stream-offset" => 0_i64 });
    let delivery = through(broker, BasicProperties::default(), "m").await;
    assert_eq!((delivery.properties, text(&delivery.data)), (expected, "m".to_owned()));
}

pub(crate) async fn empty_properties_stay(broker: &Target) {
    let properties = BasicProperties::default().with_content_type("".into()).with_type("".into());
    let expected = properties.clone().with_headers(table! { "x-stream-offset" => 0_i64 });
    assert_eq!(through(broker, properties.with_headers(table! {}), "").await.properties, expected);
}

pub(crate) async fn headers_keep_their_types(broker: &Target) {
    let mut headers = simple_types();
    let sent = BasicProperties::default().with_headers(headers.clone());
    headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(0));
    assert_eq!(through(broker, sent, "m").await.properties.headers(), &Some(headers));
}

pub(crate) async fn arrays_and_tables_are_left_out(broker: &Target) {
    let mut headers = table! { "kept" => "yes", "array" => vec!["a"], "CC" => vec!["other"] };
    headers.insert("table".into(), AMQPValue::FieldTable(table! { "a" => 1 }));
    let delivery = through(broker, BasicProperties::default().with_headers(headers), "m").await;
    let expected = table! { "kept" => "yes", "x-stream-offset" => 0_i64 };
    assert_eq!(delivery.properties.headers(), &Some(expected));
}

pub(crate) async fn an_offset_of_the_publisher_is_replaced(broker: &Target) {
    let headers = table! { "x-stream-offset" => "mine", "z" => "last" };
    let delivery = through(broker, BasicProperties::default().with_headers(headers), "m").await;
    assert_eq!(delivery.properties.headers(), &Some(table! { "x-stream-offset" => 0_i64, "z" => "last" }));
}

pub(crate) async fn a_decimal_is_541(broker: &Target) {
    broker.channel().await.stream("q").await;
    let connection = broker.connect().await;
    let channel = Chan::open(&connection).await;
    let mut sentinel = channel.sentinel().await;
    let decimal = AMQPValue::DecimalValue(DecimalValue { scale: 1, value: 5 });
    let properties = BasicProperties::default().with_headers(table! { "decimal" => decimal });
    let _ = channel.publish_with("", "q", "m", properties).await;
    assert_eq!(sentinel.closed().await, (541, "INTERNAL_ERROR".to_owned()));
}

pub(crate) async fn the_time_to_live_of_a_message_does_not_end_it(broker: &Target) {
    let delivery = through(broker, BasicProperties::default().with_expiration("0".into()), "m").await;
    assert_eq!(delivery.properties.expiration().as_ref().unwrap().as_str(), "0");
}

pub(crate) async fn a_body_larger_than_a_frame_arrives_whole(broker: &Target) {
    let body = "0123456789".repeat(100_000);
    assert!(text(&through(broker, BasicProperties::default(), &body).await.data) == body, "the body was changed");
}

pub(crate) async fn a_dead_letter_for_a_stream_is_lost(broker: &Target) {
    for kind in ["classic", "quorum"] {
        let channel = broker.channel().await;
        channel.exchange("dead", ExchangeKind::Fanout).await;
        channel.stream("stream").await;
        channel.queue("queue").await;
        for queue in ["stream", "queue"] {
            channel.bind(queue, "dead", "").await.unwrap();
        }
        channel.queue_with(kind, table! { "x-queue-type" => kind, "x-dead-letter-exchange" => "dead" }).await;
        channel.fill(kind, &["dead"]).await;
        let delivery = channel.consume(kind).await.next().await;
        channel.reject(delivery.delivery_tag, false).await;
        channel.consume_no_ack("queue").await.bodies(1).await;
        channel.fill("stream", &["published"]).await;
        channel.prefetch(10, false).await;
        assert_eq!(channel.read("stream", "first").await.bodies(1).await, ["published"], "{kind}");
    }
}

pub(crate) async fn a_segment_begins_with_an_offset_of_no_message(broker: &Target) {
    let channel = stream_of_segments(broker, table! {}).await;
    fill(&channel, &["a", "b"]).await;
    channel.fill("q", &["last"]).await;
    channel.prefetch(10, false).await;
    let expected = [(0, "a".into()), (2, "b".into()), (4, "last".into())];
    assert_eq!(read(&mut channel.read("q", "first").await, 3).await, expected);
    // The offset between two messages is a place before the second.
    for (place, expected) in [(1, (2, "b".to_owned())), (3, (4, "last".to_owned()))] {
        assert_eq!(read(&mut channel.read("q", place).await, 1).await, [expected]);
    }
    assert_eq!(read(&mut channel.read("q", "last").await, 1).await, [(4, "last".into())]);
    eventually("the count", async || channel.ready("q").await == 5).await;
}

pub(crate) async fn past_its_length_the_oldest_segments_go_and_offsets_go_on(broker: &Target) {
    let channel = stream_of_segments(broker, table! { "x-max-length-bytes" => 1 }).await;
    fill(&channel, &["a", "b"]).await;
    channel.fill("q", &["c"]).await;
    channel.prefetch(1, false).await;
    // The last segment stays, whatever its length.
    assert_eq!(oldest_kept(&channel, 4).await, "c");
    // An offset that is gone starts at the first that is there, as a time does.
    assert_eq!(read(&mut channel.read("q", 1).await, 1).await, [(4, "c".into())]);
    assert_eq!(read(&mut channel.read("q", "1h").await, 1).await, [(4, "c".into())]);
    assert_eq!(read(&mut channel.read("q", "last").await, 1).await, [(4, "c".into())]);
    fill(&channel, &["d"]).await;
    channel.fill("q", &["e"]).await;
    assert_eq!(oldest_kept(&channel, 7).await, "e");
    // The offset with which the segment begins counts, too.
    eventually("the count", async || channel.ready("q").await == 2).await;
}

pub(crate) async fn the_length_counts_whole_segments(broker: &Target) {
    let channel = stream_of_segments(broker, table! { "x-max-length-bytes" => 35_000 }).await;
    for number in 0..10 {
        channel.fill("q", &[&format!("{number} {}", "b".repeat(10_000))]).await;
    }
    channel.fill("q", &["last"]).await;
    channel.prefetch(1, false).await;
    // Each message but the last is a segment of a little more than 10,000 bytes.
    assert_eq!(oldest_kept(&channel, 14).await, "7");
}

pub(crate) async fn a_segment_too_large_for_the_length_stays_while_it_is_the_last(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream_with("q", table! { "x-max-length-bytes" => 100 }).await;
    channel.fill("q", &["b".repeat(500).as_str(); 10]).await;
    channel.prefetch(1, false).await;
    assert_eq!(oldest(&channel).await.0, 0);
}

pub(crate) async fn past_its_age_a_segment_goes_when_a_new_one_begins(broker: &Target) {
    let channel = stream_of_segments(broker, table! { "x-max-age" => "1s" }).await;
    fill(&channel, &["a", "b"]).await;
    channel.fill("q", &["c"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    channel.prefetch(1, false).await;
    // Time alone removes nothing.
    assert_eq!(oldest(&channel).await, (0, "a".to_owned()));
    fill(&channel, &["d"]).await;
    channel.fill("q", &["e"]).await;
    // The age of a segment is that of its last message, so the one with c and d stays.
    assert_eq!(oldest_kept(&channel, 4).await, "c");
}

pub(crate) async fn the_last_segment_stays_at_any_age(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream_with("q", table! { "x-max-age" => "1s" }).await;
    fill(&channel, &["a"]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    fill(&channel, &["b"]).await;
    channel.prefetch(1, false).await;
    assert_eq!(oldest(&channel).await, (0, "a".to_owned()));
}

pub(crate) async fn a_reader_whose_place_is_gone_goes_on_behind_it(broker: &Target) {
    let channel = stream_of_segments(broker, table! { "x-max-length-bytes" => 1 }).await;
    channel.prefetch(1, false).await;
    let mut slow = channel.read("q", "first").await;
    fill(&channel, &["a"]).await;
    let first = slow.next().await;
    fill(&channel, &["b"]).await;
    channel.fill("q", &["c"]).await;
    assert_eq!(oldest_kept(&channel, 4).await, "c");
    channel.ack(first.delivery_tag).await;
    assert_eq!(read(&mut slow, 1).await, [(4, "c".into())]);
}

/// A channel, and a stream in which each message of [`fill`] is a segment.
async fn stream_of_segments(broker: &Target, mut limits: FieldTable) -> Chan {
    // A segment of 1 byte would be full before its first message, and RabbitMQ opens new ones for ever.
    limits.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongInt(500));
    let channel = broker.channel().await;
    channel.stream_with("q", limits).await;
    channel
}

/// Publishes messages of more than 500 bytes. [`read`] shows the names alone.
async fn fill(channel: &Chan, names: &[&str]) {
    for name in names {
        channel.fill("q", &[&format!("{name} {}", "b".repeat(500))]).await;
    }
}

/// Publishes to a stream, and reads the message there.
async fn through(broker: &Target, properties: BasicProperties, body: &str) -> Delivery {
    let channel = broker.channel().await;
    channel.stream("q").await;
    channel.publish_with("", "q", body, properties).await.unwrap();
    channel.prefetch(10, false).await;
    channel.read("q", "first").await.next().await
}

/// The offset and the body of the oldest message.
async fn oldest(channel: &Chan) -> (i64, String) {
    let mut consumer = channel.read("q", "first").await;
    let delivery = consumer.next().await;
    consumer.cancel().await;
    channel.ack(delivery.delivery_tag).await;
    offset_and_name(&delivery)
}

/// Waits until the oldest message has this offset, and returns its body.
async fn oldest_kept(channel: &Chan, wished: i64) -> String {
    eventually("the retention", async || oldest(channel).await.0 == wished).await;
    oldest(channel).await.1
}

/// The offsets of the next deliveries, and the first words of their bodies.
async fn read(consumer: &mut Subscription, count: usize) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(offset_and_name(&consumer.next().await));
    }
    found
}

fn offset_and_name(delivery: &Delivery) -> (i64, String) {
    (offset(delivery), text(&delivery.data).split(' ').next().unwrap_or_default().to_owned())
}

fn offset(delivery: &Delivery) -> i64 {
    match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(offset)) => *offset,
        other => panic!("x-stream-offset should be a 64-bit integer: {other:?}"),
    }
}

/// A header of each type that a stream keeps.
fn simple_types() -> FieldTable {
    table! {
        "bool" => true,
        "byte" => AMQPValue::ShortShortInt(-1),
        "unsigned byte" => AMQPValue::ShortShortUInt(200),
        "short" => AMQPValue::ShortInt(-300),
        "unsigned short" => AMQPValue::ShortUInt(60_000),
        "int" => -70_000,
        "unsigned int" => AMQPValue::LongUInt(4_000_000_000),
        "long" => -5_000_000_000_i64,
        "float" => AMQPValue::Float(1.5),
        "double" => AMQPValue::Double(2.25),
        "text" => "text",
        "empty" => "",
        "bytes" => AMQPValue::ByteArray(vec![0, 255].into()),
        "timestamp" => AMQPValue::Timestamp(1_700_000_000),
        "void" => AMQPValue::Void,
    }
}
