use bytes::Bytes;

use crate::headers::TraceContext;
use crate::{DecodeError, Incoming};

/// A format of others that wraps a message: the body, or the headers, say which type it is and where its bytes are.
///
/// A consumer reads such messages only if it is told to: `Consume::accepts`, or
/// [`Wire::accepts`](crate::Wire::accepts). What is taken out is then read by the codec that its content type names.
///
/// With the feature `json`, this crate has those of the module `wrappers`. To add another one, implement this trait:
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{DecodeError, Wrapper, Incoming, Opened, Wire};
/// use protos::usgs::Alert;
///
/// /// `text/x-parcel`: the name of the type on the first line, Protobuf behind it.
/// struct Parcel;
///
/// impl Wrapper for Parcel {
///     fn name(&self) -> &str { "Parcel" }
///     fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
///         if incoming.content_type != Some("text/x-parcel") {
///             return Ok(None);
///         }
///         let Some(end) = incoming.body.iter().position(|byte| *byte == b'\n') else {
///             return Err(DecodeError::wrapper("Parcel", "it has no line with the name of its type"));
///         };
///         let type_name = String::from_utf8_lossy(&incoming.body[..end]).into_owned();
///         let body = incoming.body.slice(end + 1..);
///         Ok(Some(Opened::new(body).named(type_name)))
///     }
/// }
///
/// let body = Bytes::from_static(b"usgs.v1.Alert\n\x0a\x01q");
/// let incoming = Incoming { content_type: Some("text/x-parcel"), ..Incoming::unlabelled(&body) };
/// let wire = Wire::<Alert>::protobuf();
/// assert!(wire.decode(&incoming).is_err());
/// assert_eq!(wire.accepts(Parcel).decode(&incoming)?.quake_id, "q");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Wrapper: Send + Sync {
    /// The name of the format, for errors.
    fn name(&self) -> &str;

    /// Takes the message out. `None` if the message is not in this format, by its labels alone: then the next wrapper
    /// is asked, and at last the body is read as it is. The body is not compressed.
    ///
    /// # Errors
    ///
    /// [`DecodeError::wrapper`] if the labels say that the message is in this format, and it is not. An implementation
    /// must not panic, whatever the bytes, and must take no more memory than a small multiple of the body.
    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError>;
}

/// What was in a [`Wrapper`].
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The bytes of the message. They may share the memory of the received body.
    pub body: Bytes,
    /// The content type of these bytes. `None`: the consumer's own format.
    pub content_type: Option<String>,
    /// The names of the message's type, the most specific one first: the first that the consumer knows counts, be it as
    /// a type or as an alias. Most formats give one name. Empty: the consumer's own type.
    pub type_names: Vec<String>,
    /// The span that sent the message, if the wrapper tells it and no header does.
    pub trace: Option<TraceContext>,
}

impl Opened {
    /// These bytes, without labels.
    pub fn new(body: Bytes) -> Self {
        Self { body, ..Self::default() }
    }

    /// The same message with one more name of its type, less specific than those before.
    #[must_use]
    pub fn named(mut self, type_name: impl Into<String>) -> Self {
        self.type_names.push(type_name.into());
        self
    }
}
