//! Errors of enqueueing and of the relay.

use std::time::Duration;

use fluffle_amqp::PreparedError;

/// Why a message was not written. Do not commit the transaction, because it would make the change without its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The database refused the insert. If the table is missing, call `migrate` first.
    #[error("message {id} was not written to fluffle_outbox: {source}")]
    Database {
        /// The message's id.
        id: String,
        /// The database's answer.
        source: sqlx::Error,
    },
    /// The message cannot be written as bytes.
    #[error(transparent)]
    Message(#[from] PreparedError),
}

/// Why an incarnation of a relay ended. After each of these, a restart may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the outbox table cannot be used ({doing}): {source}")]
    Database { doing: &'static str, source: sqlx::Error },
    #[error("the database did not answer within {limit:?} ({doing})")]
    Timeout { doing: &'static str, limit: Duration },
}
