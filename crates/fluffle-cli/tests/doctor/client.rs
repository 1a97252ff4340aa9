//! A client by hand, which may do everything wrong.

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

pub(crate) async fn connect(url: &str, name: &str) -> Connection {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect(url, properties).await.unwrap()
}

/// Arguments of a declaration: text and numbers.
pub(crate) fn arguments(list: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in list {
        let value = match value.parse() {
            Ok(number) => AMQPValue::LongLongInt(number),
            Err(_) => AMQPValue::LongString((*value).into()),
        };
        table.insert((*name).into(), value);
    }
    table
}

pub(crate) async fn durable(channel: &Channel, queue: &str, list: &[(&str, &str)]) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments(list)).await.unwrap();
}

pub(crate) async fn exclusive(channel: &Channel, queue: &str) {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
}

pub(crate) async fn exchange(channel: &Channel, exchange: &str, kind: ExchangeKind) {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await.unwrap();
}

pub(crate) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await.unwrap();
}

/// Publishes to the default exchange, without waiting for a confirm.
pub(crate) async fn publish(channel: &Channel, key: &str, count: usize, properties: BasicProperties) {
    for _ in 0..count {
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), key.into(), options, b"x", properties.clone()).await.unwrap();
    }
}

/// Publishes to the default exchange, and waits for each confirm.
pub(crate) async fn publish_confirmed(connection: &Connection, key: &str, count: usize, properties: BasicProperties) {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for _ in 0..count {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), key.into(), options, b"x", properties.clone()).await.unwrap();
        sent.await.unwrap();
    }
    channel.close(200, "done".into()).await.unwrap();
}

pub(crate) async fn consume(channel: &Channel, queue: &str, tag: &str, no_ack: bool) -> Consumer {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await.unwrap()
}

pub(crate) async fn prefetch(channel: &Channel, count: u16, global: bool) {
    channel.basic_qos(count, BasicQosOptions { global }).await.unwrap();
}

/// Gives each delivery back, `times` times.
pub(crate) async fn give_back(mut consumer: Consumer, times: usize) {
    for _ in 0..times {
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
    }
}
