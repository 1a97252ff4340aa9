use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::text::redacted;
use crate::{Codec, DecodeError, EncodeError, Label, json_text};

/// JSON as serde writes and reads it: `application/json`. For a message type that is no Protobuf message.
///
/// The name of the type is given, because serde knows none: it is written to `type`, and a received `type` must be this
/// name or an [alias](crate::Wire::type_alias). All services use the same name, so choose one that does not depend on a
/// program: `shop.OrderPlaced`.
///
/// ```
/// use fluffle_wire::Wire;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct OrderPlaced { order_id: String, cents: u64 }
///
/// let wire = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced");
/// let sent = wire.encode(&OrderPlaced { order_id: "o-17".into(), cents: 4995 })?;
/// assert_eq!(sent.body, r#"{"orderId":"o-17","cents":4995}"#.as_bytes());
/// assert_eq!(&*sent.content_type, "application/json; proto=shop.OrderPlaced");
/// assert_eq!(wire.decode(&sent.incoming())?.cents, 4995);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A service says it once for the type, as its `Payload` (a trait of `fluffle`), and then publishes and consumes the
/// type like any other.
///
/// A field that the type does not know is skipped, and a field that is missing is an error, unless the type's serde
/// attributes say otherwise (`default`, `deny_unknown_fields`). Text is UTF-8; a byte order mark before it is skipped,
/// and a content type with another `charset` is refused. Values nest at most 128 deep (serde_json's limit). An error
/// may quote a few letters of the body. How much memory a message takes depends on its type; limit the size of bodies
/// with [`Limits`](crate::Limits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerdeJson {
    type_name: Cow<'static, str>,
}

impl SerdeJson {
    /// For messages whose type has this name on the wire.
    pub fn new(type_name: impl Into<Cow<'static, str>>) -> Self {
        Self { type_name: type_name.into() }
    }
}

impl<M: Serialize + DeserializeOwned> Codec<M> for SerdeJson {
    fn media_type(&self) -> &str {
        "application/json"
    }

    fn type_name(&self) -> String {
        self.type_name.clone().into_owned()
    }

    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        serde_json::to_writer(into, message).map_err(|e| EncodeError::unrepresentable(&self.type_name, e))
    }

    fn decode(&self, body: &Bytes) -> Result<M, DecodeError> {
        let text = json_text::utf8(body).map_err(|why| DecodeError::malformed(&self.type_name, why))?;
        // Cut, because the error may quote the whole body.
        let malformed = |e: serde_json::Error| DecodeError::malformed(&self.type_name, redacted(&e.to_string(), 300));
        serde_json::from_slice(text).map_err(malformed)
    }

    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<M, DecodeError> {
        label.expect_utf8()?;
        self.decode(body)
    }
}
