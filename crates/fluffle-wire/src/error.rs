use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::text::bounded;

type Source = Box<dyn Error + Send + Sync>;

/// Why a message was not encoded. Nothing has been sent. Clones share the cause.
#[derive(Clone, Debug)]
pub struct EncodeError {
    kind: EncodeErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of [`EncodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The message is larger than [`Limits`](crate::Limits) allow.
    TooLarge,
    /// The batch has no room for another item: send it, then add the item to a new one.
    BatchFull,
    /// The format cannot express this message.
    Unrepresentable,
    /// The content type is longer than the 255 bytes that AMQP allows, because the type's name is too long.
    LabelTooLong,
}

/// Why a body was not decoded.
///
/// Every kind is permanent: the same bytes with the same labels fail again. So the message belongs in the dead-letter
/// queue and must not go back to its own queue.
#[derive(Debug)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    message: String,
    source: Option<Source>,
}

/// The kinds of [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// `content_type` names another format.
    ContentType,
    /// `type`, or the `proto` parameter of `content_type`, names another message.
    TypeName,
    /// `content_encoding` is neither absent nor gzip.
    ContentEncoding,
    /// The body is one message but a batch was expected, or the reverse.
    Batching,
    /// The body is larger than [`Limits::encoded`](crate::Limits::encoded) or, unpacked, than
    /// [`Limits::decompressed`](crate::Limits::decompressed).
    TooLarge,
    /// The body unpacks to more than [`Limits::ratio`](crate::Limits::ratio) times its size: a gzip bomb.
    Ratio,
    /// The body is labelled gzip, but is not gzip, or is damaged, cut short or followed by other bytes.
    Gzip,
    /// The batch has more messages than [`Limits::batch_items`](crate::Limits::batch_items).
    TooManyItems,
    /// A length in a batch is damaged or points past the end. The items before it are good.
    Framing,
    /// The bytes are not such a message, or the message nests too deep.
    Malformed,
    /// The message is in a format of others that the consumer [accepts](crate::Wire::accepts), and something in that
    /// format is missing or wrong.
    Wrapper,
}

impl DecodeErrorKind {
    /// A short name for metrics and log fields, such as `too_large`.
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
            Self::Wrapper => "wrapper",
        }
    }
}

impl EncodeError {
    /// For a codec whose format cannot express this message of type `type_name`.
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

    /// The kind of fault.
    pub fn kind(&self) -> EncodeErrorKind {
        self.kind
    }
}

impl DecodeError {
    /// For a codec that gets bytes that are not a message of type `type_name`.
    pub fn malformed(type_name: &str, source: impl Into<Source>) -> Self {
        Self {
            kind: DecodeErrorKind::Malformed,
            message: format!("the body is not a {type_name}"),
            source: Some(source.into()),
        }
    }

    /// For a [`Wrapper`](crate::Wrapper) that is not what its labels say. `format` is its name. `why` says what is
    /// wrong; it is cut at 500 bytes, because it may quote the message.
    pub fn wrapper(format: &str, why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self::new(DecodeErrorKind::Wrapper, format!("the message is labelled as {format}: {}", bounded(&why, 500)))
    }

    /// For a codec of several types that gets a message without a type. `expected` are the names of the types.
    pub fn untyped<'a>(expected: impl IntoIterator<Item = &'a str>) -> Self {
        let expected: Vec<_> = expected.into_iter().map(|name| format!("{name:?}")).collect();
        Self::new(
            DecodeErrorKind::TypeName,
            format!("the message has no type; expected {} in its `type` property", expected.join(" or ")),
        )
    }

    pub(crate) fn new(kind: DecodeErrorKind, message: String) -> Self {
        Self { kind, message, source: None }
    }

    pub(crate) fn at_item(mut self, index: usize) -> Self {
        self.message = format!("item {index} of the batch: {}", self.message);
        self
    }

    /// Says that the fault is in a message that came in a wrapper of this name.
    pub(crate) fn within(mut self, wrapper: &str) -> Self {
        self.message = format!("the message within {wrapper}: {}", self.message);
        self
    }

    /// Adds what the consumer can do.
    pub(crate) fn hinted(mut self, hint: &str) -> Self {
        self.message = format!("{} ({hint})", self.message);
        self
    }

    /// The kind of fault.
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
