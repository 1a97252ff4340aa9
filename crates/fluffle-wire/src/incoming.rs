use std::fmt;

use bytes::Bytes;

use crate::ContentType;

/// A body as it arrived, with the properties that say what it is.
///
/// Empty properties count as absent. `Debug` shows how long the body is, never what is in it.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The AMQP `content_type`.
    pub content_type: Option<&'a str>,
    /// The AMQP `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// The AMQP `type`.
    pub type_name: Option<&'a str>,
    /// The body. Batches share it instead of copying.
    pub body: &'a Bytes,
}

impl<'a> Incoming<'a> {
    /// A body that says nothing of itself.
    pub fn unlabelled(body: &'a Bytes) -> Self {
        Self { content_type: None, content_encoding: None, type_name: None, body }
    }

    /// Whether the content type says that this is a batch.
    pub fn is_batch(&self) -> bool {
        self.content_type.is_some_and(|label| ContentType::parse(label).parameter("encoding").is_some())
    }

    /// The message type this body says it is: `type`, or else the `proto` parameter of the content type.
    ///
    /// For a queue that carries several types, to find the right [`Wire`](crate::Wire); decoding then checks both labels.
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

/// AMQP clients send an empty string as readily as nothing.
pub(crate) fn present(label: Option<&str>) -> Option<&str> {
    label.map(str::trim).filter(|label| !label.is_empty())
}
