//! AMQP client helpers for these tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::*,
    types::{AMQPValue, FieldTable},
};

pub(crate) async fn connect(url: &str, name: &str) -> Connection {
    let options = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect(url, options).await.unwrap()
}

pub(crate) async fn declare_durable(channel: &Channel, queue: &str) {
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
}

pub(crate) async fn declare_quorum(channel: &Channel, queue: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Publishes persistent messages and returns when the broker has confirmed each.
pub(crate) async fn publish_confirmed(channel: &Channel, queue: &str, count: usize) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..count {
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let confirm =
            channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await.unwrap();
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
    }
}

/// Takes one message with `basic.get`, without acknowledgement.
pub(crate) async fn get(channel: &Channel, queue: &str) -> Option<Vec<u8>> {
    let options = BasicGetOptions { no_ack: true };
    channel.basic_get(queue.into(), options).await.unwrap().map(|message| message.delivery.data)
}
