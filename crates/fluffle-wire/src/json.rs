use bytes::Bytes;
use prost::Name;
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::Deserializer;

use crate::text::bounded;
use crate::{Codec, DecodeError, EncodeError};

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
/// An error may quote a few words of the body. [`Protobuf`]'s errors never quote it.
///
/// Works for messages that carry their descriptor: compile them with `fluffle_build::compile_with_json`, or derive
/// `prost_reflect::ReflectMessage`.
///
/// [`Protobuf`]: crate::Protobuf
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl<M: ReflectMessage + Name + Default> Codec<M> for Json {
    fn media_type(&self) -> &str {
        "application/json"
    }

    fn type_name(&self) -> String {
        M::full_name()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut dynamic = DynamicMessage::new(message.descriptor());
        // Not `transcode_to_dynamic`, which panics on a message nested past the decode depth.
        dynamic.transcode_from(message).map_err(|e| EncodeError::unrepresentable(&M::full_name(), e))?;
        serde_json::to_writer(into, &dynamic).map_err(|e| EncodeError::unrepresentable(&M::full_name(), e))
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        let mut json = Deserializer::from_slice(body);
        let dynamic = DynamicMessage::deserialize(M::default().descriptor(), &mut json)
            .and_then(|message| json.end().map(|()| message))
            // Cut, because the error may quote the whole body.
            .map_err(|e| DecodeError::malformed(&M::full_name(), bounded(&e.to_string(), 500)))?;
        dynamic.transcode_to().map_err(|e| DecodeError::malformed(&M::full_name(), e))
    }
}
