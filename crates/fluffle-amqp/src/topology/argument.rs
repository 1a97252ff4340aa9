//! The values of `x-` arguments and of header bindings, without lapin's types.

use std::collections::BTreeMap;
use std::fmt;

use crate::topology::name;

/// Arguments by name. They are sorted, so that equal sets compare, print and travel alike.
pub(crate) type Arguments = BTreeMap<String, ArgumentValue>;

/// The most bytes of the arguments of one declaration. They must fit into one AMQP frame (128 KiB unless negotiated
/// lower) together with the rest of the method: a method frame cannot be split, and the broker closes the connection
/// over a larger one.
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;

/// A value of an `x-` argument, or of a header that a headers exchange matches.
///
/// Integers travel as signed 64-bit integers, floats as doubles and text as long strings. RabbitMQ compares arguments
/// by value: `60000`, declared by another client as a 32-bit integer, is the same argument.
///
/// ```
/// use fluffle_amqp::{ArgumentValue, Queue};
///
/// let queue = Queue::quorum("orders").argument("x-quorum-initial-group-size", 3);
/// assert_eq!(ArgumentValue::from("lazy"), ArgumentValue::Text("lazy".into()));
/// # let _ = queue;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ArgumentValue {
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// Text; at most 64 KiB together with the other arguments of the entity.
    Text(String),
    /// A list of values.
    List(Vec<ArgumentValue>),
    /// A table of values by name; each name has at most 255 bytes.
    Table(BTreeMap<String, ArgumentValue>),
}

impl ArgumentValue {
    /// The approximate bytes on the wire, precise enough for the limit: 5 bytes for a type and a length, then the
    /// value.
    fn size(&self) -> usize {
        5 + match self {
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len(),
            Self::List(values) => values.iter().map(Self::size).sum(),
            Self::Table(table) => size(table),
        }
    }

    /// Checks the names in nested tables.
    fn check_names(&self) -> Result<(), String> {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) => Ok(()),
            Self::List(values) => values.iter().try_for_each(Self::check_names),
            Self::Table(table) => check_names(table),
        }
    }
}

/// Refuses arguments that AMQP cannot carry: empty or too long names, and too many bytes in all.
pub(super) fn check(arguments: &Arguments) -> Result<(), String> {
    check_names(arguments)?;
    match size(arguments) {
        bytes if bytes > MAX_ARGUMENT_BYTES => Err(format!(
            "its arguments take {bytes} bytes, the limit is {MAX_ARGUMENT_BYTES}: \
             move the bulk out of the declaration"
        )),
        _ => Ok(()),
    }
}

fn check_names(arguments: &Arguments) -> Result<(), String> {
    arguments.iter().try_for_each(|(key, value)| {
        name::check_argument(key)?;
        value.check_names()
    })
}

fn size(arguments: &Arguments) -> usize {
    arguments.iter().map(|(key, value)| 1 + key.len() + value.size()).sum()
}

impl fmt::Display for ArgumentValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(values) => f.debug_list().entries(values).finish(),
            Self::Table(table) => f.debug_map().entries(table).finish(),
        }
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$from> for ArgumentValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

from! {
    bool => Bool, i8 => Int, u8 => Int, i16 => Int, u16 => Int, i32 => Int, u32 => Int, i64 => Int,
    f32 => Float, f64 => Float, &str => Text, String => Text,
    Vec<ArgumentValue> => List, BTreeMap<String, ArgumentValue> => Table,
}
