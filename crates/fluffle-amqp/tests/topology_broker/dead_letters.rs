//! Dead letters reach their queue.

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicRejectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;

use super::{Client, LIMIT, publish};
use crate::topology::{Queue, Topology};

#[tokio::test]
async fn a_rejected_message_reaches_the_dead_letter_queue() {
    for queue in [Queue::quorum("alerts").dead_letter(), Queue::classic("alerts").dead_letter()] {
        let client = Client::new().await;
        client.declare(&Topology::new().queue(queue)).await.unwrap();
        let channel = client.channel().await;
        publish_and_reject(&channel, "alerts").await;
        expect_one_message(&channel, "alerts.dead").await;
    }
}

#[tokio::test]
async fn a_dead_letter_of_a_quorum_queue_waits_for_its_queue_instead_of_vanishing() {
    let client = Client::new().await;
    // The interval at which the broker tries again to move an unconfirmed dead letter: three minutes by default. The
    // broker reads it when the queue starts.
    let again = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 500), <<>>";
    client.vhost.broker().eval(again).unwrap();
    let topology = Topology::new().queue(Queue::quorum("alerts").dead_letter());
    client.declare(&topology).await.unwrap();
    let channel = client.channel().await;
    channel.queue_delete("alerts.dead".into(), QueueDeleteOptions::default()).await.unwrap();
    publish_and_reject(&channel, "alerts").await;

    client.declare(&topology).await.unwrap();
    expect_one_message(&channel, "alerts.dead").await;
}

async fn publish_and_reject(channel: &Channel, queue: &str) {
    publish(channel, "", queue, FieldTable::default()).await;
    let message = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
    let tag = message.unwrap().delivery.delivery_tag;
    channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await.unwrap();
    // A channel is processed in order: this answer means that the broker has processed the rejection.
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
}

async fn expect_one_message(channel: &Channel, queue: &str) {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let arguments = FieldTable::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await;
    let delivery = tokio::time::timeout(LIMIT, consumer.unwrap().next()).await;
    assert_eq!(delivery.expect("no dead letter came").unwrap().unwrap().data, b"hello");
}
