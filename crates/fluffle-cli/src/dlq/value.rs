//! AMQP values as text and as JSON.

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

/// A value as one line of text: strings as they are, all else as JSON.
pub(crate) fn text(value: &AMQPValue) -> String {
    match json(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A value as JSON, for reading. Bytes that are not UTF-8 are shown with replacement characters.
pub(crate) fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => json!(f64::from(value.value) / 10f64.powi(value.scale.into())),
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::FieldArray(values) => Value::Array(values.as_slice().iter().map(json).collect()),
        AMQPValue::FieldTable(table_) => table(table_),
        AMQPValue::ByteArray(bytes) => json!(String::from_utf8_lossy(bytes.as_slice())),
        AMQPValue::Void => Value::Null,
    }
}

/// A table as a JSON object.
pub(crate) fn table(table: &FieldTable) -> Value {
    let entries = table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), json(value)));
    Value::Object(entries.collect::<Map<String, Value>>())
}
