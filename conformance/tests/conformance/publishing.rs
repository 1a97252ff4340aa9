//! Publishing: the content of messages, and what happens to those that no queue gets.

use conformance::{Frame, Method, Target, refusal, table, text};
use lapin::{
    BasicProperties, Confirmation, ExchangeKind,
    message::BasicReturnMessage,
    options::*,
    protocol::basic,
    types::{AMQPValue, DecimalValue, FieldTable},
};

pub(crate) async fn every_property_arrives_as_it_was_sent(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_headers(every_type())
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("60000".into())
        .with_message_id("id".into())
        .with_timestamp(1_700_000_000)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    channel.publish_with("", "q", "m", properties.clone()).await.unwrap();
    assert_eq!(channel.get("q").await.unwrap().properties, properties);
}

pub(crate) async fn a_message_without_properties_arrives_without(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.publish("", "q", "m").await.unwrap();
    assert_eq!(channel.get("q").await.unwrap().properties, BasicProperties::default());
}

pub(crate) async fn an_empty_body_arrives_empty(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.publish("", "q", "").await.unwrap();
    assert!(channel.get("q").await.unwrap().data.is_empty());
}

pub(crate) async fn a_body_larger_than_a_frame_arrives_whole(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let sent = channel.basic_publish("".into(), "q".into(), Default::default(), &body, Default::default()).await;
    assert!(sent.unwrap().await.unwrap().is_ack());
    assert!(channel.get("q").await.unwrap().data == body, "the body was changed on its way");
}

pub(crate) async fn an_unroutable_message_is_confirmed_and_gone(broker: &Target) {
    let channel = broker.channel().await;
    assert_eq!(channel.publish("", "none", "m").await.unwrap(), Confirmation::Ack(None));
}

pub(crate) async fn an_unroutable_mandatory_message_comes_back_whole(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    let properties = BasicProperties::default().with_message_id("id".into()).with_headers(table! { "a" => 1 });
    let returned = mandatory(&channel, "x", properties.clone()).await.unwrap();
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("x", "key"));
    assert_eq!((text(&returned.data), &returned.properties), ("m".to_owned(), &properties));
}

pub(crate) async fn a_routed_mandatory_message_does_not_come_back(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Fanout).await;
    channel.queue("q").await;
    channel.bind("q", "x", "").await.unwrap();
    assert!(mandatory(&channel, "x", BasicProperties::default()).await.is_none());
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn the_return_comes_before_the_ack(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.confirm_channel(2).await;
    let publish = basic::Publish { routing_key: "none".into(), mandatory: true, ..Default::default() };
    wire.publish(2, publish, BasicProperties::default(), b"lost").await;
    let returned: basic::Return = wire.expect(2).await;
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(wire.content(2).await.body, b"lost");
    assert_eq!(wire.expect::<basic::Ack>(2).await, basic::Ack { delivery_tag: 1, multiple: false });
}

pub(crate) async fn a_mandatory_message_is_returned_without_confirms_too(broker: &Target) {
    let mut wire = broker.wire().await;
    let publish = basic::Publish { routing_key: "none".into(), mandatory: true, ..Default::default() };
    wire.publish(1, publish, BasicProperties::default(), b"lost").await;
    let _: basic::Return = wire.expect(1).await;
    assert_eq!(wire.content(1).await.body, b"lost");
}

pub(crate) async fn publishing_to_an_exchange_that_is_not_there_closes_the_channel(broker: &Target) {
    let mut wire = broker.wire().await;
    let publish = basic::Publish { exchange: "none".into(), routing_key: "k".into(), ..Default::default() };
    wire.publish(1, publish, BasicProperties::default(), b"m").await;
    let close = wire.channel_closed(1).await;
    let wanted = format!("NOT_FOUND - no exchange 'none' in vhost '{}'", broker.vhost());
    assert_eq!((close.reply_code, close.reply_text.as_str()), (404, wanted.as_str()));
    assert_eq!((close.class_id, close.method_id), (60, 40));
    // The channel number may be used again, and the connection stays usable.
    wire.channel(1).await;
}

pub(crate) async fn an_internal_exchange_refuses_publishers(broker: &Target) {
    let channel = broker.channel().await;
    let internal = ExchangeDeclareOptions { internal: true, ..Default::default() };
    channel.declare_exchange("x", ExchangeKind::Fanout, internal, table! {}).await.unwrap();
    let wanted = format!("ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.publish("x", "", "m").await), (403, wanted));
}

pub(crate) async fn an_internal_exchange_takes_from_the_exchanges_it_is_bound_to(broker: &Target) {
    let channel = broker.channel().await;
    let internal = ExchangeDeclareOptions { internal: true, ..Default::default() };
    channel.declare_exchange("x", ExchangeKind::Fanout, internal, table! {}).await.unwrap();
    channel.queue("q").await;
    channel.bind("q", "x", "").await.unwrap();
    channel.exchange_bind("x".into(), "amq.fanout".into(), "".into(), Default::default(), table! {}).await.unwrap();
    channel.publish("amq.fanout", "", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn immediate_is_540_and_ends_the_connection(broker: &Target) {
    let mut wire = broker.wire().await;
    let publish = basic::Publish { routing_key: "q".into(), immediate: true, ..Default::default() };
    wire.publish(1, publish, BasicProperties::default(), b"m").await;
    let close = wire.connection_closed().await;
    assert_eq!((close.reply_code, close.reply_text.as_str()), (540, "NOT_IMPLEMENTED - immediate=true"));
    assert_eq!((close.class_id, close.method_id), (60, 40));
}

pub(crate) async fn another_users_id_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let properties = BasicProperties::default().with_user_id("somebody".into());
    let wanted = "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'";
    assert_eq!(refusal(channel.publish_with("", "q", "m", properties).await), (406, wanted.into()));
}

pub(crate) async fn an_expiration_that_is_no_number_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let properties = BasicProperties::default().with_expiration("soon".into());
    let wanted = "PRECONDITION_FAILED - invalid expiration 'soon': no_integer";
    let refused = refusal(channel.publish_with("", "q", "m", properties).await);
    assert_eq!(refused, (406, wanted.into()));
}

pub(crate) async fn cc_and_bcc_route_too_and_bcc_is_taken_off(broker: &Target) {
    let channel = broker.channel().await;
    for queue in ["to", "cc", "bcc"] {
        channel.queue(queue).await;
    }
    let properties = BasicProperties::default().with_headers(table! { "CC" => vec!["cc"], "BCC" => vec!["bcc"] });
    channel.publish_with("", "to", "m", properties).await.unwrap();
    for queue in ["to", "cc", "bcc"] {
        let message = channel.get(queue).await.unwrap();
        assert_eq!(message.properties.headers(), &Some(table! { "CC" => vec!["cc"] }), "{queue}");
        assert_eq!(message.routing_key.as_str(), "to", "{queue}");
    }
}

pub(crate) async fn a_cc_that_is_no_list_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let properties = BasicProperties::default().with_headers(table! { "CC" => "cc" });
    let refused = refusal(channel.publish_with("", "q", "m", properties).await);
    assert_eq!(refused.0, 406, "{refused:?}");
    assert!(refused.1.contains("unacceptable_type_in_header"), "{refused:?}");
}

pub(crate) async fn messages_of_two_channels_may_be_interleaved_frame_by_frame(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.channel(2).await;
    wire.queue(1, "q", table! {}).await;
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    for id in [1, 2] {
        wire.send_frame(&Frame::Method(id, publish.clone().into_class())).await;
    }
    for id in [2, 1] {
        wire.send_header(id, BasicProperties::default(), 4).await;
    }
    for (id, part) in [(1, "on"), (2, "tw"), (2, "o!"), (1, "e!")] {
        wire.send_frame(&Frame::Body(id, part.into())).await;
    }
    // Channel 2 was complete first. The channels answer independently, so check only when both have answered.
    let get = basic::Get { queue: "q".into(), no_ack: true };
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        wire.send(1, get.clone()).await;
        if let Some(Frame::Method(1, class)) = wire.next().await
            && basic::GetOk::from_class(class).is_some()
        {
            bodies.push(text(&wire.content(1).await.body));
        }
    }
    bodies.sort();
    assert_eq!(bodies, ["one!", "two!"]);
}

async fn mandatory(
    channel: &conformance::Chan,
    exchange: &str,
    properties: BasicProperties,
) -> Option<BasicReturnMessage> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish(exchange.into(), "key".into(), options, b"m", properties).await.unwrap();
    sent.await.unwrap().take_message()
}

/// A table with a value of each type.
fn every_type() -> FieldTable {
    table! {
        "boolean" => true,
        "i8" => AMQPValue::ShortShortInt(-1),
        "u8" => AMQPValue::ShortShortUInt(200),
        "i16" => AMQPValue::ShortInt(-300),
        "u16" => AMQPValue::ShortUInt(60_000),
        "i32" => AMQPValue::LongInt(-70_000),
        "u32" => AMQPValue::LongUInt(4_000_000_000),
        "i64" => AMQPValue::LongLongInt(i64::MIN),
        "float" => AMQPValue::Float(0.5),
        "double" => AMQPValue::Double(0.25),
        "decimal" => AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 }),
        "string" => "text",
        "array" => vec!["one", "two"],
        "time" => AMQPValue::Timestamp(1_700_000_000),
        "table" => AMQPValue::FieldTable(table! { "inner" => 1 }),
        "bytes" => AMQPValue::ByteArray(vec![0, 255].into()),
        "void" => AMQPValue::Void,
    }
}

pub(crate) async fn the_next_exchange_looks_at_all_keys_again(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind("q", "amq.topic", "copy").await.unwrap();
    let (options, none) = (Default::default(), Default::default());
    channel.exchange_bind("amq.topic".into(), "amq.direct".into(), "key".into(), options, none).await.unwrap();
    let copies = lapin::types::FieldArray::from(vec![lapin::types::AMQPValue::LongString("copy".into())]);
    let headers = table! { "CC" => lapin::types::AMQPValue::FieldArray(copies) };
    let properties = lapin::BasicProperties::default().with_headers(headers);
    channel.publish_with("amq.direct", "key", "m", properties).await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}
