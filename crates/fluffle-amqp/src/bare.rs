//! A connection without supervision, for tools.

use std::{collections::BTreeMap, fmt};

use crate::{
    ArgumentValue, Broker, Entity, TopologyError,
    link::{declare, refusal, socket},
};

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

/// What an error of lapin means for the declaration of `entity`: the same typed error that a service gets, with the
/// difference between the two declarations where RabbitMQ names it.
#[must_use]
pub fn refusal(entity: Entity, error: lapin::Error) -> TopologyError {
    refusal::read(entity, error)
}

/// Whether the broker answers a passive declaration with "there is no such exchange or queue". A queue whose home node
/// is down is answered with the same code, 404, but exists: for that the answer is `false`.
#[must_use]
pub fn says_missing(error: &lapin::Error) -> bool {
    refusal::says_missing(error)
}

/// Arguments as the framework sends them: integers as signed 64-bit integers, text as long strings.
///
/// # Errors
/// If a name in them has more than 255 bytes, which AMQP cannot carry.
pub fn arguments(arguments: &BTreeMap<String, ArgumentValue>) -> Result<lapin::types::FieldTable, BareError> {
    declare::table(arguments).map_err(BareError)
}

/// Why [`connect`] or [`arguments`] failed, in one line.
#[derive(Debug)]
pub struct BareError(String);

impl fmt::Display for BareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BareError {}
