//! Writes what docs/WIRE.md describes. Needs prost and flate2.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use uuid::Uuid;

/// A body and its labels. The delivery mode (2) and the timestamp (now) are set where it is published.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The body.
    pub body: Vec<u8>,
    /// AMQP `content_type`.
    pub content_type: String,
    /// AMQP `content_encoding`; empty for none.
    pub content_encoding: &'static str,
    /// AMQP `type`.
    pub type_name: String,
    /// AMQP `message_id`.
    pub id: String,
}

/// The body of one message of the type `name`, or of a batch of them.
///
/// # Errors
/// If there is not one message, and it is no batch.
pub fn write<T: Message>(name: &str, messages: &[T], is_batch: bool, is_gzip: bool) -> Result<Written, String> {
    let mut body = match messages {
        _ if is_batch => messages.iter().flat_map(Message::encode_length_delimited_to_vec).collect(),
        [message] => message.encode_to_vec(),
        _ => return Err("a body that is no batch has one message".into()),
    };
    if is_gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(&body).and_then(|()| encoder.finish());
        body = packed.map_err(|error| error.to_string())?;
    }
    let batch = if is_batch { "; encoding=delimited" } else { "" };
    Ok(Written {
        body,
        content_type: format!("application/vnd.google.protobuf; proto={name}{batch}"),
        content_encoding: if is_gzip { "gzip" } else { "" },
        type_name: name.to_owned(),
        id: Uuid::now_v7().to_string(),
    })
}
