//! The error of a channel that is lost.

use fluffle_supervise::ExitError;

use crate::link::class::{ClientError, reply};

/// The broker closed the channel, or the channel did not open.
#[derive(Debug, thiserror::Error)]
#[error("channel {channel} on {connection} was lost: {cause}")]
pub(super) struct ChannelLost {
    channel: String,
    connection: String,
    cause: String,
    /// AMQP's reply code, if the broker gave one.
    code: Option<u16>,
}

pub(super) fn lost(channel: &str, connection: &str, cause: &str, code: Option<u16>) -> ChannelLost {
    let (channel, connection) = (channel.to_owned(), connection.to_owned());
    ChannelLost { channel, connection, cause: cause.to_owned(), code }
}

/// The reply code with which the broker closed a channel, if the error has one.
pub(super) fn code_of(error: &ExitError) -> Option<u16> {
    let error = error.error();
    let client = error.downcast_ref::<ClientError>().and_then(|ClientError(error)| reply(error));
    client.map(|(code, _)| code).or_else(|| error.downcast_ref::<ChannelLost>()?.code)
}
