//! A message ready for the wire, its type forgotten.

use bytes::Bytes;
use lapin::BasicProperties;

/// One encoded message with its address. Cloning shares the body.
#[derive(Clone, Debug)]
pub(crate) struct RawMessage {
    /// The message id, also in the properties: what returns, replays and de-duplication go by.
    pub(crate) id: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// The broker returns it when no queue takes it, instead of dropping it silently.
    pub(crate) mandatory: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// The exchange and key, or the queue, as errors and logs name a destination.
pub(crate) fn target(exchange: &str, routing_key: &str) -> String {
    match (exchange, routing_key) {
        ("", queue) => format!("queue `{queue}`"),
        (exchange, "") => format!("exchange `{exchange}`"),
        (exchange, key) => format!("exchange `{exchange}`, routing key `{key}`"),
    }
}
