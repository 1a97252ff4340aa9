//! The labels of a message, which become its AMQP properties.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use fluffle_wire::{
    Encoded,
    headers::{TRACEPARENT, TRACESTATE, TraceContext},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::base::frame;

/// The AMQP properties of a message that waits to be published. Most messages have Fluffle's labels and nothing else.
/// Labels become properties only when the message is published, on the thread that publishes it.
#[derive(Clone, Debug)]
pub(crate) enum Properties {
    Labels(Labels),
    Any(Box<BasicProperties>),
}

/// The labels that every message of a publisher has, beside its id.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    content_type: Arc<str>,
    /// Empty for a batch of several types.
    type_name: Arc<str>,
    content_encoding: Option<&'static str>,
    /// Seconds since 1970.
    timestamp: u64,
    persistent: bool,
}

impl Labels {
    /// The labels of a message that is accepted now.
    pub(crate) fn now(encoded: &Encoded, persistent: bool) -> Self {
        Self {
            content_type: Arc::clone(&encoded.content_type),
            type_name: Arc::clone(&encoded.type_name),
            content_encoding: encoded.content_encoding,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            persistent,
        }
    }

    /// How many bytes the labels take on the wire: two for the flags, eight for the timestamp, one for the delivery
    /// mode, and each text with one byte for its length.
    fn header_bytes(&self, id: &str) -> usize {
        let encoding = self.content_encoding.map_or(0, |encoding| 1 + encoding.len());
        let type_name = if self.type_name.is_empty() { 0 } else { 1 + self.type_name.len() };
        2 + 8 + 1 + (1 + self.content_type.len()) + type_name + (1 + id.len()) + encoding
    }

    /// The labels as AMQP properties.
    pub(crate) fn to_amqp(&self, id: &str) -> BasicProperties {
        let properties = BasicProperties::default()
            .with_content_type((&*self.content_type).into())
            .with_message_id(id.into())
            .with_timestamp(self.timestamp)
            .with_delivery_mode(if self.persistent { 2 } else { 1 });
        let properties = match &*self.type_name {
            "" => properties,
            name => properties.with_type(name.into()),
        };
        match self.content_encoding {
            Some(encoding) => properties.with_content_encoding(encoding.into()),
            None => properties,
        }
    }
}

impl Properties {
    /// The AMQP properties of the message `id`.
    pub(crate) fn to_amqp(&self, id: &str) -> BasicProperties {
        match self {
            Self::Labels(labels) => labels.to_amqp(id),
            Self::Any(properties) => (**properties).clone(),
        }
    }

    /// How many bytes the properties of the message `id` take on the wire.
    pub(crate) fn header_bytes(&self, id: &str) -> usize {
        match self {
            Self::Labels(labels) => labels.header_bytes(id),
            Self::Any(properties) => frame::header_bytes(properties),
        }
    }
}

/// Puts a trace among headers.
pub(crate) fn put_trace(headers: &mut FieldTable, trace: &TraceContext) {
    headers.insert(TRACEPARENT.into(), AMQPValue::LongString(trace.traceparent().into()));
    if let Some(state) = trace.state() {
        headers.insert(TRACESTATE.into(), AMQPValue::LongString(state.into()));
    }
}

impl From<BasicProperties> for Properties {
    fn from(properties: BasicProperties) -> Self {
        Self::Any(Box::new(properties))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_labels_take_is_what_they_take_as_amqp() {
        for (content_encoding, type_name) in [(None, "shop.Order"), (Some("gzip"), "shop.Order"), (None, "")] {
            let encoded = Encoded {
                content_type: "application/x-protobuf".into(),
                type_name: type_name.into(),
                item_types: None,
                content_encoding,
                items: 1,
                raw_len: 0,
                body: bytes::Bytes::new(),
            };
            let labels = Labels::now(&encoded, true);
            let written = frame::header_bytes(&labels.to_amqp("an id"));
            assert_eq!(Properties::Labels(labels).header_bytes("an id"), written);
        }
    }
}
