//! Protobuf without a description of its type: fields by number, as `protoc --decode_raw` shows them.

use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value, json};

/// Messages may hold messages this deep. What is deeper is shown as bytes.
const DEEPEST: usize = 20;

/// The fields of a message: field number → value; an array, if the field stands several times. Integers are shown
/// unsigned, fields of four and eight bytes as hex, because only the type would say what they mean. A field with a
/// length is text, if it is printable UTF-8, else a message, if it can be one, else hex. `None`: the bytes are not
/// Protobuf.
pub(crate) fn read(bytes: &[u8]) -> Option<Map<String, Value>> {
    message(bytes, 0)
}

fn message(mut bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    while !bytes.is_empty() {
        let (number, kind) = decode_key(&mut bytes).ok()?;
        let value = match kind {
            WireType::Varint => json!(decode_varint(&mut bytes).ok()?),
            WireType::SixtyFourBit => json!(format!("0x{:016x}", u64::from_le_bytes(fixed(&mut bytes)?))),
            WireType::ThirtyTwoBit => json!(format!("0x{:08x}", u32::from_le_bytes(fixed(&mut bytes)?))),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                delimited(inner, depth)
            }
            // Groups are deprecated, and hardly any data has them. Bytes that look like one are seldom Protobuf.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        match fields.entry(number.to_string()) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            serde_json::map::Entry::Occupied(mut entry) => match entry.get_mut() {
                Value::Array(values) => values.push(value),
                first => *first = Value::Array(vec![first.take(), value]),
            },
        }
    }
    Some(fields)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (fixed, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*fixed)
}

fn delimited(bytes: &[u8], depth: usize) -> Value {
    if let Some(text) = printable(bytes) {
        return json!(text);
    }
    let inner = if depth < DEEPEST { message(bytes, depth + 1) } else { None };
    match inner {
        Some(fields) => Value::Object(fields),
        None => json!(format!("0x{}", hex(bytes))),
    }
}

/// The text, if the bytes are UTF-8 without control characters other than white space.
pub(crate) fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|character| !character.is_control() || matches!(character, '\n' | '\r' | '\t')).then_some(text)
}

/// The bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

    use super::*;

    #[test]
    fn fields_are_shown_by_their_numbers_and_inner_messages_too() {
        let field = |name: &str, number| FieldDescriptorProto {
            name: Some(name.into()),
            number: Some(number),
            ..FieldDescriptorProto::default()
        };
        let inner = DescriptorProto {
            name: Some("Quake".into()),
            field: vec![field("id", 1), field("place", 2)],
            ..DescriptorProto::default()
        };
        let file = FileDescriptorProto { message_type: vec![inner], ..FileDescriptorProto::default() };
        let shown = Value::Object(read(&file.encode_to_vec()).unwrap());
        let quake = json!({"1": "Quake", "2": [{"1": "id", "3": 1}, {"1": "place", "3": 2}]});
        assert_eq!(shown, json!({ "4": quake }));
    }

    #[test]
    fn bytes_that_are_not_protobuf_are_none_whatever_they_are() {
        assert!(read(b"hello, world").is_none());
        assert!(read(&[0x0a, 0xff]).is_none(), "a length past the end");
        fastrand::seed(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..fastrand::usize(..64)).map(|_| fastrand::u8(..)).collect();
            // Must neither panic nor hang.
            let _ = read(&bytes);
        }
    }

    #[test]
    fn nesting_has_a_bottom() {
        let mut bytes = vec![0x08, 0x01];
        for _ in 0..10_000 {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(bytes);
            bytes = outer;
            if bytes.len() > 60_000 {
                break;
            }
        }
        assert!(Value::Object(read(&bytes).unwrap()).to_string().contains("0x"));
    }
}
