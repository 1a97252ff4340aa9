//! A message that is ready to be published, without its Rust type.

use std::{fmt, sync::Arc};

use amq_protocol::frame::{GenError, WriteContext};
use bytes::Bytes;
use fluffle_wire::{Encoded, headers::TraceContext};
use lapin::{
    BasicProperties,
    protocol::basic::{gen_properties, parse_properties},
};
use prost::Message;
use uuid::Uuid;

use crate::{base::header::lookup, publish::properties::Properties};

/// A message that is ready to be published: encoded, labelled and addressed, without its Rust type. A clone shares the
/// body.
///
/// [`Route::prepare`](crate::Route::prepare) makes it, a [`Forwarder`](crate::Forwarder) publishes it. In between it
/// can be stored as [bytes](Self::to_bytes), for instance in an outbox table or in a file. Its id stays the same
/// however often it is published, so that consumers recognise a repetition.
///
/// ```
/// use fluffle_amqp::{MessageOptions, Prepared, Route};
///
/// let route = Route::<String>::exchange("orders").key("order.placed");
/// let prepared = route.prepare(&"seven".to_owned(), &MessageOptions::new())?;
/// let stored = prepared.to_bytes()?;
/// assert_eq!(Prepared::from_bytes(stored)?.id(), prepared.id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The message id, which is in the properties too. Returns are matched by it, and consumers de-duplicate by it.
    pub(crate) id: Arc<str>,
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
    /// If no queue takes the message, the broker returns it, instead of dropping it silently.
    pub(crate) mandatory: bool,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// How many messages the body holds: 1, unless it is a batch.
    pub(crate) items: u32,
}

/// The byte form. `docs/WIRE.md` describes it, for other programs that read it.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    exchange: String,
    #[prost(string, tag = "3")]
    routing_key: String,
    #[prost(bool, tag = "4")]
    mandatory: bool,
    /// Property flags and values, as in an AMQP content header (section 4.2.6.1).
    #[prost(bytes = "vec", tag = "5")]
    properties: Vec<u8>,
    #[prost(bytes = "bytes", tag = "6")]
    body: Bytes,
    /// 0, in bytes that were stored before there were batches, means 1.
    #[prost(uint32, tag = "7")]
    items: u32,
}

/// Why bytes are not a [`Prepared`] message, or why properties have no byte form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a prepared message: {0}")]
pub struct PreparedError(String);

/// The exchange and the routing key that a message is published with.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
}

impl Address {
    /// The destination, as errors and log lines name it.
    pub(crate) fn target(&self) -> String {
        target(&self.exchange, &self.routing_key)
    }
}

impl Prepared {
    /// A message, or an envelope of messages, that the wire has encoded.
    pub(crate) fn encoded(
        id: Arc<str>,
        to: Address,
        mandatory: bool,
        properties: impl Into<Properties>,
        encoded: Encoded,
    ) -> Self {
        Self {
            id,
            exchange: to.exchange,
            routing_key: to.routing_key,
            mandatory,
            properties: properties.into(),
            body: encoded.body,
            items: u32::try_from(encoded.items).unwrap_or(u32::MAX),
        }
    }

    /// One mandatory message, whose body is encoded already.
    pub(crate) fn new(
        id: impl Into<Arc<str>>,
        exchange: impl Into<Arc<str>>,
        routing_key: impl Into<Arc<str>>,
        properties: BasicProperties,
        body: Bytes,
    ) -> Self {
        let (id, exchange, routing_key) = (id.into(), exchange.into(), routing_key.into());
        Self { id, exchange, routing_key, mandatory: true, properties: properties.into(), body, items: 1 }
    }

    /// The message's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The exchange that the message goes to. Empty for the default exchange.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// Its routing key.
    pub fn routing_key(&self) -> &str {
        &self.routing_key
    }

    /// The encoded body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The whole message as bytes, which later versions of Fluffle read too.
    ///
    /// # Errors
    /// If a property is longer than AMQP allows.
    pub fn to_bytes(&self) -> Result<Bytes, PreparedError> {
        let properties = properties_to_bytes(&self.amqp_properties())?;
        let stored = Stored {
            id: self.id.to_string(),
            exchange: self.exchange.to_string(),
            routing_key: self.routing_key.to_string(),
            mandatory: self.mandatory,
            properties,
            body: self.body.clone(),
            items: self.items,
        };
        Ok(stored.encode_to_vec().into())
    }

    /// The message that [`to_bytes`](Self::to_bytes) made these bytes of. The body shares them.
    ///
    /// # Errors
    /// If `to_bytes` did not make these bytes, or if they are damaged.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, PreparedError> {
        let Stored { id, exchange, routing_key, mandatory, properties, body, items } =
            Stored::decode(bytes).map_err(|error| PreparedError(error.to_string()))?;
        let properties = properties_from_bytes(&properties)?;
        let labelled = properties.message_id().as_ref().is_some_and(|labelled| labelled.as_str() == id);
        if !labelled {
            return Err(PreparedError("its message id differs from the one in its AMQP properties".to_owned()));
        }
        let (id, exchange, routing_key) = (id.into(), exchange.into(), routing_key.into());
        let properties = properties.into();
        Ok(Self { id, exchange, routing_key, mandatory, properties, body, items: items.max(1) })
    }

    /// Where the message goes.
    pub(crate) fn address(&self) -> Address {
        Address { exchange: Arc::clone(&self.exchange), routing_key: Arc::clone(&self.routing_key) }
    }

    /// The labels of the message as AMQP properties.
    pub(crate) fn amqp_properties(&self) -> BasicProperties {
        self.properties.to_amqp(&self.id)
    }

    /// How many bytes the properties take on the wire, headers included.
    pub(crate) fn header_bytes(&self) -> usize {
        self.properties.header_bytes(&self.id)
    }

    /// The destination, as errors and log lines name it.
    pub(crate) fn target(&self) -> String {
        target(&self.exchange, &self.routing_key)
    }
}

impl fmt::Display for Prepared {
    /// The message's id and destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} to {}", self.id, self.target())
    }
}

impl Prepared {
    /// The id of its trace for a log line; `None` for a message without a trace.
    pub(crate) fn trace_id(&self) -> Option<String> {
        let properties = self.amqp_properties();
        TraceContext::read(|name| lookup(&properties, name)?.value()).as_ref().map(TraceContext::trace_id_hex)
    }
}

/// AMQP property flags and values, as in a content header (AMQP 0-9-1, section 4.2.6.1).
pub(crate) fn properties_to_bytes(properties: &BasicProperties) -> Result<Vec<u8>, PreparedError> {
    let written: Result<_, GenError> = gen_properties(properties)(WriteContext::from(Vec::new()));
    let (bytes, _) = written.map_err(|error| PreparedError(format!("{error:?}")))?.into_inner();
    Ok(bytes)
}

/// The properties that [`properties_to_bytes`] made these bytes of.
pub(crate) fn properties_from_bytes(bytes: &[u8]) -> Result<BasicProperties, PreparedError> {
    match parse_properties(bytes) {
        Ok(([], properties)) => Ok(properties),
        _ => Err(PreparedError("its AMQP properties are malformed".to_owned())),
    }
}

/// A new message id: a UUIDv7, as text.
pub(crate) fn new_id() -> Arc<str> {
    (&*Uuid::now_v7().as_hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

/// The exchange and the routing key, or the queue, as errors and log lines name a destination.
pub(crate) fn target(exchange: &str, routing_key: &str) -> String {
    match (exchange, routing_key) {
        ("", queue) => format!("queue `{queue}`"),
        (exchange, "") => format!("exchange `{exchange}`"),
        (exchange, key) => format!("exchange `{exchange}`, routing key `{key}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::{AMQPValue, FieldTable};

    fn prepared() -> Prepared {
        let mut headers = FieldTable::default();
        headers.insert("tenant".into(), AMQPValue::LongString("eu".into()));
        headers.insert("n".into(), AMQPValue::LongLongInt(7));
        let properties = BasicProperties::default()
            .with_message_id("an id".into())
            .with_correlation_id("c".into())
            .with_priority(3)
            .with_headers(headers);
        Prepared::new("an id", "x", "k", properties, Bytes::from_static(b"body"))
    }

    #[test]
    fn a_prepared_message_survives_its_bytes_with_all_its_properties() {
        let before = prepared();
        let after = Prepared::from_bytes(before.to_bytes().unwrap()).unwrap();
        assert_eq!(
            (&after.id, &after.exchange, &after.routing_key),
            (&before.id, &before.exchange, &before.routing_key)
        );
        assert_eq!((after.mandatory, &after.body), (true, &before.body));
        assert_eq!(after.amqp_properties(), before.amqp_properties());
    }

    #[test]
    fn damaged_bytes_are_an_error_and_never_a_panic() {
        let good = prepared().to_bytes().unwrap();
        for cut in 0..good.len() {
            // Bytes that end with a whole field are a shorter message, which must have the same id.
            if let Ok(less) = Prepared::from_bytes(good.slice(..cut)) {
                assert_eq!(less.id(), prepared_id(&good));
            }
        }
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0xff;
            let _ = Prepared::from_bytes(bad.into());
        }
    }

    fn prepared_id(bytes: &Bytes) -> String {
        Prepared::from_bytes(bytes.clone()).unwrap().id().to_owned()
    }
}
