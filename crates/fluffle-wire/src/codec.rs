use std::sync::Arc;

use bytes::Bytes;

use crate::{DecodeError, EncodeError, Label};

/// A format: how a message becomes bytes and bytes become a message.
///
/// This crate has [`Protobuf`](crate::Protobuf) and `Json`. To add another format, implement this trait for a type of
/// your own and pass it to [`Wire::new`](crate::Wire::new), which adds labels, gzip, batches and limits. The examples
/// `message_pack` and `avro` of this crate are codecs of other crates' formats.
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{Codec, DecodeError, EncodeError, Wire};
///
/// /// Plain text, for a queue that a shell script reads.
/// struct Text;
///
/// impl Codec<String> for Text {
///     fn media_type(&self) -> &str { "text/plain" }
///     fn type_name(&self) -> String { "example.Text".into() }
///     fn encode(&self, message: &String, into: &mut Vec<u8>) -> Result<(), EncodeError> {
///         into.extend_from_slice(message.as_bytes());
///         Ok(())
///     }
///     fn decode(&self, body: &Bytes) -> Result<String, DecodeError> {
///         String::from_utf8(body.to_vec()).map_err(|e| DecodeError::malformed("example.Text", e))
///     }
/// }
///
/// let wire = Wire::new(Text);
/// let sent = wire.encode(&"hello".to_owned())?;
/// assert_eq!(&*sent.content_type, "text/plain; proto=example.Text");
/// assert_eq!(wire.decode(&sent.incoming())?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec<M>: Send + Sync {
    /// The media type that this codec writes, without parameters: `application/vnd.google.protobuf`.
    fn media_type(&self) -> &str;

    /// The full name of `M`, as written to the `type` property and to the `proto` parameter of the content type.
    fn type_name(&self) -> String;

    /// Whether this codec reads bodies with this media type (without parameters). By default only its own, compared
    /// without regard to case.
    fn accepts(&self, media_type: &str) -> bool {
        media_type.eq_ignore_ascii_case(self.media_type())
    }

    /// Whether this codec reads messages that are labelled with this type. By default only its own
    /// [`type_name`](Codec::type_name).
    fn reads_type(&self, type_name: &str) -> bool {
        type_name == self.type_name()
    }

    /// The full name of the type of this message, for a codec of several types. `None` (the default): that of
    /// [`type_name`](Codec::type_name).
    fn type_of(&self, message: &M) -> Option<Arc<str>> {
        let _ = message;
        None
    }

    /// The media type in which this message is written, for a codec of several types: asked if
    /// [`type_of`](Codec::type_of) names a type. By default [`media_type`](Codec::media_type).
    fn media_type_of(&self, message: &M) -> &str {
        let _ = message;
        self.media_type()
    }

    /// The exact number of bytes [`encode`](Codec::encode) will write, if that is cheap to know.
    ///
    /// If the length is known, a message past the limits is refused before memory is taken. By default unknown.
    fn encoded_len(&self, message: &M) -> Option<usize> {
        let _ = message;
        None
    }

    /// Appends the message to `into`.
    ///
    /// # Errors
    ///
    /// If this format cannot express the message. The caller discards whatever was appended by then.
    fn encode(&self, message: &M, into: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads a message that fills `body` exactly. The size has already been checked against the limits. A part of the
    /// message that is taken from `body` as [`Bytes`] shares memory with it, and with the other messages of a batch.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a message. An implementation must not panic, whatever the bytes.
    fn decode(&self, body: &Bytes) -> Result<M, DecodeError>;

    /// Like [`decode`](Codec::decode), and is told what the body is labelled as: for a codec that reads several types,
    /// or whose media type has parameters. The labels have been checked with [`accepts`](Codec::accepts) and
    /// [`reads_type`](Codec::reads_type). By default calls `decode`.
    ///
    /// # Errors
    ///
    /// The same as for [`decode`](Codec::decode).
    fn decode_labelled(&self, label: &Label<'_>, body: &Bytes) -> Result<M, DecodeError> {
        let _ = label;
        self.decode(body)
    }
}
