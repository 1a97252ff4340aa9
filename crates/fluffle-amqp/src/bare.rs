//! A connection without supervision, for tools.

use std::fmt;

use bytes::Bytes;
use lapin::BasicProperties;

use crate::{Broker, Prepared, link::socket};

/// A connection of lapin to the broker, made as the framework makes its own: endpoints, TLS and time-outs of the
/// [`Broker`], and foreign messages that would end lapin's parser are mended. Nothing supervises it, and lapin's own
/// recovery is off.
///
/// For tools such as the command `fluffle`. This function changes with every version of lapin, and is not covered by
/// semantic versioning.
///
/// # Errors
/// If no endpoint accepts the connection. The error names each endpoint, and why.
///
/// # Cancellation
/// Dropping the future cuts the sockets.
pub async fn connect(broker: &Broker, name: &str) -> Result<lapin::Connection, BareError> {
    let (socket, _) = socket::connect(broker, name).await.map_err(|error| BareError(error.to_string()))?;
    Ok(socket.connection)
}

/// A message of any properties, ready for a [`Forwarder`](crate::Forwarder). `items` is how many messages the body holds.
/// `None`: the properties have no message id, by which returns are matched.
///
/// Like [`connect`], not covered by semantic versioning.
pub fn prepare(
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
    properties: BasicProperties,
    body: Bytes,
    items: u32,
) -> Option<Prepared> {
    let id = properties.message_id().as_ref()?.as_str().to_owned();
    let prepared = Prepared::new(id, exchange, routing_key, properties, body);
    Some(Prepared { mandatory, items, ..prepared })
}

/// Why [`connect`] failed, in one line.
#[derive(Debug)]
pub struct BareError(String);

impl fmt::Display for BareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BareError {}
