//! A connection without supervision, for tools.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use lapin::{BasicProperties, Channel, Connection, message::Delivery};

use crate::{
    ArgumentValue, Broker, DeadLetter, Entity, Prepared, TopologyError,
    base::{frame::FrameMax, requests::Requests},
    consume::message::{deliveries::InVain, received::Received},
    link::{class::ClientError, declare, endpoint_order::Turn, refusal, socket},
    publish::confirm::{ConfirmTracker, ConfirmVerdict},
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
    let (socket, _) =
        socket::connect(broker, name, &Turn::alone()).await.map_err(|error| BareError(error.to_string()))?;
    Ok(socket.connection)
}

/// Translates an error of lapin in the declaration of `entity` into the same typed error that a service gets, with the
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

/// The dead letter that was taken from `queue` with `basic.get` or by a consumer. Acks are the caller's duty, by the
/// delivery's tag.
pub fn dead_letter(queue: &Arc<str>, delivery: Delivery) -> DeadLetter {
    DeadLetter::new(Received::new(queue, 0, InVain::default(), Requests::default(), delivery))
}

/// The AMQP properties of a dead letter, as the client could read them.
pub fn properties(letter: &DeadLetter) -> &BasicProperties {
    &letter.received().properties
}

/// Publishes copies on a channel with confirms on, and judges each as the framework does: a copy that the broker
/// returned and then confirmed is refused.
pub struct CopyPublisher(ConfirmTracker);

impl CopyPublisher {
    /// For a `channel` of this connection, on which `confirm.select` was sent.
    pub fn new(connection: &Connection, channel: Channel) -> Self {
        Self(ConfirmTracker::new(channel, FrameMax::new(connection.configuration().frame_max()), true))
    }

    /// Publishes a copy. Its verdict comes out of [`settled`](Self::settled) under `sequence`.
    pub fn publish(&mut self, sequence: u64, copy: Prepared) {
        self.0.publish(sequence, copy);
    }

    /// How many copies have no verdict yet.
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Waits for verdicts, and gives all there are. Waiting is also what writes copies to the socket. There is no limit
    /// of time: a broker that blocks publishers does not confirm.
    ///
    /// # Cancellation
    /// Safe: no verdict is taken before it is given.
    pub async fn settled(&mut self) -> Vec<(u64, CopyVerdict)> {
        let verdicts = self.0.settled().await;
        verdicts.into_iter().map(|(sequence, verdict)| (sequence, CopyVerdict::of(verdict))).collect()
    }
}

impl fmt::Debug for CopyPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyPublisher").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// The broker's answer to a copy that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyVerdict {
    /// The broker has routed the copy to a queue and taken responsibility for it.
    Confirmed,
    /// The copy is in no queue, and why.
    Refused(String),
    /// The channel ended first, and why: the copy may be in its queue, or not.
    Unknown(String),
}

impl CopyVerdict {
    fn of(verdict: ConfirmVerdict) -> Self {
        match verdict {
            ConfirmVerdict::Confirmed => Self::Confirmed,
            ConfirmVerdict::Returned(returned) => {
                Self::Refused(format!("returned: {} {}", returned.code, returned.text))
            }
            ConfirmVerdict::Nacked => Self::Refused("refused by its queue (basic.nack), which may be full".to_owned()),
            ConfirmVerdict::DoesNotFit(why) => Self::Refused(format!(
                "its headers take {} bytes, and a frame of this connection has room for {}",
                why.bytes, why.most
            )),
            ConfirmVerdict::Written => Self::Unknown("the channel has confirms off".to_owned()),
            ConfirmVerdict::Lost(error) => Self::Unknown(ClientError(error).to_string()),
        }
    }
}

/// Why [`connect`] or [`arguments`] failed, in one line. A message of any properties, ready for a
/// [`Forwarder`](crate::Forwarder). `items` is how many messages the body holds. `None`: the properties have no message
/// id, by which returns are matched.
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
