use bytes::Bytes;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::Deserializer;

use crate::text::redacted;
use crate::{Codec, DecodeError, EncodeError, Label, json_text};

/// The proto3 JSON format: `application/json`.
///
/// For queues that are read by people, browsers or languages without Protobuf. Slower and larger than [`Protobuf`];
/// both formats express the same messages.
///
/// Written as the specification says: `lowerCamelCase` names, 64-bit numbers as strings, bytes as base64, timestamps as
/// RFC 3339, `NaN` and the infinities as strings, enumerations by name, fields at their default left out. The reader
/// accepts more, as the specification asks: also original field names, numbers for enumerations, and `null` for a
/// default. A field that the schema does not know is an error; Protobuf drops such a field.
///
/// Reading builds a dynamic form of the message, which takes up to fifty times the size of the body while it is read.
/// If bodies come from untrusted senders, lower [`Limits`](crate::Limits).
///
/// Text is UTF-8; a byte order mark before it is skipped. A content type with another `charset` is refused.
///
/// An error may quote a few letters of the body. [`Protobuf`]'s errors never quote it.
///
/// Works for messages that carry their descriptor: compile them with `fluffle_build::compile_with_json`, or derive
/// `prost_reflect::ReflectMessage`.
///
/// [`Protobuf`]: crate::Protobuf
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

pub(crate) const MEDIA_TYPE: &str = "application/json";

impl<M: ReflectMessage + Name + Default> Codec<M> for Json {
    fn media_type(&self) -> &str {
        MEDIA_TYPE
    }

    fn type_name(&self) -> String {
        M::full_name()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode(message, message.descriptor(), &M::full_name(), into)
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        decode(body, M::default().descriptor(), &M::full_name())
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<M, DecodeError> {
        label.expect_utf8()?;
        self.decode(body)
    }
}

pub(crate) fn encode<M: Message>(
    message: &M,
    descriptor: MessageDescriptor,
    name: &str,
    into: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut dynamic = DynamicMessage::new(descriptor);
    // Not `transcode_to_dynamic`, which panics on a message nested past the decode depth.
    dynamic.transcode_from(message).map_err(|e| EncodeError::unrepresentable(name, e))?;
    serde_json::to_writer(into, &dynamic).map_err(|e| EncodeError::unrepresentable(name, e))
}

pub(crate) fn decode<M: Message + Default>(
    body: &Bytes,
    descriptor: MessageDescriptor,
    name: &str,
) -> Result<M, DecodeError> {
    let text = json_text::utf8(body).map_err(|why| DecodeError::malformed(name, why))?;
    let mut json = Deserializer::from_slice(text);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut json)
        .and_then(|message| json.end().map(|()| message))
        // Cut, because the error may quote the whole body.
        .map_err(|e| DecodeError::malformed(name, redacted(&e.to_string(), 300)))?;
    dynamic.transcode_to().map_err(|e| DecodeError::malformed(name, e))
}
