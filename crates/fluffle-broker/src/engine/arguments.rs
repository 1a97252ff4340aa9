//! Reads and compares `x-` arguments.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::refusal::Refusal;

/// A text argument.
pub(crate) fn text<'a>(arguments: &'a FieldTable, name: &str) -> Option<&'a str> {
    match arguments.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// A truth value, false when it is absent.
pub(crate) fn flag(arguments: &FieldTable, name: &str, entity: &str) -> Result<bool, Refusal> {
    match arguments.inner().get(name) {
        None => Ok(false),
        Some(AMQPValue::Boolean(flag)) => Ok(*flag),
        Some(other) => {
            let problem = format!("{{unacceptable_type,{}}}", type_name(other));
            Err(Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}")))
        }
    }
}

/// A number of any integer type.
pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    })
}

/// Whether two values are one to a headers exchange: numbers count for what they amount to, whatever their type.
pub(crate) fn same_value(a: &AMQPValue, b: &AMQPValue) -> bool {
    let float = |value: &AMQPValue| match value {
        AMQPValue::Float(number) => Some(f64::from(*number)),
        AMQPValue::Double(number) => Some(*number),
        value => integer(value).map(|number| number as f64),
    };
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b || float(a).zip(float(b)).is_some_and(|(a, b)| a == b),
    }
}

/// The name RabbitMQ gives a value's type in its refusals.
pub(crate) fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// A number that is at least `least`, or RabbitMQ's words for why not.
pub(crate) fn number(arguments: &FieldTable, name: &str, least: i64, entity: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = arguments.inner().get(name) else { return Ok(None) };
    let problem = match integer(value) {
        Some(number) if number >= least => return Ok(u64::try_from(number).ok()),
        Some(0) => "{value_zero,0}".to_owned(),
        Some(number) => format!("{{value_negative,{number}}}"),
        None => format!("\"expected integer, got {}\"", type_name(value)),
    };
    Err(Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}")))
}

/// Compares an argument of a declaration with that of what exists, in RabbitMQ's words.
pub(crate) fn equivalent(
    name: &str,
    entity: &str,
    received: Option<&AMQPValue>,
    current: Option<&AMQPValue>,
) -> Result<(), Refusal> {
    let same = match (received, current) {
        (None, None) => true,
        (Some(a), Some(b)) => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        _ => false,
    };
    if same {
        return Ok(());
    }
    let described = |value: Option<&AMQPValue>, other: Option<&AMQPValue>| match value {
        None => "none".to_owned(),
        Some(value) if other.is_some_and(|other| alike(value, other)) => format!("'{}'", shown(value)),
        Some(value) => format!("the value '{}' of type '{}'", shown(value), type_name(value)),
    };
    Err(inequivalent(name, entity, &described(received, current), &described(current, received)))
}

/// Integers of any size are of one kind.
fn alike(a: &AMQPValue, b: &AMQPValue) -> bool {
    type_name(a) == type_name(b) || integer(a).is_some() && integer(b).is_some()
}

/// `received` and `current` come quoted, or as `none`.
pub(crate) fn inequivalent(name: &str, entity: &str, received: &str, current: &str) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{name}' for {entity}: received {received} but current is {current}"
    ))
}

/// Compares a yes-or-no property.
pub(crate) fn same_flag(name: &str, entity: &str, received: bool, current: bool) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(name, entity, &format!("'{received}'"), &format!("'{current}'")))
}

pub(crate) fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(flag) => flag.to_string(),
        other => integer(other).map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}
