//! A message ready for the wire, its type forgotten.

use std::{fmt, sync::Arc};

use amq_protocol::frame::{GenError, WriteContext};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    protocol::basic::{gen_properties, parse_properties},
};
use prost::Message;

use crate::publish::properties::Properties;

/// A message ready to be published: encoded, labelled, addressed, its type forgotten. Cloning shares the body.
///
/// Made by [`Route::prepare`](crate::Route::prepare), published by a [`Forwarder`](crate::Forwarder); in between it can be
/// stored as [bytes](Self::to_bytes): in a database's outbox table, in a file. Its id stays the same however often it is
/// published, so consumers can tell.
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
    /// The message id, also in the properties: what returns, replays and de-duplication go by.
    pub(crate) id: Arc<str>,
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
    /// The broker returns it when no queue takes it, instead of dropping it silently.
    pub(crate) mandatory: bool,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// How many messages the body holds: 1, unless it is a batch.
    pub(crate) items: u32,
}

/// The byte form, described in `docs/WIRE.md` for whoever reads it with other means.
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
    /// 0 in what was stored before there were batches: 1.
    #[prost(uint32, tag = "7")]
    items: u32,
}

/// Bytes that are not a [`Prepared`] message, or properties that have no byte form; with what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a prepared message: {0}")]
pub struct PreparedError(String);

impl Prepared {
    /// One message, which the broker returns when no queue takes it.
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

    /// The exchange it goes to; empty for the default exchange.
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

    /// All of it as bytes. They stay readable across versions of Fluffle.
    ///
    /// # Errors
    /// When a property is longer than AMQP has room for.
    pub fn to_bytes(&self) -> Result<Bytes, PreparedError> {
        let written: Result<_, GenError> = gen_properties(&self.amqp_properties())(WriteContext::from(Vec::new()));
        let (properties, _) = written.map_err(|error| PreparedError(format!("{error:?}")))?.into_inner();
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

    /// What [`to_bytes`](Self::to_bytes) made; the body shares the bytes.
    ///
    /// # Errors
    /// When it was not made by that, or has been damaged.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, PreparedError> {
        let Stored { id, exchange, routing_key, mandatory, properties, body, items } =
            Stored::decode(bytes).map_err(|error| PreparedError(error.to_string()))?;
        let properties = match parse_properties(&properties[..]) {
            Ok(([], properties)) => properties,
            _ => return Err(PreparedError("its AMQP properties are malformed".to_owned())),
        };
        let labelled = properties.message_id().as_ref().is_some_and(|labelled| labelled.as_str() == id);
        if !labelled {
            return Err(PreparedError("its message id is not the one among its AMQP properties".to_owned()));
        }
        let (id, exchange, routing_key) = (id.into(), exchange.into(), routing_key.into());
        let properties = properties.into();
        Ok(Self { id, exchange, routing_key, mandatory, properties, body, items: items.max(1) })
    }

    /// What it is labelled with, as AMQP has it.
    pub(crate) fn amqp_properties(&self) -> BasicProperties {
        self.properties.to_amqp(&self.id)
    }

    /// What its properties take on the wire, in bytes, headers included.
    pub(crate) fn header_bytes(&self) -> usize {
        self.properties.header_bytes(&self.id)
    }

    /// Where it goes, as errors and logs name it.
    pub(crate) fn target(&self) -> String {
        target(&self.exchange, &self.routing_key)
    }
}

impl fmt::Display for Prepared {
    /// Its id and where it goes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} to {}", self.id, self.target())
    }
}

/// The exchange and key, or the queue, as errors and logs name a destination.
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
    use crate::{MessageOptions, Route};

    fn prepared() -> Prepared {
        let options =
            MessageOptions::new().correlation_id("c").priority(3).header("tenant", "eu").header_integer("n", 7);
        Route::<String>::exchange("x").key("k").prepare(&"body".to_owned(), &options).unwrap()
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
            // Cut where a field ends it is a shorter message, but never one with another id.
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
