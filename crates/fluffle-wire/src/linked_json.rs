use std::sync::OnceLock;

use bytes::Bytes;
use prost::{Message, Name};
use prost_reflect::MessageDescriptor;

use crate::{Codec, DecodeError, EncodeError, Label, descriptors, json};

/// The proto3 JSON format of a Protobuf message, by the descriptor that is linked into this program. Reads nothing if
/// there is none.
#[derive(Default)]
pub(crate) struct LinkedJson {
    /// Looked up when it is first asked for.
    descriptor: OnceLock<Option<MessageDescriptor>>,
}

impl LinkedJson {
    fn descriptor<M: Name>(&self) -> Option<&MessageDescriptor> {
        self.descriptor.get_or_init(|| descriptors::message(&M::full_name())).as_ref()
    }
}

const NOT_LINKED: &str = "no descriptor of it is linked into this program";

impl<M: Message + Name + Default> Codec<M> for LinkedJson {
    fn media_type(&self) -> &str {
        json::MEDIA_TYPE
    }

    fn type_name(&self) -> String {
        M::full_name()
    }

    fn accepts(&self, media_type: &str) -> bool {
        media_type.eq_ignore_ascii_case(json::MEDIA_TYPE) && self.descriptor::<M>().is_some()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let descriptor =
            self.descriptor::<M>().ok_or_else(|| EncodeError::unrepresentable(&M::full_name(), NOT_LINKED))?;
        json::encode(message, descriptor.clone(), &M::full_name(), into)
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        let descriptor = self.descriptor::<M>().ok_or_else(|| DecodeError::malformed(&M::full_name(), NOT_LINKED))?;
        json::decode(body, descriptor.clone(), &M::full_name())
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<M, DecodeError> {
        label.expect_utf8()?;
        self.decode(body)
    }
}
