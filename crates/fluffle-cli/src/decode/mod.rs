//! What is in the body of a message: gzip, batches, envelopes, Protobuf, JSON, text.

pub(crate) mod cloud_event;
pub(crate) mod descriptors;
mod fields;
mod reader;

pub(crate) use reader::{Contents, Format, Item, Reader};
