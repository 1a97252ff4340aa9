//! Reads and compares `x-` arguments.

use super::{
    refusal::Refusal,
    table::{Plain, Table, TableValue},
};

/// Returns a text argument that is UTF-8.
pub(crate) fn text<'a>(arguments: &'a Table, name: &str) -> Option<&'a str> {
    std::str::from_utf8(arguments.get(name)?.text()?).ok()
}

/// Returns a boolean argument; `false` if it is absent.
pub(crate) fn flag(arguments: &Table, name: &str, entity: &str) -> Result<bool, Refusal> {
    match arguments.get(name).map(|value| (value, value.plain())) {
        None => Ok(false),
        Some((_, Plain::Bool(flag))) => Ok(flag),
        Some((other, _)) => {
            let problem = format!("{{unacceptable_type,{}}}", type_name(other));
            Err(Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}")))
        }
    }
}

/// Whether a headers exchange considers two values equal, which follows Erlang's `==`. Numbers of different types are
/// compared by value; arrays and tables are compared as encoded, with their types.
pub(crate) fn same_value(a: TableValue<'_>, b: TableValue<'_>) -> bool {
    match (a.plain(), b.plain()) {
        (Plain::Integer(integer), Plain::Float(float)) | (Plain::Float(float), Plain::Integer(integer)) => {
            float.fract() == 0.0 && float as i128 == integer
        }
        (Plain::Inside(a_fields), Plain::Inside(b_fields)) => {
            a_fields == b_fields && (a.kind() == b.kind() || a_fields.is_empty())
        }
        (a, b) => a == b,
    }
}

/// The name RabbitMQ gives a value's type in its refusals.
pub(crate) fn type_name(value: TableValue<'_>) -> &'static str {
    match value.kind() {
        b't' => "bool",
        b'b' => "byte",
        b'B' => "unsignedbyte",
        b's' => "short",
        b'u' => "unsignedshort",
        b'I' => "signedint",
        b'i' => "unsignedint",
        b'l' | b'L' => "long",
        b'f' => "float",
        b'd' => "double",
        b'D' => "decimal",
        b'S' => "longstr",
        b'A' => "array",
        b'T' => "timestamp",
        b'F' => "table",
        b'x' => "binary",
        _ => "void",
    }
}

/// Returns a number that is at least `least`, or the refusal in RabbitMQ's words.
pub(crate) fn number(arguments: &Table, name: &str, least: i64, entity: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = arguments.get(name) else { return Ok(None) };
    let problem = match value.integer() {
        Some(number) if number >= least => return Ok(u64::try_from(number).ok()),
        Some(0) => "{value_zero,0}".to_owned(),
        Some(number) => format!("{{value_negative,{number}}}"),
        None => format!("\"expected integer, got {}\"", type_name(value)),
    };
    Err(Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}")))
}

/// Compares an argument of a declaration with that of the existing entity. The refusal uses RabbitMQ's words.
pub(crate) fn equivalent(
    name: &str,
    entity: &str,
    received: Option<TableValue<'_>>,
    current: Option<TableValue<'_>>,
) -> Result<(), Refusal> {
    let same = match (received, current) {
        (None, None) => true,
        (Some(a), Some(b)) => match (a.integer(), b.integer()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        _ => false,
    };
    if same {
        return Ok(());
    }
    let described = |value: Option<TableValue<'_>>, other: Option<TableValue<'_>>| match value {
        None => "none".to_owned(),
        Some(value) if other.is_some_and(|other| alike(value, other)) => format!("'{}'", shown(value)),
        Some(value) => format!("the value '{}' of type '{}'", shown(value), type_name(value)),
    };
    Err(inequivalent(name, entity, &described(received, current), &described(current, received)))
}

/// Whether two values have the same type, where all integer types count as one.
fn alike(a: TableValue<'_>, b: TableValue<'_>) -> bool {
    type_name(a) == type_name(b) || a.integer().is_some() && b.integer().is_some()
}

/// `received` and `current` are quoted, or `none`.
pub(crate) fn inequivalent(name: &str, entity: &str, received: &str, current: &str) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{name}' for {entity}: received {received} but current is {current}"
    ))
}

/// Compares a boolean property.
pub(crate) fn same_flag(name: &str, entity: &str, received: bool, current: bool) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(name, entity, &format!("'{received}'"), &format!("'{current}'")))
}

/// A value as shown in a refusal. The content of an array or table is not shown, because it may be nested too deeply.
pub(crate) fn shown(value: TableValue<'_>) -> String {
    match value.plain() {
        Plain::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Plain::Bool(flag) => flag.to_string(),
        Plain::Integer(number) => number.to_string(),
        Plain::Float(number) => number.to_string(),
        Plain::Decimal(_) => "decimal".to_owned(),
        Plain::Inside(_) => "[...]".to_owned(),
        Plain::Void => "undefined".to_owned(),
    }
}
