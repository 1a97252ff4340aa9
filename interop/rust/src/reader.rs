//! Reads what docs/WIRE.md describes. Needs prost and flate2.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use prost::{Message, encoding::decode_varint};

const PROTOBUF: [&str; 6] = [
    "",
    "application/octet-stream",
    "application/protobuf",
    "application/x-protobuf",
    "application/x-google-protobuf",
    "application/vnd.google.protobuf",
];
const UNCOMPRESSED: [&str; 10] =
    ["", "identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"];
const SENT: usize = 16 << 20;
const UNPACKED: usize = 64 << 20;
const RATIO: usize = 100;
const FREE: usize = 1 << 20;
const ITEMS: usize = 10_000;

/// The labels and the id of a message. An absent one is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    /// AMQP `content_type`.
    pub content_type: &'a str,
    /// AMQP `content_encoding`.
    pub content_encoding: &'a str,
    /// AMQP `type`.
    pub type_name: &'a str,
    /// AMQP `message_id`.
    pub id: &'a str,
}

/// The id of a message; and the message or, for an item of a batch that cannot be read, the reason.
pub type Item<T> = (String, Result<T, String>);

/// Reads messages of the type `name`.
///
/// # Errors
/// If the whole body is a dead letter. The text begins with the kind of the error.
pub fn read<T: Message + Default>(name: &str, body: &[u8], labels: &Labels<'_>) -> Result<Vec<Item<T>>, String> {
    let mut parts = labels.content_type.split(';').map(|part| part.replace([' ', '\t', '"'], ""));
    let media = parts.next().unwrap_or_default().to_lowercase();
    let parameters: Vec<_> = parts.collect();
    let parameter = |name: &str| {
        let mut pairs = parameters.iter().filter_map(|part| part.split_once('='));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    if !PROTOBUF.contains(&media.as_str()) {
        return Err(format!("content_type: {media} is not Protobuf"));
    }
    if [labels.type_name, parameter("proto").unwrap_or_default()].iter().any(|it| !it.is_empty() && *it != name) {
        return Err(format!("type_name: {labels:?} is not {name}"));
    }
    let batching = parameter("encoding");
    if batching.is_some_and(|it| !it.eq_ignore_ascii_case("delimited")) {
        return Err(format!("batching: {} names no known form of a batch", labels.content_type));
    }
    if body.len() > SENT {
        return Err(format!("too_large: {} bytes", body.len()));
    }
    let body = match labels.content_encoding.to_lowercase().as_str() {
        "gzip" | "x-gzip" => &unpack(body)?,
        other if UNCOMPRESSED.contains(&other) => body,
        other => return Err(format!("content_encoding: {other} is not gzip")),
    };
    match batching {
        Some(_) => split(body, labels.id),
        None => Ok(vec![(labels.id.to_owned(), Ok(parse(body)?))]),
    }
}

fn parse<T: Message + Default>(body: &[u8]) -> Result<T, String> {
    T::decode(body).map_err(|error| format!("malformed: {error}"))
}

/// All members, and never more than the limits.
fn unpack(body: &[u8]) -> Result<Vec<u8>, String> {
    let most = (body.len() * RATIO).clamp(FREE, UNPACKED);
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(body).take(most as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(|error| format!("gzip: {error}"))?;
    if unpacked.len() <= most {
        return Ok(unpacked);
    }
    Err(format!("{}: it unpacks to more than {most} bytes", if most < UNPACKED { "ratio" } else { "too_large" }))
}

/// What follows a damaged length is one item that cannot be read, the last one.
fn split<T: Message + Default>(mut body: &[u8], id: &str) -> Result<Vec<Item<T>>, String> {
    let mut items = Vec::new();
    while !body.is_empty() {
        if items.len() == ITEMS {
            return Err(format!("too_many_items: more than {ITEMS}"));
        }
        let length = decode_varint(&mut body).ok().and_then(|length| usize::try_from(length).ok());
        let part = length.and_then(|length| body.split_off(..length));
        let item = part.map_or_else(|| Err("framing: a length is damaged or too large".to_owned()), parse);
        let is_damaged = part.is_none();
        let id = if id.is_empty() { String::new() } else { format!("{id}/{}", items.len()) };
        items.push((id, item));
        if is_damaged {
            break;
        }
    }
    Ok(items)
}
