//! A short notation for field tables.

use lapin::types::{AMQPValue, FieldTable};

/// Types that can be values in [`table!`](crate::table).
pub trait IntoValue {
    /// The value with its AMQP type: a string is a long string, an `i32` a signed 32-bit integer.
    fn into_value(self) -> AMQPValue;
}

impl IntoValue for &str {
    fn into_value(self) -> AMQPValue {
        AMQPValue::LongString(self.into())
    }
}

impl IntoValue for i32 {
    fn into_value(self) -> AMQPValue {
        AMQPValue::LongInt(self)
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> AMQPValue {
        AMQPValue::LongLongInt(self)
    }
}

impl IntoValue for bool {
    fn into_value(self) -> AMQPValue {
        AMQPValue::Boolean(self)
    }
}

impl IntoValue for Vec<&str> {
    fn into_value(self) -> AMQPValue {
        AMQPValue::FieldArray(self.into_iter().map(IntoValue::into_value).collect::<Vec<_>>().into())
    }
}

impl IntoValue for AMQPValue {
    fn into_value(self) -> AMQPValue {
        self
    }
}

/// A field table: `table! { "x-max-length" => 3, "x-overflow" => "reject-publish" }`.
#[macro_export]
macro_rules! table {
    () => { ::lapin::types::FieldTable::default() };
    ($($key:expr => $value:expr),+ $(,)?) => {{
        let mut table = ::lapin::types::FieldTable::default();
        $( table.insert(($key).into(), $crate::IntoValue::into_value($value)); )+
        table
    }};
}

/// The string that a table has under a key.
///
/// # Panics
///
/// If there is none.
pub fn string(table: &FieldTable, key: &str) -> String {
    match table.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{key:?} should be a string, found {other:?}"),
    }
}
