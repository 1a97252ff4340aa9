//! A message as it lies in a queue, for callers who inspect queues.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::{Entry, Message, Plain, Property, TableValue};

/// Up to this nesting depth, arrays and tables are shown as such.
const DEEPEST: usize = 64;

/// One message in a queue, as its publisher sent it (AMQP 0-9-1, section 1.8 for the properties).
///
/// RabbitMQ and this broker accept and deliver texts that are not UTF-8. Here, U+FFFD replaces their invalid bytes. If
/// several headers have the same name, only the first one is here.
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
    /// How many deliveries ended without an acknowledgement (quorum queues: `x-delivery-count`).
    pub delivery_count: u32,
    /// The place in its stream (`x-stream-offset`); `None` in other queues.
    pub stream_offset: Option<u64>,
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
    /// Reply address.
    pub reply_to: Option<String>,
    /// Time to live in milliseconds, as text.
    pub expiration: Option<String>,
    /// Message id.
    pub message_id: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub timestamp: Option<u64>,
    /// AMQP's `type`: the type of the body.
    pub kind: Option<String>,
    /// The user who published it.
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
    /// `x`, and `S` that is not UTF-8. Also what lies more than 64 arrays and tables deep, as it is encoded
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
        let (redelivered, delivery_count) = (entry.redelivered, entry.delivery_count);
        Self { redelivered, delivery_count, ..Self::of(&entry.message) }
    }
}

impl QueuedMessage {
    /// A message of a stream.
    pub(crate) fn in_stream(offset: u64, message: &Message) -> Self {
        Self { stream_offset: Some(offset), ..Self::of(message) }
    }

    fn of(message: &Message) -> Self {
        let properties = &message.properties;
        let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let text = |property| properties.short(property).map(lossy);
        let octet = |property| properties.value(property).and_then(|value| value.first().copied());
        let timestamp = properties.value(Property::Timestamp).and_then(|value| value.try_into().ok());
        Self {
            exchange: message.exchange.to_string(),
            routing_key: lossy(&message.key),
            redelivered: false,
            delivery_count: 0,
            stream_offset: None,
            content_type: text(Property::ContentType),
            content_encoding: text(Property::ContentEncoding),
            headers: table(properties.headers().fields(), DEEPEST),
            delivery_mode: octet(Property::DeliveryMode),
            priority: octet(Property::Priority),
            correlation_id: text(Property::CorrelationId),
            reply_to: text(Property::ReplyTo),
            expiration: text(Property::Expiration),
            message_id: text(Property::MessageId),
            timestamp: timestamp.map(u64::from_be_bytes),
            kind: text(Property::Type),
            user_id: text(Property::UserId),
            app_id: text(Property::AppId),
            body: message.body.clone(),
        }
    }
}

fn table<'a>(fields: impl Iterator<Item = (&'a [u8], TableValue<'a>)>, depth: usize) -> BTreeMap<String, Value> {
    let mut table = BTreeMap::new();
    for (name, field) in fields {
        table.entry(String::from_utf8_lossy(name).into_owned()).or_insert_with(|| value(field, depth));
    }
    table
}

fn value(field: TableValue<'_>, depth: usize) -> Value {
    if let (Some(depth), Some(items)) = (depth.checked_sub(1), field.items()) {
        return Value::List(items.map(|item| value(item, depth)).collect());
    }
    if let (Some(depth), Some(fields)) = (depth.checked_sub(1), field.fields()) {
        return Value::Table(table(fields, depth));
    }
    match field.plain() {
        Plain::Bool(value) => Value::Bool(value),
        Plain::Integer(number) if field.kind() == b'T' => Value::Timestamp(number as u64),
        Plain::Integer(number) => Value::Int(number as i64),
        Plain::Float(number) => Value::Float(number),
        Plain::Decimal([scale, value @ ..]) => {
            Value::Decimal(value.try_into().map(u32::from_be_bytes).unwrap_or_default(), *scale)
        }
        Plain::Text(text) => match std::str::from_utf8(text) {
            Ok(text) if field.kind() == b'S' => Value::Text(text.to_owned()),
            _ => Value::Bytes(text.to_vec()),
        },
        Plain::Inside(_) => Value::Bytes(field.encoded().to_vec()),
        Plain::Decimal([]) | Plain::Void => Value::Void,
    }
}
