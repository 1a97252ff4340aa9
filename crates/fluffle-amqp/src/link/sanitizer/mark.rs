//! The headers in which the sanitizer reports its changes to a message.

use std::sync::OnceLock;

use fluffle_wire::headers;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::link::sanitizer::fault::Faults;

/// The unreadable parts of a message, in words. A message that arrives with this header from the sanitizer of this
/// process is never handled.
pub(crate) const UNREADABLE: &str = headers::UNREADABLE;

/// The unreadable parts of a message as bytes: a table of byte arrays, by the name of the property.
pub(crate) const UNREADABLE_BYTES: &str = headers::UNREADABLE_BYTES;

/// The names of headers that were shortened or left out because the headers did not fit into a frame.
pub(crate) const SHORTENED: &str = headers::SHORTENED;

/// Holds a random number that only this process knows. A header with this number was written by the sanitizer of this
/// process, and not by the sender of the message.
pub(super) const MARK: &str = "x-fluffle-unreadable-mark";

fn secret() -> i64 {
    static SECRET: OnceLock<i64> = OnceLock::new();
    // The second half of a UUIDv7 is 62 random bits.
    *SECRET.get_or_init(|| uuid::Uuid::now_v7().as_u64_pair().1.cast_signed())
}

/// Appends the headers for `faults` to the content of a table. Without faults it appends nothing.
pub(super) fn write(content: &mut Vec<u8>, faults: &Faults) {
    if faults.is_empty() {
        return;
    }
    let mut bytes = Vec::new();
    for (part, kept) in faults.parts() {
        name(&mut bytes, part);
        long(&mut bytes, b'x', kept);
    }
    name(content, UNREADABLE);
    long(content, b'S', faults.to_string().as_bytes());
    name(content, UNREADABLE_BYTES);
    long(content, b'F', &bytes);
    name(content, MARK);
    content.push(b'l');
    content.extend_from_slice(&secret().to_be_bytes());
}

fn name(to: &mut Vec<u8>, name: &str) {
    // Fluffle's names are short, and the name of a part has at most 80 bytes: the cut never happens.
    let name = &name.as_bytes()[..name.len().min(255)];
    to.push(name.len() as u8);
    to.extend_from_slice(name);
}

fn long(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    to.push(kind);
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// The properties without the mark, and the text about the unreadable parts; `None` if there is no mark, or this
/// process did not write it.
pub(crate) fn taken(properties: &BasicProperties) -> Option<(BasicProperties, String)> {
    let headers = properties.headers().as_ref()?;
    if headers.inner().get(MARK) != Some(&AMQPValue::LongLongInt(secret())) {
        return None;
    }
    let what = match headers.inner().get(UNREADABLE) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    let mut without = FieldTable::default();
    for (name, value) in headers.inner().iter().filter(|(name, _)| name.as_str() != MARK) {
        without.insert(name.clone(), value.clone());
    }
    Some((properties.clone().with_headers(without), what))
}

/// Marks headers as those of a message with unreadable parts.
#[cfg(test)]
pub(crate) fn mark(headers: &mut FieldTable) {
    headers.insert(UNREADABLE.into(), AMQPValue::LongString("headers.k: nested deeper than 32 levels".into()));
    headers.insert(MARK.into(), AMQPValue::LongLongInt(secret()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_somebody_else_wrote_is_none() {
        let mut table = FieldTable::default();
        table.insert(UNREADABLE.into(), AMQPValue::LongString("everything".into()));
        for forged in [AMQPValue::LongLongInt(secret().wrapping_add(1)), AMQPValue::Void] {
            table.insert(MARK.into(), forged);
            assert!(taken(&BasicProperties::default().with_headers(table.clone())).is_none());
        }
        table.insert(MARK.into(), AMQPValue::LongLongInt(secret()));
        let (properties, what) = taken(&BasicProperties::default().with_headers(table)).unwrap();
        assert_eq!(what, "everything");
        assert!(!properties.headers().as_ref().unwrap().contains_key(MARK));
    }
}
