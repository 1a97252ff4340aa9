use std::error::Error;
use std::fmt;
use std::sync::Arc;

type Source = Box<dyn Error + Send + Sync>;

/// Why a message was not encoded. Nothing has been sent. Clones share the cause.
#[derive(Clone, Debug)]
pub struct EncodeError {
    kind: EncodeErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of fault an [`EncodeError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The message is larger than [`Limits`](crate::Limits) allow.
    TooLarge,
    /// The batch has no room for another item: send it, then add the item to a new one.
    BatchFull,
    /// The format cannot express this message.
    Unrepresentable,
    /// The content type or type name is longer than the 255 bytes AMQP has room for.
    LabelTooLong,
}

/// Why a body did not become a message.
///
/// Every kind is permanent: the same bytes under the same labels fail again, so the message belongs in the dead-letter
/// queue and never back in its own.
#[derive(Debug)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    message: String,
    source: Option<Source>,
}

/// What kind of fault a [`DecodeError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// `content_type` names another format.
    ContentType,
    /// `type`, or the `proto` parameter of `content_type`, names another message.
    TypeName,
    /// `content_encoding` is neither absent nor gzip.
    ContentEncoding,
    /// One message where a batch was asked for, or a batch where one message was.
    Batching,
    /// The body is larger than [`Limits::encoded`](crate::Limits::encoded) or, unpacked, than
    /// [`Limits::decompressed`](crate::Limits::decompressed).
    TooLarge,
    /// The body unpacks to more than [`Limits::ratio`](crate::Limits::ratio) times its size: a gzip bomb.
    Ratio,
    /// Labelled gzip, but not gzip, damaged, cut short or followed by something else.
    Gzip,
    /// More messages in a batch than [`Limits::batch_items`](crate::Limits::batch_items).
    TooManyItems,
    /// A length in a batch is damaged or points past the end: what stands before it is good.
    Framing,
    /// The bytes are no such message, or it nests too deep.
    Malformed,
}

impl DecodeErrorKind {
    /// A short name for metrics and log fields: `too_large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::TypeName => "type_name",
            Self::ContentEncoding => "content_encoding",
            Self::Batching => "batching",
            Self::TooLarge => "too_large",
            Self::Ratio => "ratio",
            Self::Gzip => "gzip",
            Self::TooManyItems => "too_many_items",
            Self::Framing => "framing",
            Self::Malformed => "malformed",
        }
    }
}

impl EncodeError {
    /// The error of a codec whose format cannot express the message of this type.
    pub fn unrepresentable(type_name: &str, source: impl Into<Source>) -> Self {
        Self {
            kind: EncodeErrorKind::Unrepresentable,
            message: format!("this {type_name} cannot be encoded"),
            source: Some(Arc::from(source.into())),
        }
    }

    pub(crate) fn new(kind: EncodeErrorKind, message: String) -> Self {
        Self { kind, message, source: None }
    }

    pub(crate) fn at_item(mut self, index: usize) -> Self {
        self.message = format!("item {index} of the batch: {}", self.message);
        self
    }

    /// What kind of fault this is.
    pub fn kind(&self) -> EncodeErrorKind {
        self.kind
    }
}

impl DecodeError {
    /// The error of a codec for bytes that are no message of this type.
    pub fn malformed(type_name: &str, source: impl Into<Source>) -> Self {
        Self {
            kind: DecodeErrorKind::Malformed,
            message: format!("the body is no {type_name}"),
            source: Some(source.into()),
        }
    }

    pub(crate) fn new(kind: DecodeErrorKind, message: String) -> Self {
        Self { kind, message, source: None }
    }

    pub(crate) fn at_item(mut self, index: usize) -> Self {
        self.message = format!("item {index} of the batch: {}", self.message);
        self
    }

    /// What kind of fault this is.
    pub fn kind(&self) -> DecodeErrorKind {
        self.kind
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
