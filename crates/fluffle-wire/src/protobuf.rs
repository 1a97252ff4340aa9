use bytes::Bytes;
use prost::{Message, Name};

use crate::{Codec, DecodeError, EncodeError, parts::Parts};

/// The Protobuf binary format, by prost: `application/vnd.google.protobuf`.
///
/// Also accepts the other names in use for the format, `application/protobuf`, `application/x-protobuf` and
/// `application/x-google-protobuf`, and `application/octet-stream`, which only says that the body is bytes.
///
/// Messages nested deeper than 100 levels are refused on decoding (prost's limit). Encoding does not check the depth,
/// so limit the depth of a recursive type where it is built. Fields that the reader's `.proto` does not know are
/// skipped and **dropped**: encoding the decoded message again does not bring them back. A body that is passed on as
/// bytes (a retry copy, a dead letter) keeps them. A number that an enumeration does not know is kept.
///
/// A `bytes` field that is generated as [`Bytes`] shares the memory of the received body, which may be a whole batch.
/// If you keep the field for longer than its message, keep a copy (`Bytes::copy_from_slice`).
///
/// The memory that a decoded message takes depends on its schema: two bytes on the wire can become one element of a
/// `repeated` field, at the element's size in Rust (24 bytes for a string, some hundreds for a message with many
/// fields). If bodies come from untrusted senders and this matters, lower [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protobuf;

const MEDIA_TYPES: [&str; 5] = [
    "application/vnd.google.protobuf",
    "application/protobuf",
    "application/x-protobuf",
    "application/x-google-protobuf",
    "application/octet-stream",
];

impl<M: Message + Name + Default> Codec<M> for Protobuf {
    fn media_type(&self) -> &str {
        MEDIA_TYPES[0]
    }

    fn type_name(&self) -> String {
        M::full_name()
    }

    fn accepts(&self, media_type: &str) -> bool {
        MEDIA_TYPES.iter().any(|name| name.eq_ignore_ascii_case(media_type))
    }

    fn encoded_len(&self, message: &M) -> Option<usize> {
        Some(message.encoded_len())
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        message.encode(into).map_err(|e| EncodeError::unrepresentable(&M::full_name(), e))
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        M::decode(Parts::of(body)).map_err(|e| DecodeError::malformed(&M::full_name(), e))
    }
}
