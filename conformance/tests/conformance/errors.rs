//! Reply codes and reply texts that no other module covers.

use conformance::{Target, refusal, table};
use lapin::{
    ExchangeKind,
    options::*,
    protocol::{exchange, queue},
};

pub(crate) async fn a_queue_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let text = format!("NOT_FOUND - no queue 'none' in vhost '{}'", broker.vhost());
    assert_eq!(refusal(channel.inspect("none").await), (404, text));
}

pub(crate) async fn an_exchange_that_is_not_there_is_404(broker: &Target) {
    let channel = broker.channel().await;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let text = format!("NOT_FOUND - no exchange 'none' in vhost '{}'", broker.vhost());
    let declared = channel.declare_exchange("none", ExchangeKind::Direct, passive, table! {}).await;
    assert_eq!(refusal(declared), (404, text));
}

pub(crate) async fn a_queue_named_amq_is_403(broker: &Target) {
    let channel = broker.channel().await;
    let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    let declared = channel.declare("amq.mine", QueueDeclareOptions::durable(), table! {}).await;
    assert_eq!(refusal(declared), (403, text.into()));
}

pub(crate) async fn an_exchange_named_amq_is_403(broker: &Target) {
    let channel = broker.channel().await;
    let text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    let declared = channel.declare_exchange("amq.mine", ExchangeKind::Direct, Default::default(), table! {}).await;
    assert_eq!(refusal(declared), (403, text.into()));
}

pub(crate) async fn a_queue_the_broker_named_can_be_found_but_not_declared_by_its_name(broker: &Target) {
    let channel = broker.channel().await;
    let queue = channel.declare("", QueueDeclareOptions::exclusive(), table! {}).await.unwrap();
    let name = queue.name().as_str();
    channel.inspect(name).await.unwrap();
    let text = format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'");
    let declared = channel.declare(name, QueueDeclareOptions::exclusive(), table! {}).await;
    assert_eq!(refusal(declared), (403, text));
}

pub(crate) async fn deleting_a_predeclared_exchange_is_403(broker: &Target) {
    let channel = broker.channel().await;
    let vhost = broker.vhost();
    let text = format!("ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '{vhost}' not allowed");
    assert_eq!(refusal(channel.exchange_delete("amq.direct".into(), Default::default()).await), (403, text));
}

pub(crate) async fn deleting_the_default_exchange_is_403(broker: &Target) {
    let channel = broker.channel().await;
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_eq!(refusal(channel.exchange_delete("".into(), Default::default()).await), (403, text.into()));
}

pub(crate) async fn declaring_the_default_exchange_is_403(broker: &Target) {
    let channel = broker.channel().await;
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.declare_exchange("", ExchangeKind::Direct, durable, table! {}).await;
    assert_eq!(refusal(declared), (403, text.into()));
}

pub(crate) async fn an_unknown_exchange_kind_is_503_and_ends_the_connection(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, exchange::Declare { exchange: "x".into(), kind: "none".into(), ..Default::default() }).await;
    let close = wire.connection_closed().await;
    let text = "COMMAND_INVALID - invalid exchange type 'none'";
    assert_eq!((close.reply_code, close.reply_text.as_str()), (503, text));
    assert_eq!((close.class_id, close.method_id), (40, 10));
}

pub(crate) async fn the_exchange_kind_of_a_plugin_that_is_not_there_is_unknown(broker: &Target) {
    let mut wire = broker.wire().await;
    let kind = "x-delayed-message";
    wire.send(1, exchange::Declare { exchange: "x".into(), kind: kind.into(), ..Default::default() }).await;
    let close = wire.connection_closed().await;
    let text = format!("COMMAND_INVALID - unknown exchange type '{kind}'");
    assert_eq!((close.reply_code, close.reply_text.as_str()), (503, text.as_str()));
}

pub(crate) async fn a_refusal_names_the_method_it_refuses(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, queue::Declare { queue: "none".into(), passive: true, ..Default::default() }).await;
    let close = wire.channel_closed(1).await;
    assert_eq!((close.reply_code, close.class_id, close.method_id), (404, 50, 10));
}

pub(crate) async fn a_refusal_spares_the_other_channels(broker: &Target) {
    let (channel, other) = (broker.channel().await, broker.channel().await);
    other.queue("q").await;
    assert_eq!(refusal(channel.inspect("none").await).0, 404);
    other.inspect("q").await.unwrap();
}

pub(crate) async fn after_a_refusal_the_channel_is_deaf_until_close_ok(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, queue::Declare { queue: "none".into(), passive: true, ..Default::default() }).await;
    wire.send(1, queue::Declare { queue: "q".into(), durable: true, ..Default::default() }).await;
    wire.channel_closed(1).await;
    wire.channel(1).await;
    // The second declaration had no effect.
    wire.send(1, queue::Declare { queue: "q".into(), passive: true, ..Default::default() }).await;
    assert_eq!(wire.channel_closed(1).await.reply_code, 404);
}

pub(crate) async fn a_dead_letter_key_without_an_exchange_is_406(broker: &Target) {
    let channel = broker.channel().await;
    let arguments = table! { "x-dead-letter-routing-key" => "k" };
    let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await);
    let text = "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost ";
    assert_eq!(refused, (406, format!("{text}'{}': routing_key_but_no_dlx_defined", broker.vhost())));
}

pub(crate) async fn an_error_in_a_method_without_answer_closes_too(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, queue::Declare { queue: "none".into(), passive: true, nowait: true, ..Default::default() }).await;
    assert_eq!(wire.channel_closed(1).await.reply_code, 404);
}

pub(crate) async fn nowait_is_not_answered(broker: &Target) {
    let mut wire = broker.wire().await;
    wire.send(1, queue::Declare { queue: "q".into(), durable: true, nowait: true, ..Default::default() }).await;
    wire.send(1, queue::Delete { queue: "q".into(), nowait: true, ..Default::default() }).await;
    let declare = exchange::Declare { exchange: "x".into(), kind: "fanout".into(), ..Default::default() };
    let _: exchange::DeclareOk = wire.call(1, declare).await;
}
