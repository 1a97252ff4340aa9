//! A peer that uses lapin.

use std::path::Path;

use futures_util::StreamExt;
use interop_peers::{
    peer::{Client, Failure, Message, run},
    writer::Written,
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        ConfirmSelectOptions,
    },
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString},
};

struct Lapin {
    channel: Channel,
    consumer: Option<Consumer>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, url, vectors] = arguments.as_slice() else { return Err("usage: lapin-peer URL VECTORS".into()) };
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // A channel that is dropped closes itself, while the connection closes. So one handle of it stays until the end.
    run(Lapin { channel: channel.clone(), consumer: None }, Path::new(vectors)).await?;
    Ok(connection.close(200, "done".into()).await?)
}

fn text(property: &Option<ShortString>) -> String {
    property.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default()
}

fn received(delivery: Delivery) -> Message<FieldTable> {
    let properties = delivery.properties;
    let content_encoding = match text(properties.content_encoding()).as_str() {
        "" => "",
        "gzip" => "gzip",
        _ => "unknown",
    };
    Message {
        written: Written {
            body: delivery.data,
            content_type: text(properties.content_type()),
            content_encoding,
            type_name: text(properties.kind()),
            id: text(properties.message_id()),
        },
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        headers: properties.headers().clone().unwrap_or_default(),
        tag: delivery.delivery_tag,
    }
}

impl Client for Lapin {
    type Headers = FieldTable;

    async fn publish(&mut self, queue: &str, message: Message<FieldTable>, mandatory: bool) -> Result<(), Failure> {
        let Message { written, correlation_id, reply_to, headers, .. } = message;
        let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        type Set = fn(BasicProperties, ShortString) -> BasicProperties;
        let setters: [(&str, Set); 6] = [
            (&written.content_type, BasicProperties::with_content_type),
            (written.content_encoding, BasicProperties::with_content_encoding),
            (&written.type_name, BasicProperties::with_type),
            (&written.id, BasicProperties::with_message_id),
            (&correlation_id, BasicProperties::with_correlation_id),
            (&reply_to, BasicProperties::with_reply_to),
        ];
        for (value, set) in setters.into_iter().filter(|(value, _)| !value.is_empty()) {
            properties = set(properties, value.into());
        }
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let publishing = self.channel.basic_publish("".into(), queue.into(), options, &written.body, properties);
        match publishing.await?.await? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(format!("a message to {queue}: {other:?}").into()),
        }
    }

    async fn consume(&mut self, queue: &str, no_ack: bool) -> Result<(), Failure> {
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        self.consumer = Some(consumer.await?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Message<FieldTable>, Failure> {
        let consumer = self.consumer.as_mut().ok_or("there is no consumer")?;
        Ok(received(consumer.next().await.ok_or("the consumer has ended")??))
    }

    async fn cancel(&mut self) -> Result<(), Failure> {
        let consumer = self.consumer.take().ok_or("there is no consumer")?;
        Ok(self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?)
    }

    async fn get(&mut self, queue: &str) -> Result<Option<Message<FieldTable>>, Failure> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
        Ok(got.map(|message| received(message.delivery)))
    }

    async fn ack(&mut self, tag: u64) -> Result<(), Failure> {
        Ok(self.channel.basic_ack(tag, BasicAckOptions::default()).await?)
    }

    fn every_header() -> FieldTable {
        let mut list = FieldArray::default();
        list.push(AMQPValue::LongInt(1));
        list.push(AMQPValue::LongString("two".into()));
        let mut inner = FieldTable::default();
        inner.insert("inner".into(), AMQPValue::LongInt(7));
        let mut table = FieldTable::default();
        for (name, value) in [
            ("bool", AMQPValue::Boolean(true)),
            ("int8", AMQPValue::ShortShortInt(-8)),
            ("int16", AMQPValue::ShortInt(-1600)),
            ("int32", AMQPValue::LongInt(-70_000)),
            ("int64", AMQPValue::LongLongInt(-5_000_000_000)),
            ("uint8", AMQPValue::ShortShortUInt(200)),
            ("uint16", AMQPValue::ShortUInt(60_000)),
            ("uint32", AMQPValue::LongUInt(4_000_000_000)),
            ("float", AMQPValue::Float(1.5)),
            ("double", AMQPValue::Double(2.25)),
            ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1234 })),
            ("text", AMQPValue::LongString("Grüße".into())),
            ("bytes", AMQPValue::ByteArray(vec![0, 1, 255].into())),
            ("time", AMQPValue::Timestamp(1_500_000_000)),
            ("list", AMQPValue::FieldArray(list)),
            ("table", AMQPValue::FieldTable(inner)),
            ("void", AMQPValue::Void),
        ] {
            table.insert(name.into(), value);
        }
        table
    }

    fn texts(headers: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, text) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*text).into()));
        }
        table
    }

    fn text(headers: &FieldTable, name: &str) -> Option<String> {
        match headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn count_same(expected: &FieldTable, headers: &FieldTable) -> Result<usize, Failure> {
        let mut count = 0;
        for (name, value) in expected.inner() {
            match headers.inner().get(name) {
                Some(found) if found == value => count += 1,
                Some(found) => return Err(format!("header {name}: expected {value:?}, found {found:?}").into()),
                None => {}
            }
        }
        Ok(count)
    }
}
