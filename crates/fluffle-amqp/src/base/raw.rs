//! A message as its bytes.

use std::fmt;

use bytes::Bytes;
use fluffle_wire::{Codec, DecodeError, EncodeError, Label, Wire};

use crate::base::payload::Payload;

/// A message of any type, as its bytes. A consumer of `Raw` reads every message of its queue, and `Raw` as one of
/// several types stands for all types that are not named. A body that was compressed with gzip is unpacked.
///
/// `Raw` is for reading. To publish bytes, write a [`Codec`] that names their content type.
///
/// ```
/// use actix::prelude::*;
/// use fluffle_amqp::{Consume, Delivery, Failure, Raw};
///
/// struct Archive;
/// impl Actor for Archive { type Context = Context<Self>; }
/// impl Handler<Delivery<Raw>> for Archive {
///     type Result = Result<(), Failure>;
///     fn handle(&mut self, event: Delivery<Raw>, _: &mut Self::Context) -> Self::Result {
///         println!("{} bytes of {}", event.body.len(), event.type_name.as_deref().unwrap_or("no type"));
///         Ok(())
///     }
/// }
///
/// let everything = Consume::<Raw>::queue("audit");
/// ```
///
/// `Debug` shows the length of the body, never its content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw {
    /// The `content_type`, if there is one.
    pub content_type: Option<String>,
    /// The name of the type, from `type` or the content type, if there is one.
    pub type_name: Option<String>,
    /// The bytes.
    pub body: Bytes,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("content_type", &self.content_type)
            .field("type_name", &self.type_name)
            .field("bytes", &self.body.len())
            .finish()
    }
}

impl Payload for Raw {
    fn wire() -> Wire<Self> {
        Wire::new(AnyFormat)
    }
}

/// Reads every format and every type.
struct AnyFormat;

impl Codec<Raw> for AnyFormat {
    fn media_type(&self) -> &str {
        "application/octet-stream"
    }

    fn type_name(&self) -> String {
        "*".into()
    }

    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn reads_type(&self, _: &str) -> bool {
        true
    }

    fn encode(&self, _: &Raw, _: &mut Vec<u8>) -> Result<(), EncodeError> {
        Err(EncodeError::unrepresentable(
            "Raw",
            "it is for reading: publish bytes with a codec that names their format",
        ))
    }

    fn decode(&self, body: &Bytes) -> Result<Raw, DecodeError> {
        Ok(Raw { body: body.clone(), ..Raw::default() })
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<Raw, DecodeError> {
        Ok(Raw {
            content_type: label.content_type.map(|label| label.without("encoding")),
            type_name: label.type_name.map(str::to_owned),
            body: body.clone(),
        })
    }
}
