//! A header of every type that AMQP 0-9-1 and RabbitMQ define, and how values are compared.

use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};

/// 2017-07-14 02:40:00 UTC.
const TIME: u64 = 1_500_000_000;

/// The types, by the names that the peers know.
pub(crate) fn every_type() -> Vec<(&'static str, AMQPValue)> {
    let mut list = FieldArray::default();
    list.push(AMQPValue::LongInt(1));
    list.push(AMQPValue::LongString("two".into()));
    let mut table = FieldTable::default();
    table.insert("inner".into(), AMQPValue::LongInt(7));
    vec![
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
        ("time", AMQPValue::Timestamp(TIME)),
        ("list", AMQPValue::FieldArray(list)),
        ("table", AMQPValue::FieldTable(table)),
        ("void", AMQPValue::Void),
    ]
}

/// A value without the width of its number, and without the difference between text and bytes, which many clients do
/// not keep when they send a message on.
#[derive(Debug, PartialEq)]
pub(crate) enum Plain {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Bytes(Vec<u8>),
    Time(u64),
    List(Vec<Plain>),
    Table(Vec<(String, Plain)>),
    Void,
}

impl From<&AMQPValue> for Plain {
    fn from(value: &AMQPValue) -> Self {
        match value {
            AMQPValue::Boolean(value) => Self::Bool(*value),
            AMQPValue::ShortShortInt(value) => Self::Integer((*value).into()),
            AMQPValue::ShortInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongLongInt(value) => Self::Integer(*value),
            AMQPValue::ShortShortUInt(value) => Self::Integer((*value).into()),
            AMQPValue::ShortUInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongUInt(value) => Self::Integer((*value).into()),
            AMQPValue::Float(value) => Self::Real((*value).into()),
            AMQPValue::Double(value) => Self::Real(*value),
            AMQPValue::DecimalValue(DecimalValue { scale, value }) => {
                Self::Real(f64::from(*value) / 10_f64.powi((*scale).into()))
            }
            AMQPValue::ShortString(text) => Self::Bytes(text.as_str().as_bytes().to_vec()),
            AMQPValue::LongString(text) => Self::Bytes(text.as_bytes().to_vec()),
            AMQPValue::ByteArray(bytes) => Self::Bytes(bytes.as_slice().to_vec()),
            AMQPValue::Timestamp(time) => Self::Time(*time),
            AMQPValue::FieldArray(list) => Self::List(list.as_slice().iter().map(Self::from).collect()),
            AMQPValue::FieldTable(table) => {
                Self::Table(table.inner().iter().map(|(name, value)| (name.to_string(), value.into())).collect())
            }
            AMQPValue::Void => Self::Void,
        }
    }
}

/// Each of the `sent` headers is among the `found` ones with the same value, whatever its width.
pub(crate) fn same_values(sent: &[(&str, AMQPValue)], found: &FieldTable) -> Result<(), String> {
    for (name, value) in sent {
        let found = found.inner().get(*name).ok_or_else(|| format!("the header {name} is gone"))?;
        if Plain::from(value) != Plain::from(found) {
            return Err(format!("the header {name} was {value:?} and is {found:?}"));
        }
    }
    Ok(())
}

/// Each of the `sent` headers is among the `found` ones, with the same type and value.
pub(crate) fn same_types(sent: &FieldTable, found: &FieldTable) -> Result<(), String> {
    for (name, value) in sent.inner() {
        match found.inner().get(name) {
            Some(found) if found == value => {}
            found => return Err(format!("the header {name} was {value:?} and is {found:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_gone_or_changed_is_seen() {
        let sent = every_type();
        let mut table = FieldTable::default();
        for (name, value) in &sent {
            table.insert((*name).into(), value.clone());
        }
        assert_eq!(same_values(&sent, &table), Ok(()));
        assert_eq!(same_types(&table, &table), Ok(()));
        let mut other = table.clone();
        other.insert("int8".into(), AMQPValue::LongLongInt(-8));
        assert_eq!(same_values(&sent, &other), Ok(()));
        assert!(same_types(&table, &other).is_err());
        other.insert("int8".into(), AMQPValue::LongLongInt(8));
        assert!(same_values(&sent, &other).is_err());
        assert!(same_values(&sent, &FieldTable::default()).is_err());
        assert!(same_types(&table, &FieldTable::default()).is_err());
    }
}
