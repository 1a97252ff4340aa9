use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Incoming;

/// A body ready to be published, with the properties that must go with it.
///
/// `Debug` shows how long the body is, never what is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Bytes,
    /// The AMQP `content_type`.
    pub content_type: Arc<str>,
    /// The AMQP `content_encoding`: `gzip`, or none at all.
    pub content_encoding: Option<&'static str>,
    /// The AMQP `type`: the full Protobuf name.
    pub type_name: Arc<str>,
    /// Size of the body before gzip, in bytes.
    pub raw_len: usize,
    /// How many messages the body holds: 1, unless it is a batch.
    pub items: usize,
}

impl Encoded {
    /// This body as a receiver sees it.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            content_type: Some(&self.content_type),
            content_encoding: self.content_encoding,
            type_name: Some(&self.type_name),
            body: &self.body,
        }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("content_type", &self.content_type)
            .field("content_encoding", &self.content_encoding)
            .field("items", &self.items)
            .field("raw_len", &self.raw_len)
            .field("bytes", &self.body.len())
            .finish()
    }
}
