//! Single active consumer: one is served, the others wait.

use conformance::{Chan, Target, refusal, table};
use lapin::options::*;

pub(crate) async fn only_the_first_consumer_is_served(broker: &Target) {
    let channel = single(broker, "classic").await;
    let mut first = channel.consume("q").await;
    let mut second = channel.consume("q").await;
    channel.fill("q", &["1", "2"]).await;
    assert_eq!(first.bodies(2).await, ["1", "2"]);
    second.is_quiet().await;
}

pub(crate) async fn the_next_in_line_takes_over_on_cancel(broker: &Target) {
    let channel = single(broker, "classic").await;
    let first = channel.consume("q").await;
    let mut second = channel.consume("q").await;
    let mut third = channel.consume("q").await;
    first.cancel().await;
    channel.fill("q", &["1", "2"]).await;
    assert_eq!(second.bodies(2).await, ["1", "2"]);
    third.is_quiet().await;
}

pub(crate) async fn the_next_in_line_takes_over_when_a_channel_closes(broker: &Target) {
    let channel = single(broker, "classic").await;
    let active = broker.channel().await;
    let mut first = active.consume("q").await;
    let mut second = channel.consume("q").await;
    channel.fill("q", &["1"]).await;
    first.next().await;
    active.quit().await;
    let delivery = second.next().await;
    assert!(delivery.redelivered);
}

pub(crate) async fn a_waiting_consumer_is_not_served_while_the_active_one_is_full(broker: &Target) {
    let channel = single(broker, "classic").await;
    channel.prefetch(1, false).await;
    let mut first = channel.consume("q").await;
    let mut second = channel.consume("q").await;
    channel.fill("q", &["1", "2"]).await;
    first.next().await;
    second.is_quiet().await;
    assert_eq!(channel.ready("q").await, 1);
}

pub(crate) async fn all_consumers_are_counted(broker: &Target) {
    let channel = single(broker, "classic").await;
    let _first = channel.consume("q").await;
    let _second = channel.consume("q").await;
    assert_eq!(channel.inspect("q").await.unwrap().consumer_count(), 2);
}

pub(crate) async fn an_exclusive_consumer_is_403(broker: &Target) {
    let channel = single(broker, "classic").await;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let consumed = channel.basic_consume("q".into(), "".into(), options, table! {}).await;
    let text = format!("ACCESS_REFUSED - queue 'q' in vhost '{}' in exclusive use", broker.vhost());
    assert_eq!(refusal(consumed), (403, text));
}

pub(crate) async fn a_quorum_queue_serves_only_the_first_and_then_the_next(broker: &Target) {
    let channel = single(broker, "quorum").await;
    let mut first = channel.consume("q").await;
    let mut second = channel.consume("q").await;
    channel.fill("q", &["1"]).await;
    let delivery = first.next().await;
    channel.ack(delivery.delivery_tag).await;
    first.cancel().await;
    channel.fill("q", &["2"]).await;
    assert_eq!(second.bodies(1).await, ["2"]);
}

async fn single(broker: &Target, kind: &str) -> Chan {
    let channel = broker.channel().await;
    channel.queue_with("q", table! { "x-single-active-consumer" => true, "x-queue-type" => kind }).await;
    channel
}
