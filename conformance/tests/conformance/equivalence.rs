//! Declaring an entity again: the same declaration succeeds, a different one is 406.

use conformance::{Refusal, Target, refusal, table};
use lapin::{
    ExchangeKind,
    options::*,
    types::{AMQPValue, FieldTable},
};

pub(crate) async fn the_same_queue_may_be_declared_again(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 3, "x-message-ttl" => 1000 }).await;
    channel.queue_with("q", table! { "x-message-ttl" => 1000, "x-max-length" => 3 }).await;
}

pub(crate) async fn an_integer_argument_may_come_in_another_width(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 3 }).await;
    channel.queue_with("q", table! { "x-max-length" => 3_i64 }).await;
    channel.queue_with("q", table! { "x-max-length" => AMQPValue::ShortInt(3) }).await;
}

pub(crate) async fn an_unknown_argument_is_not_compared(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "purpose" => "one" }).await;
    channel.queue_with("q", table! { "purpose" => "two" }).await;
    channel.queue_with("q", table! {}).await;
}

pub(crate) async fn a_queue_of_other_durability_is_406(broker: &Target) {
    let wanted = inequivalent(broker, "durable", "'false' but current is 'true'");
    assert_eq!(again(broker, QueueDeclareOptions::default()).await, wanted);
}

pub(crate) async fn a_queue_of_other_auto_delete_is_406(broker: &Target) {
    let wanted = inequivalent(broker, "auto_delete", "'true' but current is 'false'");
    assert_eq!(again(broker, QueueDeclareOptions::durable().auto_delete()).await, wanted);
}

pub(crate) async fn a_shared_queue_declared_exclusive_is_405(broker: &Target) {
    let refused = again(broker, QueueDeclareOptions { durable: true, exclusive: true, ..Default::default() }).await;
    let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost";
    assert_eq!(refused.0, 405, "{refused:?}");
    assert!(refused.1.starts_with(text), "{refused:?}");
}

pub(crate) async fn a_queue_of_another_message_ttl_is_406(broker: &Target) {
    let (one, two) = (table! { "x-message-ttl" => 1000 }, table! { "x-message-ttl" => 2000 });
    let difference = "'2000' but current is '1000'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-message-ttl", difference));
}

pub(crate) async fn a_queue_of_another_expires_is_406(broker: &Target) {
    let (one, two) = (table! { "x-expires" => 100_000 }, table! { "x-expires" => 200_000 });
    let difference = "'200000' but current is '100000'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-expires", difference));
}

pub(crate) async fn a_queue_of_another_max_length_is_406(broker: &Target) {
    let (one, two) = (table! { "x-max-length" => 1 }, table! { "x-max-length" => 2 });
    let difference = "'2' but current is '1'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-max-length", difference));
}

pub(crate) async fn a_queue_of_another_max_length_bytes_is_406(broker: &Target) {
    let (one, two) = (table! { "x-max-length-bytes" => 1 }, table! { "x-max-length-bytes" => 2 });
    let difference = "'2' but current is '1'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-max-length-bytes", difference));
}

pub(crate) async fn a_queue_of_another_overflow_is_406(broker: &Target) {
    let (one, two) = (table! { "x-overflow" => "drop-head" }, table! { "x-overflow" => "reject-publish" });
    let difference = "'reject-publish' but current is 'drop-head'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-overflow", difference));
}

pub(crate) async fn a_queue_of_another_dead_letter_exchange_is_406(broker: &Target) {
    let (one, two) = (table! { "x-dead-letter-exchange" => "a" }, table! { "x-dead-letter-exchange" => "b" });
    let difference = "'b' but current is 'a'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-dead-letter-exchange", difference));
}

pub(crate) async fn a_queue_of_another_dead_letter_key_is_406(broker: &Target) {
    let key = |key| table! { "x-dead-letter-exchange" => "x", "x-dead-letter-routing-key" => key };
    let difference = "'b' but current is 'a'";
    let refused = arguments(broker, key("a"), key("b")).await;
    assert_eq!(refused, inequivalent(broker, "x-dead-letter-routing-key", difference));
}

pub(crate) async fn a_queue_of_another_max_priority_is_406(broker: &Target) {
    let (one, two) = (table! { "x-max-priority" => 5 }, table! { "x-max-priority" => 6 });
    let difference = "'6' but current is '5'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-max-priority", difference));
}

pub(crate) async fn a_queue_of_another_type_is_406(broker: &Target) {
    let (one, two) = (table! { "x-queue-type" => "classic" }, table! { "x-queue-type" => "quorum" });
    let difference = "'quorum' but current is 'classic'";
    assert_eq!(arguments(broker, one, two).await, inequivalent(broker, "x-queue-type", difference));
}

pub(crate) async fn a_queue_without_the_argument_it_has_is_406(broker: &Target) {
    let one = table! { "x-single-active-consumer" => true };
    let difference = "none but current is the value 'true' of type 'bool'";
    let refused = arguments(broker, one, table! {}).await;
    assert_eq!(refused, inequivalent(broker, "x-single-active-consumer", difference));
}

pub(crate) async fn a_queue_with_an_argument_it_has_not_is_406(broker: &Target) {
    let two = table! { "x-max-length" => 3 };
    let difference = "the value '3' of type 'signedint' but current is none";
    assert_eq!(arguments(broker, table! {}, two).await, inequivalent(broker, "x-max-length", difference));
}

pub(crate) async fn the_arguments_of_a_queue_that_exists_are_compared_and_not_checked(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-max-length" => 3 }).await;
    channel.queue_with("q", table! { "x-max-length" => 3, "x-delivery-limit" => 5, "x-max-age" => 1 }).await;
    let arguments = table! { "x-max-length" => -3 };
    let refused = refusal(channel.declare("q", QueueDeclareOptions::durable(), arguments).await);
    assert_eq!(refused, inequivalent(broker, "x-max-length", "'-3' but current is '3'"));
}

pub(crate) async fn an_exchange_of_another_kind_is_406(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    let again = channel.declare_exchange("x", ExchangeKind::Topic, Default::default(), table! {}).await;
    assert_eq!(refusal(again), exchange_inequivalent(broker, "type", "'topic' but current is 'direct'"));
}

pub(crate) async fn an_exchange_of_other_durability_is_406(broker: &Target) {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let refused = exchange_again(broker, options, table! {}).await;
    assert_eq!(refused, exchange_inequivalent(broker, "durable", "'true' but current is 'false'"));
}

pub(crate) async fn an_exchange_of_other_auto_delete_is_406(broker: &Target) {
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let refused = exchange_again(broker, options, table! {}).await;
    assert_eq!(refused, exchange_inequivalent(broker, "auto_delete", "'true' but current is 'false'"));
}

pub(crate) async fn an_exchange_of_other_internality_is_406(broker: &Target) {
    let options = ExchangeDeclareOptions { internal: true, ..Default::default() };
    let refused = exchange_again(broker, options, table! {}).await;
    assert_eq!(refused, exchange_inequivalent(broker, "internal", "'true' but current is 'false'"));
}

pub(crate) async fn an_exchange_of_another_alternate_is_406(broker: &Target) {
    let refused = exchange_again(broker, Default::default(), table! { "alternate-exchange" => "rest" }).await;
    let difference = "the value 'rest' of type 'longstr' but current is none";
    assert_eq!(refused, exchange_inequivalent(broker, "alternate-exchange", difference));
}

/// Declares a plain durable queue, then again with other options.
async fn again(broker: &Target, options: QueueDeclareOptions) -> Refusal {
    let channel = broker.channel().await;
    channel.queue("q").await;
    refusal(channel.declare("q", options, table! {}).await)
}

/// Declares a queue with some arguments, then with others.
async fn arguments(broker: &Target, one: FieldTable, two: FieldTable) -> Refusal {
    let channel = broker.channel().await;
    channel.queue_with("q", one).await;
    refusal(channel.declare("q", QueueDeclareOptions::durable(), two).await)
}

/// Declares a plain direct exchange, then again with other options and arguments.
async fn exchange_again(broker: &Target, options: ExchangeDeclareOptions, arguments: FieldTable) -> Refusal {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    refusal(channel.declare_exchange("x", ExchangeKind::Direct, options, arguments).await)
}

fn inequivalent(broker: &Target, argument: &str, difference: &str) -> Refusal {
    let vhost = broker.vhost();
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '{vhost}': received {difference}"
    );
    (406, text)
}

fn exchange_inequivalent(broker: &Target, argument: &str, difference: &str) -> Refusal {
    let vhost = broker.vhost();
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange 'x' in vhost '{vhost}': received {difference}"
    );
    (406, text)
}
