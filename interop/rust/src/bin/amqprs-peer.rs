//! A peer that uses amqprs.

use std::path::Path;

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, DecimalValue, FieldArray, FieldTable, FieldValue, Nack, Return,
    callbacks::ChannelCallback,
    channel::{
        BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicGetArguments, BasicPublishArguments,
        Channel, ConfirmSelectArguments, ConsumerMessage,
    },
    connection::{Connection, OpenConnectionArguments},
};
use async_trait::async_trait;
use interop_peers::{
    peer::{Client, Failure, Message, run},
    writer::Written,
};
use lapin::uri::AMQPUri;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

struct Amqprs {
    channel: Channel,
    confirms: UnboundedReceiver<Result<(), String>>,
    consumer: Option<(String, UnboundedReceiver<ConsumerMessage>)>,
}

/// Passes confirms on.
struct Confirms(UnboundedSender<Result<(), String>>);

impl Confirms {
    fn tell(&self, what: Result<(), String>) {
        // The receiver lives as long as the peer.
        let _ = self.0.send(what);
    }
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), amqprs::error::Error> {
        self.tell(Err(format!("the channel was closed: {close}")));
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, _: Ack) {
        self.tell(Ok(()));
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        self.tell(Err("nacked".into()));
    }

    async fn publish_return(&mut self, _: &Channel, returned: Return, _: BasicProperties, _: Vec<u8>) {
        self.tell(Err(format!("returned: {returned}")));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, url, vectors] = arguments.as_slice() else { return Err("usage: amqprs-peer URL VECTORS".into()) };
    let uri: AMQPUri = url.parse()?;
    let (place, user) = (&uri.authority, &uri.authority.userinfo);
    let mut open = OpenConnectionArguments::new(&place.host, place.port, &user.username, &user.password);
    let connection = Connection::open(&open.virtual_host(&uri.vhost).finish()).await?;
    let channel = connection.open_channel(None).await?;
    let (sender, confirms) = unbounded_channel();
    channel.register_callback(Confirms(sender)).await?;
    channel.confirm_select(ConfirmSelectArguments::default()).await?;
    // A channel that is dropped closes itself, while the connection closes. So one handle of it stays until the end.
    run(Amqprs { channel: channel.clone(), confirms, consumer: None }, Path::new(vectors)).await?;
    Ok(connection.close().await?)
}

fn received(properties: &BasicProperties, body: Vec<u8>, tag: u64) -> Message<FieldTable> {
    let text = |property: Option<&String>| property.cloned().unwrap_or_default();
    let content_encoding = match text(properties.content_encoding()).as_str() {
        "" => "",
        "gzip" => "gzip",
        _ => "unknown",
    };
    Message {
        written: Written {
            body,
            content_type: text(properties.content_type()),
            content_encoding,
            type_name: text(properties.message_type()),
            id: text(properties.message_id()),
        },
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        headers: properties.headers().cloned().unwrap_or_default(),
        tag,
    }
}

fn name(name: &str) -> Result<amqprs::FieldName, Failure> {
    Ok(name.try_into()?)
}

impl Client for Amqprs {
    type Headers = FieldTable;

    async fn publish(&mut self, queue: &str, message: Message<FieldTable>, mandatory: bool) -> Result<(), Failure> {
        let Message { written, correlation_id, reply_to, headers, .. } = message;
        let mut properties = BasicProperties::default();
        properties.with_delivery_mode(2).with_headers(headers);
        type Set = for<'a> fn(&'a mut BasicProperties, &str) -> &'a mut BasicProperties;
        let setters: [(&str, Set); 6] = [
            (&written.content_type, BasicProperties::with_content_type),
            (written.content_encoding, BasicProperties::with_content_encoding),
            (&written.type_name, BasicProperties::with_message_type),
            (&written.id, BasicProperties::with_message_id),
            (&correlation_id, BasicProperties::with_correlation_id),
            (&reply_to, BasicProperties::with_reply_to),
        ];
        for (value, set) in setters.into_iter().filter(|(value, _)| !value.is_empty()) {
            set(&mut properties, value);
        }
        let arguments = BasicPublishArguments::new("", queue).mandatory(mandatory).finish();
        self.channel.basic_publish(properties, written.body, arguments).await?;
        Ok(self.confirms.recv().await.ok_or("no confirm")??)
    }

    async fn consume(&mut self, queue: &str, no_ack: bool) -> Result<(), Failure> {
        let arguments = BasicConsumeArguments::new(queue, "").manual_ack(!no_ack).finish();
        self.consumer = Some(self.channel.basic_consume_rx(arguments).await?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Message<FieldTable>, Failure> {
        let (_, messages) = self.consumer.as_mut().ok_or("there is no consumer")?;
        let message = messages.recv().await.ok_or("the consumer has ended")?;
        let tag = message.deliver.map_or(0, |deliver| deliver.delivery_tag());
        let properties = message.basic_properties.unwrap_or_default();
        Ok(received(&properties, message.content.unwrap_or_default(), tag))
    }

    async fn cancel(&mut self) -> Result<(), Failure> {
        let (tag, _) = self.consumer.take().ok_or("there is no consumer")?;
        self.channel.basic_cancel(BasicCancelArguments::new(&tag)).await?;
        Ok(())
    }

    async fn get(&mut self, queue: &str) -> Result<Option<Message<FieldTable>>, Failure> {
        let got = self.channel.basic_get(BasicGetArguments::new(queue)).await?;
        Ok(got.map(|(ok, properties, body)| received(&properties, body, ok.delivery_tag())))
    }

    async fn ack(&mut self, tag: u64) -> Result<(), Failure> {
        Ok(self.channel.basic_ack(BasicAckArguments::new(tag, false)).await?)
    }

    fn every_header() -> FieldTable {
        let table = || -> Result<FieldTable, Failure> {
            let list: FieldArray = vec![FieldValue::I(1), FieldValue::S("two".try_into()?)].try_into()?;
            let mut inner = FieldTable::new();
            inner.insert(name("inner")?, FieldValue::I(7));
            let mut table = FieldTable::new();
            for (header, value) in [
                ("bool", FieldValue::t(true)),
                ("int8", FieldValue::b(-8)),
                ("int16", FieldValue::s(-1600)),
                ("int32", FieldValue::I(-70_000)),
                ("int64", FieldValue::l(-5_000_000_000)),
                ("uint8", FieldValue::B(200)),
                ("uint16", FieldValue::u(60_000)),
                ("uint32", FieldValue::i(4_000_000_000)),
                ("float", FieldValue::f(1.5)),
                ("double", FieldValue::d(2.25)),
                ("decimal", FieldValue::D(DecimalValue::new(2, 1234))),
                ("text", FieldValue::S("Grüße".try_into()?)),
                ("bytes", FieldValue::x(vec![0, 1, 255].try_into()?)),
                ("time", FieldValue::T(1_500_000_000)),
                ("list", FieldValue::A(list)),
                ("table", FieldValue::F(inner)),
                ("void", FieldValue::V),
            ] {
                table.insert(name(header)?, value);
            }
            Ok(table)
        };
        // All names and values are short enough; without headers, the other side reports them as missing.
        table().unwrap_or_default()
    }

    fn texts(headers: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::new();
        for (header, text) in headers {
            if let (Ok(header), Ok(text)) = (name(header), (*text).try_into()) {
                table.insert(header, FieldValue::S(text));
            }
        }
        table
    }

    fn text(headers: &FieldTable, header: &str) -> Option<String> {
        match headers.get(&name(header).ok()?)? {
            FieldValue::S(text) => Some(text.as_ref().clone()),
            FieldValue::l(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn count_same(expected: &FieldTable, headers: &FieldTable) -> Result<usize, Failure> {
        let mut count = 0;
        for (name, value) in expected.as_ref() {
            match headers.get(name) {
                Some(found) if found == value => count += 1,
                Some(found) => return Err(format!("header {name}: expected {value:?}, found {found:?}").into()),
                None => {}
            }
        }
        Ok(count)
    }
}
