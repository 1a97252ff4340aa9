use std::fmt;

use bytes::Bytes;

use crate::ContentType;
use crate::headers::HeaderValue;

/// A received body, and the properties that describe it.
///
/// Empty properties count as absent. `Debug` shows the length of the body, never its content.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The AMQP `content_type`.
    pub content_type: Option<&'a str>,
    /// The AMQP `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// The AMQP `type`.
    pub type_name: Option<&'a str>,
    /// The headers, for wrappers that are told by them. `None`: there are none.
    pub headers: Option<&'a dyn Headers>,
    /// The body. A batch shares its memory instead of copying it.
    pub body: &'a Bytes,
}

/// The headers of a received message, by name.
pub trait Headers {
    /// The value of a header that is text or a number; `None` for any other type.
    fn header(&self, name: &str) -> Option<HeaderValue<'_>>;
}

impl<'a> Incoming<'a> {
    /// A body without labels.
    pub fn unlabelled(body: &'a Bytes) -> Self {
        Self { content_type: None, content_encoding: None, type_name: None, headers: None, body }
    }

    /// The text of a header. `None` if it is absent, or not text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers?.header(name)?.as_str()
    }

    /// Whether the content type says that this is a batch.
    pub fn is_batch(&self) -> bool {
        self.content_type.is_some_and(|label| ContentType::parse(label).parameter("encoding").is_some())
    }

    /// The message type that the labels name: `type`, or else the `proto` parameter of the content type.
    ///
    /// If a queue carries several types, use it to find the right [`Wire`](crate::Wire); decoding then checks both
    /// labels.
    pub fn declared_type(&self) -> Option<&'a str> {
        present(self.type_name)
            .or_else(|| present(self.content_type.and_then(|label| ContentType::parse(label).parameter("proto"))))
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("content_type", &self.content_type)
            .field("content_encoding", &self.content_encoding)
            .field("type_name", &self.type_name)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// Treats an empty label as absent, because some AMQP clients send an empty string for an unset property.
pub(crate) fn present(label: Option<&str>) -> Option<&str> {
    label.map(str::trim).filter(|label| !label.is_empty())
}
