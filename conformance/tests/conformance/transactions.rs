//! Transactions: publishes and acknowledgements that wait for `tx.commit`.

use conformance::{Target, refusal, table};
use lapin::{options::*, protocol::basic};

pub(crate) async fn publishes_show_at_commit(broker: &Target) {
    let (channel, other) = (broker.plain_channel().await, broker.plain_channel().await);
    channel.queue("q").await;
    channel.tx_select().await.unwrap();
    channel.fill("q", &["1", "2"]).await;
    assert_eq!(channel.ready("q").await, 0);
    channel.tx_commit().await.unwrap();
    assert_eq!(other.drain("q").await, ["1", "2"]);
}

pub(crate) async fn rolled_back_publishes_never_were(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue("q").await;
    channel.tx_select().await.unwrap();
    channel.fill("q", &["1"]).await;
    channel.tx_rollback().await.unwrap();
    channel.fill("q", &["2"]).await;
    channel.tx_commit().await.unwrap();
    assert_eq!(channel.drain("q").await, ["2"]);
}

pub(crate) async fn uncommitted_publishes_are_lost_with_the_channel(broker: &Target) {
    let (channel, other) = (broker.plain_channel().await, broker.plain_channel().await);
    channel.queue("q").await;
    channel.tx_select().await.unwrap();
    channel.fill("q", &["1"]).await;
    channel.quit().await;
    assert_eq!(other.ready("q").await, 0);
}

pub(crate) async fn acknowledgements_count_at_commit(broker: &Target) {
    let (channel, other) = (broker.plain_channel().await, broker.plain_channel().await);
    other.queue("q").await;
    other.fill("q", &["1", "2"]).await;
    other.ready("q").await;
    channel.tx_select().await.unwrap();
    let first = channel.get("q").await.unwrap();
    channel.ack(first.delivery_tag).await;
    channel.tx_commit().await.unwrap();
    let second = channel.get("q").await.unwrap();
    channel.ack(second.delivery_tag).await;
    // The acknowledgement was not committed, so the message comes again.
    channel.quit().await;
    assert_eq!(other.await_only("q", 1).await, ["2"]);
}

pub(crate) async fn rolled_back_acknowledgements_may_be_made_again(broker: &Target) {
    let (channel, other) = (broker.plain_channel().await, broker.plain_channel().await);
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    channel.tx_select().await.unwrap();
    let held = channel.get("q").await.unwrap();
    channel.ack(held.delivery_tag).await;
    channel.tx_rollback().await.unwrap();
    channel.ack(held.delivery_tag).await;
    channel.tx_commit().await.unwrap();
    channel.quit().await;
    assert_eq!(other.ready("q").await, 0);
}

pub(crate) async fn a_rejection_counts_at_commit(broker: &Target) {
    let (channel, other) = (broker.plain_channel().await, broker.plain_channel().await);
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    channel.tx_select().await.unwrap();
    let held = channel.get("q").await.unwrap();
    channel.reject(held.delivery_tag, true).await;
    assert_eq!(channel.ready("q").await, 0);
    channel.tx_commit().await.unwrap();
    assert_eq!(other.drain("q").await, ["1"]);
}

pub(crate) async fn commit_without_select_is_406(broker: &Target) {
    let channel = broker.plain_channel().await;
    let text = "PRECONDITION_FAILED - channel is not transactional";
    assert_eq!(refusal(channel.tx_commit().await), (406, text.into()));
}

pub(crate) async fn rollback_without_select_is_406(broker: &Target) {
    let channel = broker.plain_channel().await;
    let text = "PRECONDITION_FAILED - channel is not transactional";
    assert_eq!(refusal(channel.tx_rollback().await), (406, text.into()));
}

pub(crate) async fn select_may_be_repeated(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.tx_select().await.unwrap();
    channel.tx_select().await.unwrap();
}

pub(crate) async fn an_unroutable_mandatory_message_is_returned_at_commit(broker: &Target) {
    use lapin::protocol::tx;
    let mut wire = broker.wire().await;
    let _: tx::SelectOk = wire.call(1, tx::Select {}).await;
    let publish = basic::Publish { routing_key: "none".into(), mandatory: true, ..Default::default() };
    wire.publish(1, publish, Default::default(), b"lost").await;
    // If the message were returned at once, the return would come before this answer.
    wire.queue(1, "q", table! {}).await;
    wire.send(1, tx::Commit {}).await;
    assert_eq!(wire.expect::<basic::Return>(1).await.reply_code, 312);
    assert_eq!(wire.content(1).await.body, b"lost");
    let _: tx::CommitOk = wire.expect(1).await;
}

pub(crate) async fn consuming_is_not_transactional(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue("q").await;
    channel.fill("q", &["1"]).await;
    channel.tx_select().await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.consume_with("q", "", options, table! {}).await.unwrap();
    assert_eq!(consumer.bodies(1).await, ["1"]);
    channel.tx_rollback().await.unwrap();
    consumer.is_quiet().await;
}

pub(crate) async fn recovering_leaves_what_waits_for_its_commit(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue("q").await;
    channel.fill("q", &["acked", "held"]).await;
    channel.tx_select().await.unwrap();
    let acked = channel.get("q").await.unwrap();
    channel.get("q").await.unwrap();
    channel.ack(acked.delivery_tag).await;
    channel.publish("", "q", "published").await.unwrap();
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    channel.tx_commit().await.unwrap();
    assert_eq!(channel.drain("q").await, ["held", "published"]);
}

pub(crate) async fn recover_returns_nothing_that_was_acknowledged_and_not_committed(broker: &Target) {
    let channel = broker.plain_channel().await;
    channel.queue("q").await;
    channel.tx_select().await.unwrap();
    channel.fill("q", &["1"]).await;
    channel.tx_commit().await.unwrap();
    let message = channel.get("q").await.unwrap();
    channel.fill("q", &["2"]).await;
    channel.ack(message.delivery_tag).await;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    assert_eq!(channel.ready("q").await, 0);
    // The published messages are kept, too.
    channel.tx_commit().await.unwrap();
    assert_eq!(channel.drain("q").await, ["2"]);
}
