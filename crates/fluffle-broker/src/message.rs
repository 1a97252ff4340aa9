//! A message as it waits in a queue, for those who look into queues.

use std::{collections::BTreeMap, rc::Rc};

use amq_protocol::{
    protocol::basic::AMQPProperties,
    types::{AMQPValue, FieldTable},
};
use bytes::Bytes;

use crate::engine::{Entry, Message};

/// One message in a queue, as its publisher sent it (AMQP 0-9-1, section 1.8 for the properties).
///
/// ```
/// # use fluffle_broker::Broker;
/// # let broker = Broker::start()?;
/// # let none: Result<Vec<fluffle_broker::QueuedMessage>, _> = broker.messages("orders");
/// for message in broker.messages("orders").unwrap_or_default() {
///     println!("{:?} {:?}: {} bytes", message.message_id, message.kind, message.body.len());
/// }
/// # Ok::<(), fluffle_broker::BrokerError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueuedMessage {
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Whether it has been delivered before.
    pub redelivered: bool,
    /// How many deliveries came to nothing (quorum queues: `x-delivery-count`).
    pub delivery_count: u32,
    /// MIME type.
    pub content_type: Option<String>,
    /// MIME encoding, for instance `gzip`.
    pub content_encoding: Option<String>,
    /// The headers.
    pub headers: BTreeMap<String, Value>,
    /// 2 for persistent.
    pub delivery_mode: Option<u8>,
    /// Priority.
    pub priority: Option<u8>,
    /// Correlation id.
    pub correlation_id: Option<String>,
    /// Where to answer.
    pub reply_to: Option<String>,
    /// Time to live in milliseconds, as text.
    pub expiration: Option<String>,
    /// Message id.
    pub message_id: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub timestamp: Option<u64>,
    /// AMQP's `type`: what is in the body.
    pub kind: Option<String>,
    /// The user it was published as.
    pub user_id: Option<String>,
    /// The application's name.
    pub app_id: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// The value of a header: AMQP's field types, integers of all widths taken together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`, `B`, `s`, `u`, `I`, `i`, `l`
    Int(i64),
    /// `f`, `d`
    Float(f64),
    /// `D`: an integer and how many of its digits stand behind the point
    Decimal(u32, u8),
    /// `S` that is UTF-8
    Text(String),
    /// `x`, and `S` that is not UTF-8
    Bytes(Vec<u8>),
    /// `T`: seconds since 1970-01-01 UTC
    Timestamp(u64),
    /// `A`
    List(Vec<Value>),
    /// `F`
    Table(BTreeMap<String, Value>),
    /// `V`
    Void,
}

impl Value {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }
}

/// What is sent from the broker's thread: `Rc` stays there.
impl From<&Entry> for QueuedMessage {
    fn from(entry: &Entry) -> Self {
        let message: &Rc<Message> = &entry.message;
        let properties: AMQPProperties = message.properties.decode();
        let text = |text: &Option<amq_protocol::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        Self {
            exchange: message.exchange.to_string(),
            routing_key: message.key.to_string(),
            redelivered: entry.redelivered,
            delivery_count: entry.delivery_count,
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            headers: properties.headers().as_ref().map(table).unwrap_or_default(),
            delivery_mode: *properties.delivery_mode(),
            priority: *properties.priority(),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            expiration: text(properties.expiration()),
            message_id: text(properties.message_id()),
            timestamp: *properties.timestamp(),
            kind: text(properties.kind()),
            user_id: text(properties.user_id()),
            app_id: text(properties.app_id()),
            body: message.body.clone(),
        }
    }
}

fn table(table: &FieldTable) -> BTreeMap<String, Value> {
    table.inner().iter().map(|(name, field)| (name.as_str().to_owned(), value(field))).collect()
}

fn value(field: &AMQPValue) -> Value {
    match field {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortInt(number) => Value::Int((*number).into()),
        AMQPValue::ShortUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongInt(number) => Value::Int((*number).into()),
        AMQPValue::LongUInt(number) => Value::Int((*number).into()),
        AMQPValue::LongLongInt(number) => Value::Int(*number),
        AMQPValue::Float(number) => Value::Float((*number).into()),
        AMQPValue::Double(number) => Value::Float(*number),
        AMQPValue::DecimalValue(decimal) => Value::Decimal(decimal.value, decimal.scale),
        AMQPValue::ShortString(text) => Value::Text(text.as_str().to_owned()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(text.as_bytes().to_vec()),
        },
        AMQPValue::ByteArray(bytes) => Value::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldArray(fields) => Value::List(fields.as_slice().iter().map(value).collect()),
        AMQPValue::FieldTable(fields) => Value::Table(table(fields)),
        AMQPValue::Void => Value::Void,
    }
}
