//! The arguments of a stream's declaration, and those of its consumers.

use conformance::{Chan, Refusal, Target, refusal, table};
use lapin::{
    BasicProperties,
    options::*,
    types::{AMQPValue, DecimalValue, FieldTable},
};

pub(crate) async fn all_arguments_of_a_stream_are_accepted(broker: &Target) {
    let channel = broker.channel().await;
    let arguments = table! {
        "x-max-length-bytes" => 1_000_000_000_i64, "x-max-age" => "7D", "x-stream-max-segment-size-bytes" => 1_000_000,
        "x-initial-cluster-size" => 1, "x-queue-leader-locator" => "client-local", "x-unheard-of" => "yes",
    };
    channel.stream_with("q", arguments).await;
    channel.fill("q", &["m"]).await;
}

pub(crate) async fn it_must_be_durable(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::default(), table! {}).await;
    assert_eq!(refused, (406, of_queue(broker, "invalid property 'non-durable' for")));
}

pub(crate) async fn it_cannot_be_exclusive(broker: &Target) {
    let refused =
        declare(broker, QueueDeclareOptions { durable: true, ..QueueDeclareOptions::exclusive() }, table! {}).await;
    assert_eq!(refused, (406, of_queue(broker, "invalid property 'exclusive-owner' for")));
}

pub(crate) async fn it_cannot_be_auto_delete(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::durable().auto_delete(), table! {}).await;
    assert_eq!(refused, (406, of_queue(broker, "invalid property 'auto-delete' for")));
}

pub(crate) async fn auto_delete_is_named_before_the_other_properties(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::exclusive().auto_delete(), table! {}).await;
    assert_eq!(refused, (406, of_queue(broker, "invalid property 'auto-delete' for")));
}

pub(crate) async fn it_cannot_be_named_by_the_broker(broker: &Target) {
    for kind in ["stream", "quorum"] {
        let channel = broker.channel().await;
        let arguments = table! { "x-queue-type" => kind };
        let refused = refusal(channel.declare("", QueueDeclareOptions::durable(), arguments).await);
        let text = format!("Cannot declare a server-named queue for type rabbit_{kind}_queue");
        assert_eq!(refused, (406, format!("PRECONDITION_FAILED - {text}")));
    }
}

pub(crate) async fn arguments_of_other_queues_are_406(broker: &Target) {
    let foreign: [(&str, AMQPValue); 12] = [
        ("x-message-ttl", AMQPValue::LongInt(1000)),
        ("x-expires", AMQPValue::LongInt(1000)),
        ("x-dead-letter-exchange", AMQPValue::LongString("amq.fanout".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
        ("x-max-length", AMQPValue::LongInt(10)),
        ("x-max-priority", AMQPValue::LongInt(5)),
        ("x-overflow", AMQPValue::LongString("drop-head".into())),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-delivery-limit", AMQPValue::LongInt(3)),
        ("x-queue-mode", AMQPValue::LongString("lazy".into())),
        ("x-quorum-initial-group-size", AMQPValue::LongInt(1)),
        ("x-dead-letter-strategy", AMQPValue::LongString("at-most-once".into())),
    ];
    for (name, value) in foreign {
        let refused = declare(broker, QueueDeclareOptions::durable(), table! { name => value }).await;
        let (before, after) = (format!("invalid arg '{name}' for"), " of queue type rabbit_stream_queue");
        assert_eq!(refused, (406, of_queue(broker, &before) + after));
    }
}

pub(crate) async fn the_first_foreign_argument_is_named_whatever_its_value(broker: &Target) {
    let arguments = table! { "x-max-length" => -1, "x-expires" => "soon" };
    let refused = declare(broker, QueueDeclareOptions::durable(), arguments).await;
    let after = " of queue type rabbit_stream_queue";
    // lapin writes a table in the order of its names.
    assert_eq!(refused, (406, of_queue(broker, "invalid arg 'x-expires' for") + after));
}

pub(crate) async fn other_queues_refuse_arguments_of_streams(broker: &Target) {
    for kind in ["classic", "quorum"] {
        for (name, value) in [
            ("x-max-age", AMQPValue::LongString("1h".into())),
            ("x-stream-max-segment-size-bytes", AMQPValue::LongInt(1000)),
            ("x-initial-cluster-size", AMQPValue::LongInt(1)),
        ] {
            let channel = broker.channel().await;
            let arguments = table! { "x-queue-type" => kind, name => value };
            let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await);
            let (before, after) = (format!("invalid arg '{name}' for"), format!(" of queue type rabbit_{kind}_queue"));
            assert_eq!(refused, (406, of_queue(broker, &before) + &after));
        }
    }
}

pub(crate) async fn arguments_of_a_wrong_type_or_value_are_406(broker: &Target) {
    let wrong: [(&str, AMQPValue, &str); 10] = [
        ("x-max-length-bytes", AMQPValue::LongInt(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", AMQPValue::LongString("1".into()), "\"expected integer, got longstr\""),
        ("x-max-age", AMQPValue::LongInt(5), "{unacceptable_type,signedint}"),
        ("x-max-age", AMQPValue::LongString("5".into()), "invalid_max_age"),
        ("x-max-age", AMQPValue::LongString("0h".into()), "invalid_max_age"),
        ("x-max-age", AMQPValue::LongString("5x".into()), "invalid_max_age"),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongInt(-1), "{value_negative,-1}"),
        ("x-initial-cluster-size", AMQPValue::LongInt(0), "{value_zero,0}"),
        ("x-queue-leader-locator", AMQPValue::LongString("anywhere".into()), "invalid_queue_locator_arg"),
        ("x-queue-leader-locator", AMQPValue::LongInt(1), "{unacceptable_type,signedint}"),
    ];
    for (name, value, problem) in wrong {
        let refused = declare(broker, QueueDeclareOptions::durable(), table! { name => value }).await;
        let before = format!("invalid arg '{name}' for");
        assert_eq!(refused, (406, format!("{}: {problem}", of_queue(broker, &before))));
    }
}

pub(crate) async fn an_age_without_a_number_is_541(broker: &Target) {
    let refused = declare(broker, QueueDeclareOptions::durable(), table! { "x-max-age" => "long" }).await;
    assert_eq!(refused, (541, "INTERNAL_ERROR".to_owned()));
}

pub(crate) async fn a_segment_above_three_gigabytes_is_406(broker: &Target) {
    let arguments = table! { "x-stream-max-segment-size-bytes" => 3_000_000_001_i64 };
    let refused = declare(broker, QueueDeclareOptions::durable(), arguments).await;
    let text = "PRECONDITION_FAILED - Exceeded max value for x-stream-max-segment-size-bytes";
    assert_eq!(refused, (406, text.to_owned()));
}

pub(crate) async fn redeclaring_it_with_other_arguments_is_406(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream_with("q", table! { "x-max-age" => "1h", "x-max-length-bytes" => 1000 }).await;
    channel.stream_with("q", table! { "x-max-age" => "1h", "x-max-length-bytes" => 1000_i64 }).await;
    let again = async |arguments| declare(broker, QueueDeclareOptions::durable(), arguments).await;
    let inequivalent = |name: &str, received: &str, current: &str| {
        let text = of_queue(broker, &format!("inequivalent arg '{name}' for"));
        (406, format!("{text}: received {received} but current is {current}"))
    };
    let refused = again(table! { "x-max-age" => "2h", "x-max-length-bytes" => 1000 }).await;
    assert_eq!(refused, inequivalent("x-max-age", "'2h'", "'1h'"));
    let refused = again(table! { "x-max-age" => "1h", "x-max-length-bytes" => 1001 }).await;
    assert_eq!(refused, inequivalent("x-max-length-bytes", "'1001'", "'1000'"));
    let refused = again(table! {}).await;
    let current = "the value '1000' of type 'signedint'";
    assert_eq!(refused, inequivalent("x-max-length-bytes", "none", current));
    let arguments = table! {
        "x-max-age" => "1h", "x-max-length-bytes" => 1000, "x-stream-max-segment-size-bytes" => 5
    };
    let refused = again(arguments).await;
    let received = "the value '5' of type 'signedint'";
    assert_eq!(refused, inequivalent("x-stream-max-segment-size-bytes", received, "none"));
}

pub(crate) async fn redeclaring_it_as_another_type_is_406(broker: &Target) {
    let channel = broker.channel().await;
    channel.stream("q").await;
    for (arguments, received) in
        [(table! { "x-queue-type" => "classic" }, "'classic'"), (table! { "x-queue-type" => "quorum" }, "'quorum'")]
    {
        let channel = broker.channel().await;
        let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await);
        let text = of_queue(broker, "inequivalent arg 'x-queue-type' for");
        assert_eq!(refused, (406, format!("{text}: received {received} but current is 'stream'")));
    }
    let channel = broker.channel().await;
    let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), table! {}).await);
    let text = of_queue(broker, "inequivalent arg 'x-queue-type' for");
    let (received, current) = ("none", "the value 'stream' of type 'longstr'");
    assert_eq!(refused, (406, format!("{text}: received {received} but current is {current}")));
}

pub(crate) async fn a_consumer_needs_a_prefetch(broker: &Target) {
    let channel = filled(broker).await;
    let refused = consume(&channel, BasicConsumeOptions::default(), table! {}).await;
    let text = format!("consumer prefetch count is not set for 'queue 'q' in vhost '{}''", broker.vhost());
    assert_eq!(refused, (406, format!("PRECONDITION_FAILED - {text}")));
}

pub(crate) async fn the_prefetch_of_the_channel_is_not_the_consumers(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(10, true).await;
    let refused = consume(&channel, BasicConsumeOptions::default(), table! {}).await;
    assert_eq!(refused.0, 406);
    let channel = broker.channel().await;
    channel.prefetch(10, false).await;
    channel.prefetch(10, true).await;
    let refused = consume(&channel, BasicConsumeOptions::default(), table! {}).await;
    let text = format!("queue 'q' in vhost '{}' does not support global qos", broker.vhost());
    assert_eq!(refused, (540, format!("NOT_IMPLEMENTED - {text}")));
}

pub(crate) async fn a_consumer_without_acknowledgements_is_540(broker: &Target) {
    let channel = filled(broker).await;
    channel.prefetch(10, false).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let refused = consume(&channel, options, table! {}).await;
    let text = "automatic acknowledgement not supported by stream queues queue 'q' in vhost";
    assert_eq!(refused, (540, format!("NOT_IMPLEMENTED - {text} '{}'", broker.vhost())));
}

pub(crate) async fn a_consumer_with_a_priority_is_406(broker: &Target) {
    // It is refused before the prefetch that is missing, too.
    let channel = filled(broker).await;
    let refused = consume(&channel, BasicConsumeOptions::default(), table! { "x-priority" => 5 }).await;
    let (before, after) = ("invalid arg 'x-priority' for", " of queue type rabbit_stream_queue");
    assert_eq!(refused, (406, of_queue(broker, before) + after));
}

pub(crate) async fn an_offset_of_another_queue_is_406(broker: &Target) {
    for kind in ["classic", "quorum"] {
        let channel = broker.channel().await;
        channel.queue_with(kind, table! { "x-queue-type" => kind }).await;
        let arguments = table! { "x-stream-offset" => "first" };
        let consumed = channel.consume_with(kind, "", BasicConsumeOptions::default(), arguments).await;
        let refused = refusal(consumed.map(|_| ()));
        let text = format!("queue '{kind}' in vhost '{}' of queue type rabbit_{kind}_queue", broker.vhost());
        assert_eq!(refused, (406, format!("PRECONDITION_FAILED - invalid arg 'x-stream-offset' for {text}")));
    }
}

pub(crate) async fn an_offset_that_is_no_time_is_406(broker: &Target) {
    filled(broker).await;
    for (offset, shown) in [("5", "5"), ("0s", "0s"), ("5 m", "5 m"), ("1h30m", "1h30m")] {
        let channel = broker.channel().await;
        channel.prefetch(10, false).await;
        let refused = consume(&channel, BasicConsumeOptions::default(), table! { "x-stream-offset" => offset }).await;
        let text = of_queue(broker, "invalid arg 'x-stream-offset' for");
        assert_eq!(refused, (406, format!("{text}: {{invalid_stream_offset_arg,{{longstr,<<\"{shown}\">>}}}}")));
    }
}

pub(crate) async fn an_offset_of_a_word_is_541(broker: &Target) {
    filled(broker).await;
    for offset in ["beginning", "", "-5", "First"] {
        let channel = broker.connect().await;
        let channel = Chan::open(&channel).await;
        channel.prefetch(10, false).await;
        let refused = consume(&channel, BasicConsumeOptions::default(), table! { "x-stream-offset" => offset }).await;
        assert_eq!(refused, (541, "INTERNAL_ERROR".to_owned()), "{offset}");
    }
}

pub(crate) async fn an_offset_of_another_type_is_541(broker: &Target) {
    filled(broker).await;
    for offset in [
        AMQPValue::Boolean(true),
        AMQPValue::Double(1.0),
        AMQPValue::DecimalValue(DecimalValue { scale: 1, value: 5 }),
        AMQPValue::FieldTable(FieldTable::default()),
        AMQPValue::Void,
    ] {
        let connection = broker.connect().await;
        let channel = Chan::open(&connection).await;
        channel.prefetch(10, false).await;
        let arguments = table! { "x-stream-offset" => offset.clone() };
        let refused = consume(&channel, BasicConsumeOptions::default(), arguments).await;
        assert_eq!(refused, (541, "INTERNAL_ERROR".to_owned()), "{offset:?}");
    }
}

pub(crate) async fn filters_are_unknown_and_ignored(broker: &Target) {
    // RabbitMQ has them since 3.13.
    let channel = filled(broker).await;
    let filtered = BasicProperties::default().with_headers(table! { "x-stream-filter-value" => "other" });
    channel.publish_with("", "q", "filtered", filtered).await.unwrap();
    channel.prefetch(10, false).await;
    let arguments = table! {
        "x-stream-offset" => "first", "x-stream-filter" => "mine", "x-stream-match-unfiltered" => false
    };
    let mut consumer = channel.consume_with("q", "", BasicConsumeOptions::default(), arguments).await.unwrap();
    assert_eq!(consumer.bodies(2).await, ["m", "filtered"]);
}

/// A channel, and a stream with one message.
async fn filled(broker: &Target) -> Chan {
    let channel = broker.channel().await;
    channel.stream("q").await;
    channel.fill("q", &["m"]).await;
    channel
}

async fn declare(broker: &Target, options: QueueDeclareOptions, mut arguments: FieldTable) -> Refusal {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let connection = broker.connect().await;
    refusal(Chan::open(&connection).await.declare("q", options, arguments).await)
}

async fn consume(channel: &Chan, options: BasicConsumeOptions, arguments: FieldTable) -> Refusal {
    refusal(channel.consume_with("q", "", options, arguments).await.map(|_| ()))
}

/// A refusal of 406 that ends with the name of the queue.
fn of_queue(broker: &Target, problem: &str) -> String {
    format!("PRECONDITION_FAILED - {problem} queue 'q' in vhost '{}'", broker.vhost())
}
