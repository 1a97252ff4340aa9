//! Connections and channels, frame by frame: handshake, limits, heartbeats, closing.

use std::time::Duration;

use conformance::{Frame, Target, Wire, refusal, start_ok, table};
use lapin::{
    BasicProperties,
    protocol::{access, basic, channel, connection, queue},
    types::AMQPValue,
};

pub(crate) async fn another_protocol_is_answered_with_ours_and_closed(broker: &Target) {
    for header in [*b"GET / HT", *b"AMQP\x00\x00\x09\x02", *b"AMQP\x00\x01\x00\x00"] {
        let mut wire = Wire::connect(broker.address()).await;
        wire.send_bytes(&header).await;
        assert_eq!(wire.last_bytes().await, b"AMQP\0\0\x09\x01", "{header:?}");
    }
}

pub(crate) async fn the_headers_of_amqp_0_8_and_0_9_are_taken_for_0_9_1(broker: &Target) {
    for header in [*b"AMQP\x01\x01\x00\x09", *b"AMQP\x01\x01\x08\x00"] {
        let mut wire = Wire::connect(broker.address()).await;
        wire.send_bytes(&header).await;
        let _: connection::Start = wire.expect(0).await;
    }
}

pub(crate) async fn start_offers_plain_and_amqplain_in_english(broker: &Target) {
    let (_, start) = Wire::greet(broker.address()).await;
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    let mechanisms = start.mechanisms.to_string();
    for mechanism in ["PLAIN", "AMQPLAIN"] {
        assert!(mechanisms.split(' ').any(|offered| offered == mechanism), "{mechanisms}");
    }
    assert_eq!(start.locales.to_string(), "en_US");
}

pub(crate) async fn start_tells_what_the_broker_can(broker: &Target) {
    let (_, start) = Wire::greet(broker.address()).await;
    let Some(AMQPValue::FieldTable(capabilities)) = start.server_properties.inner().get("capabilities") else {
        panic!("capabilities should be a table")
    };
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(capabilities.inner().get(capability), Some(&AMQPValue::Boolean(true)), "{capability}");
    }
    for property in ["product", "version", "platform", "copyright", "information", "cluster_name"] {
        assert!(start.server_properties.contains_key(property), "{property}");
    }
}

pub(crate) async fn start_names_the_product_whose_rules_hold(broker: &Target) {
    let (_, start) = Wire::greet(broker.address()).await;
    // Clients check this: kombu uses the standard's meaning of basic.qos with any other product.
    let text = |name| match start.server_properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name} should be text and is {other:?}"),
    };
    assert_eq!(text("product"), "RabbitMQ");
    assert!(text("version").starts_with("3.10."), "{}", text("version"));
}

pub(crate) async fn tune_proposes_2047_channels_128_kib_and_a_minute(broker: &Target) {
    let (_, tune) = Wire::log_in(broker.address(), table! {}).await;
    assert_eq!(tune, connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 });
}

pub(crate) async fn amqplain_logs_in(broker: &Target) {
    let (mut wire, _) = Wire::greet(broker.address()).await;
    // A field table without its length: LOGIN and PASSWORD, as long strings.
    let response = "\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    wire.send(0, start_ok("AMQPLAIN", response, table! {})).await;
    let _: connection::Tune = wire.expect(0).await;
}

pub(crate) async fn a_wrong_password_is_403_for_those_who_can_hear_it(broker: &Target) {
    let capabilities = AMQPValue::FieldTable(table! { "authentication_failure_close" => true });
    for mechanism in ["PLAIN", "AMQPLAIN"] {
        let (mut wire, _) = Wire::greet(broker.address()).await;
        let response = match mechanism {
            "PLAIN" => "\0guest\0wrong",
            _ => "\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05wrong",
        };
        wire.send(0, start_ok(mechanism, response, table! { "capabilities" => capabilities.clone() })).await;
        let close: connection::Close = wire.expect(0).await;
        let text = format!(
            "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see the \
             broker logfile."
        );
        assert_eq!((close.reply_code, close.reply_text.as_str()), (403, text.as_str()));
        assert_eq!((close.class_id, close.method_id), (0, 0));
    }
}

pub(crate) async fn a_wrong_password_is_just_the_end_for_others(broker: &Target) {
    let (mut wire, _) = Wire::greet(broker.address()).await;
    wire.send(0, start_ok("PLAIN", "\0guest\0wrong", table! {})).await;
    wire.ends().await;
}

pub(crate) async fn an_unknown_mechanism_ends_the_connection(broker: &Target) {
    let (mut wire, _) = Wire::greet(broker.address()).await;
    wire.send(0, start_ok("NONE", "", table! {})).await;
    // RabbitMQ closes the connection without a reason.
    wire.ends_with_or_without_a_word().await;
}

pub(crate) async fn a_vhost_that_is_not_there_is_530(broker: &Target) {
    let (mut wire, _) = Wire::log_in(broker.address(), table! {}).await;
    wire.send(0, tuned(0)).await;
    wire.send(0, connection::Open { virtual_host: "none".into() }).await;
    let close = wire.connection_closed().await;
    assert_eq!((close.reply_code, close.reply_text.as_str()), (530, "NOT_ALLOWED - vhost none not found"));
    assert_eq!((close.class_id, close.method_id), (10, 40));
}

pub(crate) async fn a_frame_size_past_the_offer_ends_the_connection(broker: &Target) {
    let (wire, _) = Wire::log_in(broker.address(), table! {}).await;
    let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_073, heartbeat: 0 };
    is_shown_out(wire, tune_ok, broker.vhost()).await;
}

pub(crate) async fn no_limit_is_past_the_offer_too(broker: &Target) {
    for (channel_max, frame_max) in [(0, 131_072), (2047, 0)] {
        let (wire, _) = Wire::log_in(broker.address(), table! {}).await;
        is_shown_out(wire, connection::TuneOk { channel_max, frame_max, heartbeat: 0 }, broker.vhost()).await;
    }
}

pub(crate) async fn close_is_answered(broker: &Target) {
    let mut wire = broker.wire().await;
    let close = connection::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 };
    // The side that asked for the close should close the socket (AMQP 0-9-1, section 4.2.5): the broker leaves that to
    // the client.
    let _: connection::CloseOk = wire.call(0, close).await;
}

pub(crate) async fn closing_again_is_answered_again(broker: &Target) {
    let mut wire = broker.wire().await;
    // amqp091-go does this when several goroutines close one connection.
    for _ in 0..3 {
        let close = connection::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 };
        let _: connection::CloseOk = wire.call(0, close).await;
    }
}

pub(crate) async fn a_channel_closed_by_the_client_may_be_opened_again(broker: &Target) {
    let mut wire = broker.wire().await;
    let close = channel::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 };
    let _: channel::CloseOk = wire.call(1, close).await;
    wire.channel(1).await;
}

pub(crate) async fn opening_a_channel_twice_is_504(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, channel::Open {}).await;
    assert_closed(wire, 504, "CHANNEL_ERROR - second 'channel.open' seen").await;
}

pub(crate) async fn a_method_on_a_channel_that_is_not_open_is_504(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(7, basic::Qos::default()).await;
    assert_closed(wire, 504, "CHANNEL_ERROR - expected 'channel.open'").await;
}

pub(crate) async fn more_channels_than_agreed_are_530(broker: &Target) {
    let tune_ok = connection::TuneOk { channel_max: 2, frame_max: 8192, heartbeat: 0 };
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tune_ok).await;
    wire.channel(1).await;
    wire.channel(2).await;
    wire.send(3, channel::Open {}).await;
    assert_closed(wire, 530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)")
        .await;
}

pub(crate) async fn a_frame_larger_than_agreed_is_501(broker: &Target) {
    let tune_ok = connection::TuneOk { channel_max: 3, frame_max: 4096, heartbeat: 0 };
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tune_ok).await;
    wire.channel(1).await;
    wire.send(1, basic::Publish::default()).await;
    wire.send_header(1, BasicProperties::default(), 5000).await;
    wire.send_frame(&Frame::Body(1, vec![7; 5000])).await;
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,5000,4088}";
    assert_closed(wire, 501, text).await;
}

pub(crate) async fn a_payload_may_be_as_large_as_a_frame(broker: &Target) {
    let tune_ok = connection::TuneOk { channel_max: 3, frame_max: 4096, heartbeat: 0 };
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tune_ok).await;
    wire.channel(1).await;
    wire.queue(1, "q", table! {}).await;
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    wire.publish(1, publish, Default::default(), &[7; 4096]).await;
    let _: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: true }).await;
    assert_eq!(wire.content(1).await.body.len(), 4096);
}

pub(crate) async fn a_body_is_cut_into_frames_of_the_agreed_size(broker: &Target) {
    let tune_ok = connection::TuneOk { channel_max: 3, frame_max: 4096, heartbeat: 0 };
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tune_ok).await;
    wire.channel(1).await;
    wire.queue(1, "q", table! {}).await;
    let other = broker.channel().await;
    other.publish("", "q", &"x".repeat(10_000)).await.unwrap();
    let _: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: true }).await;
    let Some(Frame::Header(1, header)) = wire.next().await else { panic!("expected a header") };
    assert_eq!(header.body_size, 10_000);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 10_000 {
        let Some(Frame::Body(1, part)) = wire.next().await else { panic!("expected a body frame") };
        sizes.push(part.len());
    }
    // Each frame has eight bytes besides its payload.
    assert_eq!(sizes, [4088, 4088, 1824]);
}

pub(crate) async fn a_frame_without_its_end_octet_is_501(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_bytes(&[8, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_closed(wire, 501, "FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,0}").await;
}

pub(crate) async fn a_frame_of_unknown_type_is_501(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_bytes(&[9, 0, 1, 0, 0, 0, 0, 206]).await;
    assert_closed(wire, 501, "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame").await;
}

pub(crate) async fn an_unknown_method_ends_the_connection(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_bytes(&[1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 99, 206]).await;
    // RabbitMQ closes the connection without a reason.
    wire.ends_with_or_without_a_word().await;
}

pub(crate) async fn a_method_that_is_cut_short_is_501(broker: &Target) {
    let mut wire = broker.wire().await;
    // basic.ack, cut to two of its nine bytes.
    wire.send_bytes(&[1, 0, 1, 0, 0, 0, 6, 0, 60, 0, 80, 0, 0, 206]).await;
    assert_closed(wire, 501, "FRAME_ERROR - cannot decode <<0,0>>").await;
}

pub(crate) async fn a_header_without_a_method_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_header(1, BasicProperties::default(), 3).await;
    assert_closed(wire, 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead").await;
}

pub(crate) async fn a_body_without_a_header_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, basic::Publish::default()).await;
    wire.send_frame(&Frame::Body(1, b"m".to_vec())).await;
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    assert_closed(wire, 505, text).await;
}

pub(crate) async fn a_header_on_a_channel_that_is_not_open_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_header(7, BasicProperties::default(), 3).await;
    assert_closed(wire, 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead").await;
}

pub(crate) async fn a_method_instead_of_a_body_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, basic::Publish::default()).await;
    wire.send_header(1, BasicProperties::default(), 3).await;
    wire.send(1, basic::Qos::default()).await;
    assert_closed(wire, 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead").await;
}

pub(crate) async fn a_channels_method_on_channel_zero_is_504(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(0, basic::Qos::default()).await;
    assert_closed(wire, 504, "CHANNEL_ERROR - unexpected method in connection state running").await;
}

pub(crate) async fn a_connections_method_on_a_channel_is_503(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, connection::Open { virtual_host: "/".into() }).await;
    assert_closed(wire, 503, "COMMAND_INVALID - unimplemented method").await;
}

pub(crate) async fn a_method_only_the_broker_sends_is_503(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, basic::ConsumeOk { consumer_tag: "tag".into() }).await;
    assert_closed(wire, 503, "COMMAND_INVALID - unimplemented method").await;
}

pub(crate) async fn flow_on_is_answered_and_flow_off_is_540(broker: &Target) {
    let mut wire = broker.wire().await;
    let answer: channel::FlowOk = wire.call(1, channel::Flow { active: true }).await;
    assert!(answer.active);
    wire.send(1, channel::Flow { active: false }).await;
    assert_closed(wire, 540, "NOT_IMPLEMENTED - active=false").await;
}

pub(crate) async fn the_broker_sends_heartbeats(broker: &Target) {
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tuned(1)).await;
    for _ in 0..2 {
        assert_eq!(wire.next().await, Some(Frame::Heartbeat));
        // The client must send heartbeats, too, or the broker ends the connection.
        wire.send_frame(&Frame::Heartbeat).await;
    }
}

pub(crate) async fn a_client_that_falls_silent_is_cut_off(broker: &Target) {
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tuned(1)).await;
    let since = std::time::Instant::now();
    while let Some(frame) = wire.next().await {
        assert_eq!(frame, Frame::Heartbeat);
    }
    let silence = since.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_secs(6)).contains(&silence), "after {silence:?}");
}

pub(crate) async fn without_heartbeats_none_come(broker: &Target) {
    let mut wire = Wire::tuned(broker.address(), broker.vhost(), tuned(0)).await;
    let mut beating = Wire::tuned(broker.address(), broker.vhost(), tuned(1)).await;
    assert_eq!(beating.next().await, Some(Frame::Heartbeat));
    wire.channel(1).await;
}

pub(crate) async fn a_heartbeat_on_a_channel_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_frame(&Frame::InvalidHeartbeat(1)).await;
    assert_closed(wire, 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>").await;
}

pub(crate) async fn content_on_channel_zero_is_505(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send_frame(&Frame::Body(0, b"\"hare\", 13 octets".to_vec())).await;
    assert_closed(wire, 505, r#"UNEXPECTED_FRAME - type 3, first 16 octets = <<"\"hare\", 13 octet">>"#).await;
}

pub(crate) async fn access_is_granted_to_everyone(broker: &Target) {
    let mut wire = broker.wire().await;
    let _: access::RequestOk = wire.call(1, access::Request { realm: "/data".into(), ..Default::default() }).await;
}

pub(crate) async fn frames_may_arrive_byte_by_byte(broker: &Target) {
    let mut wire = Wire::connect(broker.address()).await;
    for byte in b"AMQP\0\0\x09\x01" {
        wire.send_bytes(&[*byte]).await;
    }
    let _: connection::Start = wire.expect(0).await;
}

pub(crate) async fn a_closed_connection_takes_its_channels_along(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let mut wire = broker.wire().await;
    wire.channel(2).await;
    for id in [1, 2] {
        let _: basic::ConsumeOk = wire.call(id, basic::Consume { queue: "q".into(), ..Default::default() }).await;
    }
    assert_eq!(channel.inspect("q").await.unwrap().consumer_count(), 2);
    let close = connection::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 };
    let _: connection::CloseOk = wire.call(0, close).await;
    assert_eq!(channel.inspect("q").await.unwrap().consumer_count(), 0);
}

pub(crate) async fn a_connection_closed_by_the_broker_has_let_go_before_it_is_told(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.fill("q", &["m"]).await;
    let mut wire = broker.wire().await;
    let _: basic::GetOk = wire.call(1, basic::Get { queue: "q".into(), no_ack: false }).await;
    wire.content(1).await;
    let exclusive = queue::Declare { queue: "mine".into(), exclusive: true, ..Default::default() };
    let _: queue::DeclareOk = wire.call(1, exclusive).await;
    // A second channel.open is a hard error. The client does not answer the close.
    wire.send(1, channel::Open {}).await;
    let close: connection::Close = wire.expect(0).await;
    assert_eq!(close.reply_code, 504);
    assert_eq!(channel.inspect("q").await.unwrap().message_count(), 1);
    assert_eq!(refusal(channel.inspect("mine").await).0, 404);
}

/// A client that agrees to limits above those offered must be refused.
async fn is_shown_out(mut wire: Wire, tune_ok: connection::TuneOk, vhost: &str) {
    wire.send(0, tune_ok).await;
    wire.send(0, connection::Open { virtual_host: vhost.into() }).await;
    // RabbitMQ closes the connection without a reason.
    wire.ends_with_or_without_a_word().await;
}

/// The offered limits, with this heartbeat interval in seconds.
fn tuned(heartbeat: u16) -> connection::TuneOk {
    connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat }
}

async fn assert_closed(mut wire: Wire, code: u16, text: &str) {
    let close = wire.connection_closed().await;
    assert_eq!((close.reply_code, close.reply_text.as_str()), (code, text));
}
