//! Exchanges: declaring, deleting, and how each kind routes.

use conformance::{Chan, Target, refusal, table};
use lapin::{ExchangeKind, options::*};

pub(crate) async fn direct_routes_by_the_exact_key_to_every_queue_bound_with_it(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    bound(&channel, "x", &[("one", "red"), ("two", "red"), ("three", "blue"), ("four", "re")]).await;
    channel.publish("x", "red", "m").await.unwrap();
    assert_eq!(received(&channel, &["one", "two", "three", "four"]).await, ["one", "two"]);
}

pub(crate) async fn fanout_ignores_the_key(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Fanout).await;
    bound(&channel, "x", &[("one", "red"), ("two", "")]).await;
    channel.publish("x", "blue", "m").await.unwrap();
    assert_eq!(received(&channel, &["one", "two"]).await, ["one", "two"]);
}

pub(crate) async fn topic_star_is_exactly_one_word(broker: &Target) {
    assert_eq!(
        topic(broker, "a.*.c", &["a.b.c", "a.c", "a.b.b.c", "a..c", "a.b.c.", "b.b.c"]).await,
        ["a.b.c", "a..c"]
    );
}

pub(crate) async fn topic_star_alone_is_one_word_and_not_the_empty_key(broker: &Target) {
    assert_eq!(topic(broker, "*", &["", "a", "a.b", "."]).await, ["a"]);
}

pub(crate) async fn topic_hash_is_any_number_of_words(broker: &Target) {
    assert_eq!(topic(broker, "a.#", &["a", "a.b", "a.b.c", "ab", "", "b.a"]).await, ["a", "a.b", "a.b.c"]);
}

pub(crate) async fn topic_hash_alone_takes_everything(broker: &Target) {
    assert_eq!(topic(broker, "#", &["", ".", "a", "a.b"]).await, ["", ".", "a", "a.b"]);
}

pub(crate) async fn topic_hash_in_the_middle_may_be_nothing(broker: &Target) {
    assert_eq!(topic(broker, "a.#.z", &["a.z", "a.b.z", "a.b.c.z", "a", "az"]).await, ["a.z", "a.b.z", "a.b.c.z"]);
}

pub(crate) async fn topic_hash_and_star_together_want_at_least_one_word(broker: &Target) {
    assert_eq!(topic(broker, "#.*", &["", "a", "a.b"]).await, ["a", "a.b"]);
}

pub(crate) async fn topic_wildcards_are_whole_words_only(broker: &Target) {
    assert_eq!(topic(broker, "a*.b#", &["a*.b#", "ax.bx", "a.b"]).await, ["a*.b#"]);
}

pub(crate) async fn topic_wildcards_in_a_routing_key_mean_nothing(broker: &Target) {
    assert_eq!(topic(broker, "a.b", &["a.*", "a.#", "#", "a.b"]).await, ["a.b"]);
}

pub(crate) async fn headers_all_wants_every_argument(broker: &Target) {
    let arguments = table! { "x-match" => "all", "colour" => "red", "size" => 3 };
    let full = table! { "colour" => "red", "size" => 3, "more" => true };
    let wrong = table! { "colour" => "red", "size" => 4 };
    let part = table! { "colour" => "red" };
    assert_eq!(headers(broker, arguments, vec![full, wrong, part, table! {}]).await, [true, false, false, false]);
}

pub(crate) async fn headers_match_all_by_default(broker: &Target) {
    let arguments = table! { "colour" => "red", "size" => 3 };
    let full = table! { "colour" => "red", "size" => 3 };
    assert_eq!(headers(broker, arguments, vec![full, table! { "size" => 3 }]).await, [true, false]);
}

pub(crate) async fn headers_any_wants_one_argument(broker: &Target) {
    let arguments = table! { "x-match" => "any", "colour" => "red", "size" => 3 };
    let published =
        vec![table! { "size" => 3 }, table! { "size" => 3, "colour" => "blue" }, table! { "size" => 4 }, table! {}];
    assert_eq!(headers(broker, arguments, published).await, [true, true, false, false]);
}

pub(crate) async fn headers_with_a_void_argument_want_the_key_alone(broker: &Target) {
    let arguments = table! { "x-match" => "all", "colour" => lapin::types::AMQPValue::Void };
    let published = vec![table! { "colour" => "any" }, table! { "colour" => 3 }, table! { "other" => 3 }];
    assert_eq!(headers(broker, arguments, published).await, [true, true, false]);
}

pub(crate) async fn headers_all_leaves_x_arguments_out(broker: &Target) {
    let arguments = table! { "x-match" => "all", "x-trace" => "1", "colour" => "red" };
    let published = vec![table! { "colour" => "red" }, table! { "x-trace" => "1" }];
    assert_eq!(headers(broker, arguments, published).await, [true, false]);
}

pub(crate) async fn headers_all_with_x_counts_x_arguments_in(broker: &Target) {
    let arguments = table! { "x-match" => "all-with-x", "x-trace" => "1", "colour" => "red" };
    let both = table! { "colour" => "red", "x-trace" => "1" };
    assert_eq!(headers(broker, arguments, vec![table! { "colour" => "red" }, both]).await, [false, true]);
}

pub(crate) async fn headers_any_with_x_counts_x_arguments_in(broker: &Target) {
    let arguments = table! { "x-match" => "any-with-x", "x-trace" => "1", "colour" => "red" };
    let published = vec![table! { "x-trace" => "1" }, table! { "x-trace" => "2" }];
    assert_eq!(headers(broker, arguments, published).await, [true, false]);
}

pub(crate) async fn headers_any_leaves_x_arguments_out(broker: &Target) {
    let arguments = table! { "x-match" => "any", "x-trace" => "1", "colour" => "red" };
    assert_eq!(headers(broker, arguments, vec![table! { "x-trace" => "1" }]).await, [false]);
}

pub(crate) async fn headers_without_arguments_all_match_everything_and_any_nothing(broker: &Target) {
    let published = || vec![table! {}, table! { "colour" => "red" }];
    assert_eq!(headers(broker, table! { "x-match" => "all" }, published()).await, [true, true]);
    assert_eq!(headers(broker, table! { "x-match" => "any" }, published()).await, [false, false]);
}

pub(crate) async fn headers_compare_values_and_not_integer_widths(broker: &Target) {
    let arguments = table! { "size" => 3 };
    assert_eq!(
        headers(broker, arguments, vec![table! { "size" => 3_i64 }, table! { "size" => "3" }]).await,
        [true, false]
    );
}

pub(crate) async fn headers_with_another_x_match_are_refused_at_binding(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    let bound = channel.bind_with("q", "amq.headers", "", table! { "x-match" => "some" }).await;
    let text = "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; \
                expected all, any, all-with-x, or any-with-x";
    assert_eq!(refusal(bound), (406, text.into()));
}

pub(crate) async fn the_default_exchange_routes_to_the_queue_of_that_name(broker: &Target) {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.publish("", "q", "m").await.unwrap();
    let message = channel.get("q").await.unwrap();
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "q"));
}

pub(crate) async fn the_predeclared_exchanges_are_durable_and_of_their_kind(broker: &Target) {
    let channel = broker.channel().await;
    let kinds = [
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ];
    for (name, kind) in kinds {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.declare_exchange(name, kind, durable, table! {}).await.unwrap();
    }
}

pub(crate) async fn a_message_reaches_a_queue_once_however_many_bindings_match(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Topic).await;
    bound(&channel, "x", &[("q", "a.*"), ("q", "#"), ("q", "a.b")]).await;
    channel.publish("x", "a.b", "m").await.unwrap();
    assert_eq!(channel.drain("q").await, ["m"]);
}

pub(crate) async fn declaring_passively_finds_an_exchange_whatever_its_kind(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Topic).await;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    channel.declare_exchange("x", ExchangeKind::Direct, passive, table! {}).await.unwrap();
}

pub(crate) async fn an_exchange_in_use_is_not_deleted_if_unused(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    bound(&channel, "x", &[("q", "k")]).await;
    let if_unused = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    let deleted = channel.exchange_delete("x".into(), if_unused).await;
    let text = format!("PRECONDITION_FAILED - exchange 'x' in vhost '{}' in use", broker.vhost());
    assert_eq!(refusal(deleted), (406, text));
}

pub(crate) async fn an_unused_exchange_is_deleted_if_unused(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("x", ExchangeKind::Direct).await;
    let if_unused = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    channel.exchange_delete("x".into(), if_unused).await.unwrap();
    assert_eq!(refusal(channel.publish("x", "", "m").await).0, 404);
}

pub(crate) async fn deleting_an_exchange_that_is_not_there_succeeds(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange_delete("none".into(), Default::default()).await.unwrap();
}

pub(crate) async fn an_auto_delete_exchange_goes_with_its_last_binding(broker: &Target) {
    let channel = broker.channel().await;
    let auto = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.declare_exchange("x", ExchangeKind::Direct, auto, table! {}).await.unwrap();
    bound(&channel, "x", &[("q", "a"), ("q", "b")]).await;
    channel.queue_unbind("q".into(), "x".into(), "a".into(), table! {}).await.unwrap();
    channel.publish("x", "b", "m").await.unwrap();
    channel.queue_unbind("q".into(), "x".into(), "b".into(), table! {}).await.unwrap();
    assert_eq!(refusal(channel.publish("x", "b", "m").await).0, 404);
}

pub(crate) async fn an_auto_delete_exchange_goes_with_its_last_queue(broker: &Target) {
    let channel = broker.channel().await;
    let auto = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.declare_exchange("x", ExchangeKind::Fanout, auto, table! {}).await.unwrap();
    bound(&channel, "x", &[("q", "")]).await;
    channel.queue_delete("q".into(), Default::default()).await.unwrap();
    assert_eq!(refusal(channel.publish("x", "", "m").await).0, 404);
}

pub(crate) async fn an_alternate_exchange_takes_what_is_not_routed(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange("rest", ExchangeKind::Fanout).await;
    channel.exchange_with("x", ExchangeKind::Direct, table! { "alternate-exchange" => "rest" }).await;
    bound(&channel, "x", &[("routed", "k")]).await;
    bound(&channel, "rest", &[("unrouted", "")]).await;
    channel.publish("x", "k", "known").await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent =
        channel.basic_publish("x".into(), "other".into(), options, b"unknown", Default::default()).await.unwrap();
    // A message routed by the alternate exchange counts as routed, so it is not returned.
    assert_eq!(sent.await.unwrap(), lapin::Confirmation::Ack(None));
    assert_eq!(channel.drain("routed").await, ["known"]);
    let message = channel.get("unrouted").await.unwrap();
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("x", "other"));
}

pub(crate) async fn alternate_exchanges_may_form_a_chain_and_a_circle(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange_with("a", ExchangeKind::Direct, table! { "alternate-exchange" => "b" }).await;
    channel.exchange_with("b", ExchangeKind::Direct, table! { "alternate-exchange" => "a" }).await;
    bound(&channel, "b", &[("q", "k")]).await;
    channel.publish("a", "k", "through b").await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish("a".into(), "none".into(), options, b"round", Default::default()).await.unwrap();
    assert_eq!(sent.await.unwrap().take_message().unwrap().reply_code, 312);
    assert_eq!(channel.drain("q").await, ["through b"]);
}

pub(crate) async fn an_alternate_exchange_that_is_not_there_is_no_error(broker: &Target) {
    let channel = broker.channel().await;
    channel.exchange_with("x", ExchangeKind::Direct, table! { "alternate-exchange" => "none" }).await;
    assert!(channel.publish("x", "k", "m").await.unwrap().is_ack());
}

/// Declares each queue and binds it to the exchange.
async fn bound(channel: &Chan, exchange: &str, bindings: &[(&str, &str)]) {
    for (queue, key) in bindings {
        channel.queue(queue).await;
        channel.bind(queue, exchange, key).await.unwrap();
    }
}

/// Those of these queues that have a message.
async fn received<'a>(channel: &Chan, queues: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for queue in queues {
        if channel.get(queue).await.is_some() {
            found.push(*queue);
        }
    }
    found
}

/// Those of these routing keys that match a binding of a topic exchange.
async fn topic(broker: &Target, pattern: &str, keys: &[&str]) -> Vec<String> {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind("q", "amq.topic", pattern).await.unwrap();
    for key in keys {
        channel.publish("amq.topic", key, key).await.unwrap();
    }
    channel.drain("q").await
}

/// Those of these headers that match a binding of a headers exchange.
async fn headers(
    broker: &Target,
    arguments: lapin::types::FieldTable,
    published: Vec<lapin::types::FieldTable>,
) -> Vec<bool> {
    let channel = broker.channel().await;
    channel.queue("q").await;
    channel.bind_with("q", "amq.headers", "", arguments.clone()).await.unwrap();
    let mut passed = Vec::new();
    for headers in published {
        let properties = lapin::BasicProperties::default().with_headers(headers);
        channel.publish_with("amq.headers", "", "m", properties).await.unwrap();
        passed.push(!channel.drain("q").await.is_empty());
    }
    channel.queue_unbind("q".into(), "amq.headers".into(), "".into(), arguments).await.unwrap();
    passed
}
