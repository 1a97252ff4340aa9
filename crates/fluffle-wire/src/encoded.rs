use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::headers::{self, HeaderValue};
use crate::{Headers, Incoming};

/// A body ready to be published, and the properties that must go with it.
///
/// `Debug` shows the length of the body, never its content.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Bytes,
    /// The AMQP `content_type`.
    pub content_type: Arc<str>,
    /// The AMQP `content_encoding`: `gzip`, or none.
    pub content_encoding: Option<&'static str>,
    /// The AMQP `type`: the full Protobuf name. Empty for a batch of several types.
    pub type_name: Arc<str>,
    /// For a batch of several types, the header [`ITEM_TYPES`](headers::ITEM_TYPES).
    pub item_types: Option<Arc<str>>,
    /// Size of the body before gzip, in bytes.
    pub raw_len: usize,
    /// How many messages the body holds: 1 if it is not a batch.
    pub items: usize,
}

impl Encoded {
    /// This body as a receiver gets it.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            content_type: Some(&self.content_type),
            content_encoding: self.content_encoding,
            type_name: Some(&self.type_name),
            headers: Some(self),
            body: &self.body,
        }
    }
}

impl Headers for Encoded {
    fn header(&self, name: &str) -> Option<HeaderValue<'_>> {
        self.item_types.as_deref().filter(|_| name == headers::ITEM_TYPES).map(HeaderValue::Str)
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
