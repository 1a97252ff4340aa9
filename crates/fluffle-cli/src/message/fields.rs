//! Headers and arguments: AMQP's field tables as JSON, and back.
//!
//! | AMQP | JSON |
//! |---|---|
//! | boolean, integers, floats, void, arrays, tables | the same |
//! | text that is UTF-8 | text |
//! | other text, and byte arrays | `{"$base64": "…"}` |
//! | timestamp | `{"$timestamp": <seconds since 1970-01-01 UTC>}` |
//! | decimal | `{"$decimal": [<scale>, <value>]}`, read only |

use base64::{Engine, engine::general_purpose::STANDARD};
use fluffle::wire::{Headers, headers::HeaderValue};
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, ShortString};
use serde_json::{Map, Value, json};

/// Tables may hold tables this deep when they are written.
const DEEPEST: usize = 32;

/// The table as a JSON object.
pub(crate) fn table_to_json(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), to_json(value))).collect()
}

/// The value as JSON.
pub(crate) fn to_json(value: &AMQPValue) -> Value {
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
        AMQPValue::DecimalValue(value) => json!({"$decimal": [value.scale, value.value]}),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => json!(text),
            Err(_) => base64_to_json(text.as_bytes()),
        },
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(to_json).collect(),
        AMQPValue::Timestamp(seconds) => json!({"$timestamp": seconds}),
        AMQPValue::FieldTable(table) => Value::Object(table_to_json(table)),
        AMQPValue::ByteArray(bytes) => base64_to_json(bytes.as_slice()),
        AMQPValue::Void => Value::Null,
    }
}

fn base64_to_json(bytes: &[u8]) -> Value {
    json!({"$base64": STANDARD.encode(bytes)})
}

/// The value on one line, for people and for filters: text as it is, a timestamp as its seconds, all else as JSON.
pub(crate) fn plain(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Timestamp(seconds) => seconds.to_string(),
        value => match to_json(value) {
            Value::String(text) => text,
            other => other.to_string(),
        },
    }
}

/// The JSON object as a table.
///
/// # Errors
///
/// If a name is longer than 255 bytes, or a value has no form in AMQP.
pub(crate) fn table_from_json(object: &Map<String, Value>) -> Result<FieldTable, String> {
    table_at(object, 0)
}

fn table_at(object: &Map<String, Value>, depth: usize) -> Result<FieldTable, String> {
    if depth > DEEPEST {
        return Err(format!("it is nested deeper than {DEEPEST} levels"));
    }
    let mut table = FieldTable::default();
    for (name, value) in object {
        let named = |why: String| format!("`{name}`: {why}");
        let short = ShortString::try_new(name.as_str()).map_err(|_| named("longer than 255 bytes".to_owned()))?;
        table.insert(short, value_at(value, depth).map_err(named)?);
    }
    Ok(table)
}

/// The JSON value as a value of AMQP: integers as AMQP's 64-bit integer, other numbers as double, text as long string.
pub(crate) fn from_json(value: &Value) -> Result<AMQPValue, String> {
    value_at(value, 0)
}

fn value_at(value: &Value, depth: usize) -> Result<AMQPValue, String> {
    if depth > DEEPEST {
        return Err(format!("it is nested deeper than {DEEPEST} levels"));
    }
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => AMQPValue::LongLongInt(integer),
            (None, Some(float)) if !number.is_u64() => AMQPValue::Double(float),
            _ => return Err(format!("{number} does not fit into 64 bits with a sign")),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(|value| value_at(value, depth + 1)).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        Value::Object(object) => {
            special(object)?.map_or_else(|| Ok::<_, String>(AMQPValue::FieldTable(table_at(object, depth + 1)?)), Ok)?
        }
    })
}

/// The value that an object with a `$` name stands for.
fn special(object: &Map<String, Value>) -> Result<Option<AMQPValue>, String> {
    let Some((name, value)) = object.iter().next().filter(|_| object.len() == 1) else { return Ok(None) };
    match (name.as_str(), value) {
        ("$base64", Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| format!("$base64: {error}"))?;
            Ok(Some(AMQPValue::ByteArray(ByteArray::from(bytes))))
        }
        ("$timestamp", Value::Number(number)) => {
            let seconds = number.as_u64().ok_or("$timestamp: whole seconds since 1970-01-01 UTC are needed")?;
            Ok(Some(AMQPValue::Timestamp(seconds)))
        }
        ("$base64" | "$timestamp" | "$decimal", _) => Err(format!("{name}: this value cannot be written")),
        _ => Ok(None),
    }
}

/// The headers of a message, as `fluffle-wire` reads them.
pub(crate) struct TableHeaders<'a>(pub(crate) &'a FieldTable);

impl Headers for TableHeaders<'_> {
    fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        let value = self.0.inner().get(name)?;
        text(value).map(HeaderValue::Str).or_else(|| integer(value).map(HeaderValue::Int))
    }
}

/// The value, if it is text in UTF-8.
pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// The value, if it is an integer of any size.
pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number),
        AMQPValue::Timestamp(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_can_say_comes_back_as_it_went() {
        let headers = json!({
            "tenant": "eu", "n": -7, "ratio": 0.5, "on": true, "none": null, "list": [1, "two"],
            "inner": {"deep": {"deeper": 1}}, "bytes": {"$base64": "AP8="}, "at": {"$timestamp": 1_700_000_000},
        });
        let table = table_from_json(headers.as_object().unwrap()).unwrap();
        assert_eq!(Value::Object(table_to_json(&table)), headers);
    }

    #[test]
    fn text_that_is_not_utf8_is_shown_as_base64() {
        assert_eq!(to_json(&AMQPValue::LongString(vec![0xff].into())), json!({"$base64": "/w=="}));
    }

    #[test]
    fn what_amqp_has_no_room_for_is_refused_by_name() {
        let refused = |headers: Value| table_from_json(headers.as_object().unwrap()).unwrap_err();
        assert!(refused(json!({"big": u64::MAX})).contains("`big`"));
        assert!(refused(json!({"b": {"$base64": "?"}})).contains("$base64"));
        assert!(refused(json!({"x".repeat(256): 1})).contains("255"));
        let mut deep = json!(1);
        for _ in 0..40 {
            deep = json!({ "d": deep });
        }
        assert!(refused(deep).contains("nested"));
    }
}
